"""Forms with files, as browsers and OpenAI's clients send them: read in memory, within bounds."""

import asyncio
import re
from collections.abc import AsyncGenerator

from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers as StarletteHeaders
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from calotype.api.header import Headers
from calotype.domain.text import printable, show_value
from calotype.errors import MalformedRequestError

MAX_FILES = 32
MAX_FIELDS = 256
"""Parts that are no files."""

CHUNK_BYTES = 64 * 1024
"""Read at once; between two of them other requests have their turn."""

Value = str | bytes
"""Of one part: text, or the content of a file."""

Fields = dict[str, object]
"""By name a ``Value``, a list of them, or an object of them."""

Form = dict[str, list[Value]]
"""What was sent under each name, in order."""

_MEMBER = re.compile(r"([^\[\]]+)\[([^\[\]]*)\]")
_NAME_CHARS = 64
_TYPE = b"multipart/form-data"


async def read_form(body: bytes, headers: Headers) -> Form:
    """Take a form apart; nothing of it touches the disk.

    Args:
        body: all of it.
        headers: of the request; ``content-type`` says what stands between the parts.

    Raises:
        MalformedRequestError: no form, one that is cut off or damaged, or too many parts.
    """
    sent = headers.get(b"content-type", b"")
    if parse_options_header(sent)[0].lower() != _TYPE:
        shown = show_value(sent.decode("latin-1"))
        raise MalformedRequestError(
            "send a form, multipart/form-data, with the picture as the file 'image', "
            f"got content-type {shown}"
        )
    parser = _Parser(StarletteHeaders(raw=[(b"content-type", sent)]), body)
    try:
        found = (await parser.parse()).multi_items()
    except MultiPartException as error:
        reason = error.message.rstrip(".")
        raise MalformedRequestError(f"the form can't be read: {reason}") from error
    except (ValueError, LookupError) as error:  # of its parser, or of an odd charset
        raise MalformedRequestError("the form can't be read: it is damaged") from error
    form: Form = {}
    for name, value in found:
        form.setdefault(name, []).append(_content(value))
    return form


def nested(form: Form) -> Fields:
    """Join what belongs together: ``name[]`` is an item of a list, ``name[key]`` one of an object.

    Raises:
        MalformedRequestError: something that is no list is there twice.
    """
    fields: Fields = {}
    for name, values in form.items():
        member = _MEMBER.fullmatch(name)
        head, key = (member[1], member[2]) if member else (name, None)
        before = fields.get(head)
        if key and isinstance(before, dict | None) and len(values) == 1:
            fields[head] = {**(before or {}), key: values[0]}
        elif before is None and key == "":
            fields[head] = list(values)
        elif before is None and not key and len(values) == 1:
            fields[head] = values[0]
        else:
            raise MalformedRequestError(f"the form has {printable(head, _NAME_CHARS)} twice")
    return fields


class _Parser(MultiPartParser):
    """Starlette's, which alone doesn't see that a form is cut off.

    Args:
        headers: of the form.
        body: all of it.
    """

    def __init__(self, headers: StarletteHeaders, body: bytes) -> None:
        bound = len(body) + 1  # above it, a file would be spooled to the disk
        super().__init__(
            headers,
            self._chunks(body),
            max_files=MAX_FILES,
            max_fields=MAX_FIELDS,
            max_part_size=bound,
        )
        self.spool_max_size = bound
        self._has_ended = False

    def on_end(self) -> None:
        """Note that the last boundary is there."""
        self._has_ended = True

    async def _chunks(self, body: bytes) -> AsyncGenerator[bytes, None]:
        for start in range(0, len(body), CHUNK_BYTES):
            if start:
                await asyncio.sleep(0)
            yield body[start : start + CHUNK_BYTES]
        if not self._has_ended:  # said here, so that the files so far are closed
            raise MultiPartException("it is cut off, its last boundary is missing")


def _content(value: UploadFile | str) -> Value:
    if isinstance(value, str):
        return value
    with value.file as file:
        return file.read()
