"""The playground page: a few files, and a policy that lets nothing else into them."""

import functools
import gzip
import hashlib
import importlib.resources
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from calotype.api.answer import not_modified
from calotype.api.document import json_response
from calotype.api.exchange import KEY, Exchange
from calotype.api.header import Headers
from calotype.domain.text import printable
from calotype.errors import UnknownPathError

INDEX = "index.html"
FOLDER = "static"

TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "webp": "image/webp",
    "jpg": "image/jpeg",
}
"""What is served; a file of another kind in the folder is not."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Nothing from elsewhere, nothing written into the page: a script in a picture's name stays text.

Source:
    https://www.w3.org/TR/CSP3/
"""

WORTH_PACKING = 0.9
"""A file that is still larger than this share of itself is sent as it is."""

_PATH_CHARS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One file of the page."""

    body: bytes
    type: str
    etag: str
    """Digest of the body, without quotes."""
    packed: bytes | None
    """The body as gzip; None where that is not smaller."""


async def root(request: Request) -> Response:
    """Show browsers the page, and tell anybody else that somebody is here; needs no token."""
    exchange: Exchange = request.scope[KEY]
    if b"text/html" not in exchange.headers.get(b"accept", b""):
        return json_response({"ok": "ok"}, headers={"vary": "accept"})
    return _answer(exchange, files()[INDEX])


async def file(request: Request) -> Response:
    """Send a file of the page; needs no token.

    Raises:
        UnknownPathError: there is none of that name.
    """
    found = files().get(request.path_params["file"])
    if found is None:
        raise UnknownPathError(f"{printable(request.url.path, _PATH_CHARS)} does not exist")
    return _answer(request.scope[KEY], found)


@functools.cache
def files() -> dict[str, File]:
    """Return all files by name; read when the first browser comes."""
    found = {}
    for entry in importlib.resources.files("calotype.api").joinpath(FOLDER).iterdir():
        if (kind := TYPES.get(entry.name.rpartition(".")[2])) is not None:
            body = entry.read_bytes()
            etag = hashlib.blake2b(body, digest_size=16).hexdigest()
            packed = gzip.compress(body, mtime=0)
            found[entry.name] = File(
                body=body,
                type=kind,
                etag=etag,
                packed=packed if len(packed) < len(body) * WORTH_PACKING else None,
            )
    return found


def _answer(exchange: Exchange, found: File) -> Response:
    body, etag = found.body, found.etag
    if found.packed is not None and _takes_gzip(exchange.headers):
        body, etag = found.packed, f"{found.etag}-gzip"
    headers = {
        "content-type": found.type,
        "content-security-policy": POLICY,
        "referrer-policy": "no-referrer",
        "etag": f'"{etag}"',
        # An upgrade of the server must not leave half of an old page in a browser.
        "cache-control": "no-cache",
        "vary": "accept, accept-encoding",
    }
    if not_modified(exchange.headers.get(b"if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    if body is found.packed:
        headers["content-encoding"] = "gzip"
    return Response(body, headers=headers)


def _takes_gzip(headers: Headers) -> bool:
    """Tell whether a client unpacks; one that says ``gzip;q=0`` doesn't."""
    names = [part.strip() for part in headers.get(b"accept-encoding", b"").lower().split(b",")]
    return b"gzip" in names
