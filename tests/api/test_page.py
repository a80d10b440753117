import gzip
import hashlib
import re
from html.parser import HTMLParser

import pytest

from api.server import Server, problem_of
from calotype.api.page import FOLDER, INDEX, POLICY, TYPES, files

BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
LINK = re.compile(r"""(?:from|import)\s*\(?["']\./([\w.-]+)["']""")
URL = re.compile(r"""https?://[^\s"'`)<>]+""")
RISKY = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|\beval\(|document\.write")
COMMENT = re.compile(r"\s*(?:\*|//|/\*)")
MAX_BYTES = 150_000


def text(name: str) -> str:
    return files()[name].body.decode()


async def test_a_browser_gets_the_page_and_others_a_word(server: Server) -> None:
    page = await server.client.get("/", headers=BROWSER)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.content == files()[INDEX].body
    for accept in ("*/*", "application/json", ""):
        other = await server.client.get("/", headers={"accept": accept})
        assert other.json() == {"ok": "ok"}
        assert other.headers["vary"] == "accept"


@pytest.mark.parametrize("name", sorted(files()))
async def test_each_file_is_served(server: Server, name: str) -> None:
    answer = await server.client.get(f"/page/{name}")
    assert answer.status_code == 200
    assert answer.content == files()[name].body
    assert answer.headers["content-type"] == TYPES[name.rpartition(".")[2]]
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    etag = answer.headers["etag"]
    again = await server.client.get(f"/page/{name}", headers={"if-none-match": etag})
    assert (again.status_code, again.content) == (304, b"")


async def test_text_is_packed_for_who_unpacks_it(server: Server) -> None:
    name = "main.js"
    plain = await server.client.get(f"/page/{name}", headers={"accept-encoding": "identity"})
    packed = await server.client.get(f"/page/{name}", headers={"accept-encoding": "br, gzip"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.content == plain.content  # the client has unpacked it
    assert int(packed.headers["content-length"]) < len(plain.content)
    assert packed.headers["etag"] != plain.headers["etag"]
    picture = await server.client.get("/page/styles.webp", headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in picture.headers


@pytest.mark.parametrize("name", ["nope.js", "..%2F..%2Fpage.py", "%2Fetc%2Fpasswd", "", "."])
async def test_there_is_nothing_else(server: Server, name: str) -> None:
    assert problem_of(await server.client.get(f"/page/{name}"))[:2] == (404, "not_found")


async def test_the_page_needs_no_token(server: Server) -> None:
    server.tokens.create("a")
    assert (await server.client.get("/", headers=BROWSER)).status_code == 200
    assert (await server.client.get("/page/main.js")).status_code == 200


def test_the_page_is_light() -> None:
    assert sum(len(file.body) for file in files().values()) <= MAX_BYTES


def test_every_file_that_is_named_is_there() -> None:
    scripts = [name for name in files() if name.endswith(".js")]
    for name in scripts:
        for found in LINK.findall(text(name)):
            assert found in files(), f"{name} imports {found}"
    reached, left = set(), ["main.js"]
    while left:
        if (name := left.pop()) not in reached:
            reached.add(name)
            left += LINK.findall(text(name))
    assert reached == set(scripts), "a module that nothing imports"


def test_nothing_comes_from_elsewhere() -> None:
    """No CDN, no font, no picture: URLs stand in what the page shows, and nowhere else."""
    for name, file in files().items():
        if not file.type.startswith("image/webp") and not file.type.startswith("image/jpeg"):
            lines = [line for line in text(name).splitlines() if not COMMENT.match(line)]
            found = {url for url in URL.findall("\n".join(lines)) if "www.w3.org" not in url}
            assert not found, (name, found)


def test_the_html_has_no_script_and_no_style_of_its_own() -> None:
    class Looker(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            given = dict(attrs)
            assert "style" not in given, tag
            assert not [name for name in given if name.startswith("on")], tag
            assert tag != "style"
            assert tag != "script" or given.get("src"), "a script written into the page"

    Looker().feed(text(INDEX))


def test_scripts_write_no_html() -> None:
    for name in files():
        if name.endswith(".js"):
            assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|\beval\(", text(name)), (
                name
            )


def test_packed_files_are_the_same_each_time() -> None:
    for file in files().values():
        if file.packed is not None:
            assert gzip.decompress(file.packed) == file.body
            assert file.etag == hashlib.blake2b(file.body, digest_size=16).hexdigest()
    assert FOLDER == "static"
