"""The form of one cached answer, in a file or in a shared store.

All of it is covered by a digest, so that a file cut short by a crash, or spoilt by the disk, is
known as such: that is what lets the writer do without a slow ``fsync``.

    magic (8 bytes) | SHA-256 of the rest (32) | header length (4, big-endian) | header | body

The header is JSON: the key, and every field of the entry but its body.
"""

import hashlib
import io
import json
import os
import struct
from typing import BinaryIO

from calotype.cache.memory import Entry
from calotype.domain.request import FORMATS

_MAGIC = b"calotyp1"
_DIGEST_BYTES = 32
_LENGTH = struct.Struct(">I")
_PREFIX_BYTES = len(_MAGIC) + _DIGEST_BYTES + _LENGTH.size


class DamagedError(Exception):
    """The file is not what ``pack`` wrote; never leaves ``cache``."""


def pack(key: str, entry: Entry) -> tuple[bytes, bytes]:
    """Return what the file begins with, and the body that follows; two parts save a copy."""
    header = json.dumps(
        {
            "key": key,
            "format": entry.format,
            "etag": entry.etag,
            "seed": entry.seed,
            "notes": entry.notes,
            "facts": dict(entry.facts),
        }
    ).encode()
    length = _LENGTH.pack(len(header))
    return b"".join((_MAGIC, _digest(length, header, entry.body), length, header)), entry.body


def read(stream: BinaryIO, key: str) -> Entry:
    """Read the entry of that key.

    Args:
        stream: a file opened for reading, at its beginning.
        key: what the entry was stored under.

    Raises:
        DamagedError: the file is cut short, changed, of another version or of another key.
        OSError: the disk failed.
    """
    return _read(stream, key, os.fstat(stream.fileno()).st_size)


def unpack(content: bytes, key: str) -> Entry:
    """Read the entry of that key from what ``pack`` returned, joined.

    Args:
        content: all of it.
        key: what the entry was stored under.

    Raises:
        DamagedError: as for ``read``.
    """
    return _read(io.BytesIO(content), key, len(content))


def _read(stream: BinaryIO, key: str, size_bytes: int) -> Entry:
    prefix = stream.read(_PREFIX_BYTES)
    if len(prefix) < _PREFIX_BYTES or not prefix.startswith(_MAGIC):
        raise DamagedError("not an entry of this version")
    length = prefix[-_LENGTH.size :]
    (header_bytes,) = _LENGTH.unpack(length)
    # A flipped bit may ask for 4 GiB: `read` would allocate them before it finds the file short.
    if header_bytes > size_bytes:
        raise DamagedError("the header is longer than the file")
    header, body = stream.read(header_bytes), stream.read()
    if _digest(length, header, body) != prefix[len(_MAGIC) : -_LENGTH.size]:
        raise DamagedError("the digest does not match")
    return _entry(header, body, key)


def _entry(header: bytes, body: bytes, key: str) -> Entry:
    try:
        fields = json.loads(header)
        if fields.pop("key") != key or fields["format"] not in FORMATS:
            raise DamagedError("an entry of another key or format")
        return Entry(body=body, **{**fields, "notes": tuple(fields["notes"])})
    except (ValueError, TypeError, KeyError, AttributeError) as exc:
        raise DamagedError("the header is not one of this version") from exc


def _digest(*parts: bytes) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()
