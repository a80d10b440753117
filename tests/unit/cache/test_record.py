import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from calotype.cache import record
from calotype.cache.memory import Entry
from calotype.domain.request import FORMATS

TEXTS = st.text(max_size=20)
ENTRIES = st.builds(
    Entry,
    body=st.binary(max_size=200),
    format=st.sampled_from(FORMATS),
    etag=TEXTS,
    seed=st.none() | st.integers(min_value=0, max_value=2**63 - 1),
    notes=st.lists(TEXTS, max_size=3).map(tuple),
)
# Each example writes the file anew, so one folder serves them all.
REUSE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def read(folder: Path, data: bytes, key: str = "k") -> Entry:
    """Read from a file, which has to be as reading from memory is."""
    path = folder / "entry"
    path.write_bytes(data)
    try:
        unpacked = record.unpack(data, key)
    except record.DamagedError:
        unpacked = None
    with path.open("rb") as stream:
        try:
            entry = record.read(stream, key)
        except record.DamagedError:
            assert unpacked is None
            raise
    assert unpacked == entry
    return entry


@REUSE
@given(entry=ENTRIES)
def test_reads_what_was_packed(tmp_path: Path, entry: Entry) -> None:
    assert read(tmp_path, b"".join(record.pack("k", entry))) == entry


@REUSE
@given(entry=ENTRIES, place=st.integers(min_value=0), flip=st.integers(min_value=1, max_value=255))
def test_any_flipped_byte_is_found(tmp_path: Path, entry: Entry, place: int, flip: int) -> None:
    data = bytearray(b"".join(record.pack("k", entry)))
    data[place % len(data)] ^= flip
    with pytest.raises(record.DamagedError):
        read(tmp_path, bytes(data))


@REUSE
@given(entry=ENTRIES, cut=st.integers(min_value=0))
def test_any_truncation_is_found(tmp_path: Path, entry: Entry, cut: int) -> None:
    data = b"".join(record.pack("k", entry))
    with pytest.raises(record.DamagedError):
        read(tmp_path, data[: cut % len(data)])


def test_an_entry_of_another_key_is_refused(tmp_path: Path) -> None:
    entry = Entry(body=b"b", format="png", etag="e", seed=None)
    with pytest.raises(record.DamagedError, match="another key"):
        read(tmp_path, b"".join(record.pack("other", entry)))


def test_a_header_of_a_later_version_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = Entry(body=b"b", format="png", etag="e", seed=None)
    dumps = json.dumps
    monkeypatch.setattr(json, "dumps", lambda fields: dumps({**fields, "more": 1}))
    data = b"".join(record.pack("k", entry))
    with pytest.raises(record.DamagedError, match="not one of this version"):
        read(tmp_path, data)
