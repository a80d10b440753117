import asyncio
import dataclasses
import errno
import logging
import os
import stat
from pathlib import Path

import pytest

from calotype.cache.disk import DiskCache
from calotype.cache.memory import Entry, MemoryCache
from calotype.cache.record import pack
from calotype.cache.tiered import TieredCache

HOUR_NS = 3600 * 10**9


class Ticks:
    """A wall clock that goes on by one second each time it is read."""

    def __init__(self) -> None:
        self.now_ns = 1_700_000_000 * 10**9

    def __call__(self) -> int:
        self.now_ns += 10**9
        return self.now_ns


def entry(size: int = 1000, etag: str = "e") -> Entry:
    return Entry(body=os.urandom(size), format="png", etag=etag, seed=7, notes=("n",))


def make(folder: Path, max_bytes: int = 100_000, clock: Ticks | None = None) -> DiskCache:
    return DiskCache(folder, max_bytes, clock_ns=clock or Ticks())


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.calo"))


def used(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


async def test_survives_a_restart(tmp_path: Path) -> None:
    stored = entry()
    await make(tmp_path).put("k", stored)
    assert await make(tmp_path).get("k") == stored


async def test_an_unknown_key_is_a_miss_even_without_a_folder(tmp_path: Path) -> None:
    assert await make(tmp_path / "none").get("k") is None
    assert not (tmp_path / "none").exists()


async def test_only_the_owner_may_read(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "cache"
    await make(folder).put("k", entry())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(files(folder)[0].stat().st_mode) == 0o600


async def test_a_key_cannot_leave_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    cache, stored = make(folder), entry()
    await cache.put("../../evil", stored)
    assert await cache.get("../../evil") == stored
    assert names(tmp_path) == ["cache"]


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty"])
async def test_a_damaged_entry_is_a_miss_and_deleted(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    cache = make(tmp_path)
    await cache.put("k", entry())
    (path,) = files(tmp_path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes({"truncate": bytes(data[:-9]), "flip": bytes(data), "empty": b""}[damage])
    assert await cache.get("k") is None
    assert files(tmp_path) == []
    assert "damaged" in caplog.text
    stored = entry()
    await cache.put("k", stored)
    assert await cache.get("k") == stored


async def test_stays_within_the_bound(tmp_path: Path) -> None:
    clock, bound = Ticks(), 20_000
    cache = make(tmp_path, bound, clock)
    for number in range(60):
        await cache.put(f"k{number % 37}", entry(100 + 97 * (number % 31)))
        assert used(tmp_path) <= bound
    assert used(tmp_path) > bound / 2


async def test_evicts_the_least_recently_used_in_bulk(tmp_path: Path) -> None:
    size = sum(map(len, pack("k10", entry())))
    cache = make(tmp_path, size * 20)
    for number in range(10, 30):
        await cache.put(f"k{number}", entry())
    assert await cache.get("k10") is not None  # now the one used last
    await cache.put("k", entry())
    assert len(files(tmp_path)) < 20  # more than one made room for it
    assert await cache.get("k10") is not None
    assert await cache.get("k11") is None
    assert await cache.get("k12") is None
    assert await cache.get("k") is not None


async def test_what_was_used_last_is_known_after_a_restart(tmp_path: Path) -> None:
    clock = Ticks()
    old = make(tmp_path, clock=clock)
    for key in "abc":
        await old.put(key, entry())
    await old.get("a")
    new = make(tmp_path, 3 * 1300, clock)
    await new.put("d", entry())
    assert await new.get("a") is not None
    assert await new.get("b") is None


async def test_an_entry_over_the_bound_is_not_stored_and_drops_the_old_one(tmp_path: Path) -> None:
    cache = make(tmp_path, 3000)
    await cache.put("k", entry())
    await cache.put("k", entry(3000))
    assert await cache.get("k") is None
    assert used(tmp_path) == 0


async def test_replacing_an_entry_counts_once(tmp_path: Path) -> None:
    cache = make(tmp_path, 4000)
    await cache.put("other", entry())
    for _ in range(20):
        await cache.put("k", entry(1000))
    assert await cache.get("other") is not None
    assert len(files(tmp_path)) == 2


async def test_old_temporary_files_are_swept_and_strangers_left_alone(tmp_path: Path) -> None:
    clock = Ticks()
    stale, young = tmp_path / ".calotype-old.tmp", tmp_path / ".calotype-new.tmp"
    stranger, folder = tmp_path / "thesis.tex", tmp_path / "sub.calo"
    folder.mkdir()
    for path, age_ns in ((stale, HOUR_NS), (young, 0), (stranger, HOUR_NS)):
        path.write_bytes(b"x")
        os.utime(path, ns=(clock.now_ns - age_ns, clock.now_ns - age_ns))
    await make(tmp_path, clock=clock).put("k", entry())
    assert not stale.exists()
    assert all(path.exists() for path in (young, stranger, folder))


async def test_two_processes_may_share_the_folder(tmp_path: Path) -> None:
    clock, bound, stored = Ticks(), 20_000, entry()
    one, two = make(tmp_path, bound, clock), make(tmp_path, bound, clock)
    await one.put("k", stored)
    assert await two.get("k") == stored
    for number in range(40):
        await (one if number % 2 else two).put(f"k{number}", entry())
        assert used(tmp_path) <= bound * 1.3
    files(tmp_path)[0].unlink()
    found = [await one.get(f"k{number}") for number in range(40)]
    assert any(found)


async def test_writes_at_the_same_time_stay_within_the_bound(tmp_path: Path) -> None:
    cache = make(tmp_path, 10_000)
    await asyncio.gather(*(cache.put(f"k{number}", entry()) for number in range(40)))
    assert used(tmp_path) <= 10_000
    assert all(name.endswith(".calo") for name in names(tmp_path))


async def test_a_disk_that_takes_a_few_bytes_at_a_time_gets_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, cache, stored = os.write, make(tmp_path), entry()
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda handle, data: write(handle, data[:7]))
        await cache.put("k", stored)
    assert await cache.get("k") == stored


async def test_a_full_disk_is_logged_once_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def write(handle: int, data: memoryview) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    cache = make(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        for _ in range(3):
            await cache.put("k", entry())
    assert await cache.get("k") is None
    assert names(tmp_path) == []
    assert caplog.text.count("No space left") == 1
    await cache.put("k", entry())
    assert await cache.get("k") is not None


async def test_what_can_t_get_its_name_leaves_nothing(tmp_path: Path) -> None:
    cache = make(tmp_path)
    await cache.put("k", entry())
    (there,) = files(tmp_path)
    there.unlink()
    there.mkdir()
    await cache.put("k", entry())
    assert names(tmp_path) == [there.name]


async def test_a_folder_that_is_a_file_fails_no_request(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_bytes(b"")
    cache = make(tmp_path / "file")
    await cache.put("k", entry())
    assert await cache.get("k") is None
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


async def test_files_that_cannot_be_deleted_are_counted_and_end_the_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache = make(tmp_path, 2500)
    await cache.put("a", entry())
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path.suffix == ".calo":
            raise PermissionError(errno.EACCES, "Permission denied")
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    await cache.put("b", entry(1500))
    assert await cache.get("b") is None
    assert await cache.get("a") is not None
    assert used(tmp_path) <= 2500
    assert caplog.text.count("Permission denied") == 1


async def test_a_folder_that_may_only_be_read_still_hits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def utime(path: Path, ns: tuple[int, int]) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    cache = make(tmp_path)
    await cache.put("k", entry())
    monkeypatch.setattr(os, "utime", utime)
    assert await cache.get("k") is not None


async def test_a_disk_hit_is_put_into_memory(tmp_path: Path) -> None:
    memory, stored = MemoryCache(100_000), entry()
    cache = TieredCache(memory, make(tmp_path))
    await make(tmp_path).put("k", stored)
    assert await cache.get("none") is None
    assert await cache.get("k") == stored
    assert await memory.get("k") == stored
    files(tmp_path)[0].unlink()
    assert await cache.get("k") == stored


async def test_the_same_answer_is_written_once(tmp_path: Path) -> None:
    """Who goes around the cache makes it anew each time."""
    disk = make(tmp_path)
    cache = TieredCache(MemoryCache(100_000), disk)
    stored = entry()
    await cache.put("k", stored)
    await cache.settle()
    (first,) = files(tmp_path)
    written = first.stat().st_ino
    await cache.put("k", dataclasses.replace(stored))
    await cache.settle()
    assert files(tmp_path)[0].stat().st_ino == written
    first.unlink()
    await cache.put("k", stored)
    await cache.settle()
    assert await disk.get("k") == stored, "what is gone is written again"
    written = files(tmp_path)[0].stat().st_ino
    await cache.put("k", entry(etag="another"))
    await cache.settle()
    assert files(tmp_path)[0].stat().st_ino != written
    assert await disk.get("k") == await cache.get("k") != stored


async def test_the_tiers_both_keep_what_is_put(tmp_path: Path) -> None:
    memory, second, stored = MemoryCache(100_000), make(tmp_path), entry()
    tiered = TieredCache(memory, second)
    await tiered.put("k", stored)
    await tiered.settle()
    assert await memory.get("k") == await second.get("k") == stored
