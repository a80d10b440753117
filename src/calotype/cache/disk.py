"""Finished answers, kept in a folder up to a number of bytes."""

import asyncio
import contextlib
import hashlib
import logging
import os
import secrets
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from calotype.cache import record
from calotype.cache.memory import Entry

_logger = logging.getLogger(__name__)

_SUFFIX = ".calo"
_TEMP_PREFIX, _TEMP_SUFFIX = ".calotype-", ".tmp"
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
_TEMP_AGE_NS = 600 * 10**9
"""A temporary file this old belongs to no writer that still lives."""
_KEEP = 0.9
"""Share of the bound that an eviction leaves: one scan of the folder then serves many writes."""
_RESCAN = 0.1
"""Share of the bound after which another process's writes must be counted too."""


class DiskCache:
    """Keep the entries used last, as many as fit, over restarts.

    Several processes may share the folder. Each then looks at what the others wrote once per
    tenth of the bound it writes itself, so the bound may be passed by that tenth per process.
    Nothing here fails a request: an error of the disk is a miss, logged once per kind.

    Args:
        folder: made on first use; files of other names in it are left alone.
        max_bytes: bound on the sum of the file sizes.
        clock_ns: wall clock, nanoseconds: when an entry was used last.
    """

    def __init__(
        self, folder: Path, max_bytes: int, *, clock_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._clock_ns = clock_ns
        self._lock = threading.Lock()  # over the two counts, and over every change of the folder
        self._used_bytes: int | None = None  # None: the folder has yet to be scanned
        self._unscanned_bytes = 0
        self._reported: set[int | None] = set()

    async def get(self, key: str) -> Entry | None:
        """Return what was stored under the key, or None; a damaged file is deleted."""
        return await asyncio.to_thread(self._get, key)

    async def put(self, key: str, entry: Entry) -> None:
        """Store an entry, and delete the least recently used ones if it does not fit."""
        await asyncio.to_thread(self._put, key, entry)

    async def renew(self, key: str, entry: Entry) -> None:
        """Note that an entry was made anew and came out the same; store it if it's gone."""
        await asyncio.to_thread(self._renew, key, entry)

    def _get(self, key: str) -> Entry | None:
        path = self._path(key)
        try:
            with path.open("rb") as stream:
                entry = record.read(stream, key)
        except FileNotFoundError:
            return None
        except record.DamagedError as exc:
            _logger.warning("deleted a damaged cache entry: %s", exc)
            self._delete(path)
            return None
        except OSError as exc:
            self._report(exc)
            return None
        with contextlib.suppress(OSError):  # a folder we may only read is still worth reading
            self._touch(path)
        return entry

    def _put(self, key: str, entry: Entry) -> None:
        path, parts = self._path(key), record.pack(key, entry)
        size = sum(map(len, parts))
        if size > self._max_bytes:
            self._delete(path)  # out of date
            return
        try:
            temp = self._write_temp(parts)
            placed = False
            try:
                placed = self._place(temp, path, size)
            finally:
                if not placed:
                    Path(temp).unlink(missing_ok=True)
        except OSError as exc:
            self._report(exc)

    def _renew(self, key: str, entry: Entry) -> None:
        try:
            self._touch(self._path(key))
        except OSError:  # most often it isn't there
            self._put(key, entry)

    def _write_temp(self, parts: tuple[bytes, bytes]) -> str:
        """Write a temporary file of mode 0600, which it keeps when it gets its name.

        With few system calls: around each the event loop's thread and this one wait for another.
        """
        temp = f"{self._folder}/{_TEMP_PREFIX}{secrets.token_hex(8)}{_TEMP_SUFFIX}"
        try:
            handle = os.open(temp, _NEW_FILE, 0o600)
        except FileNotFoundError:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(temp, _NEW_FILE, 0o600)
        try:
            try:
                _write_all(handle, parts)
            finally:
                os.close(handle)
            self._touch(temp)
        except BaseException:
            Path(temp).unlink(missing_ok=True)
            raise
        return temp

    def _place(self, temp: str, path: Path, size: int) -> bool:
        """Move a finished file to its name, atomically, if there is room for it."""
        with self._lock:
            used = self._make_room(size)
            if used + size > self._max_bytes:
                return False  # what fills the folder cannot be deleted
            replaced = _size_bytes(path)
            Path(temp).replace(path)
            self._used_bytes = used + size - replaced
            self._unscanned_bytes += size
            return True

    def _make_room(self, size: int) -> int:
        """Evict if need be; return the bytes in use."""
        used = self._used_bytes
        fresh = self._unscanned_bytes < self._max_bytes * _RESCAN
        if used is not None and fresh and used + size <= self._max_bytes:
            return used
        files = sorted(self._scan())
        self._unscanned_bytes = 0
        used = sum(file_bytes for _, _, file_bytes in files)
        if used + size > self._max_bytes:
            goal = int(self._max_bytes * _KEEP) - size
            for _, path, file_bytes in files:
                if used <= goal:
                    break
                if self._unlink(path):
                    used -= file_bytes
        return used

    def _scan(self) -> Iterator[tuple[int, Path, int]]:
        """Yield (last use in ns, path, bytes) of every entry; sweep what dead writers left."""
        stale_ns = self._clock_ns() - _TEMP_AGE_NS
        with os.scandir(self._folder) as items:
            for item in items:
                temp = item.name.startswith(_TEMP_PREFIX) and item.name.endswith(_TEMP_SUFFIX)
                if not temp and not item.name.endswith(_SUFFIX):
                    continue
                try:
                    found = item.stat(follow_symlinks=False)
                except FileNotFoundError:  # another process was faster
                    continue
                if not stat.S_ISREG(found.st_mode):
                    continue
                if not temp:
                    yield found.st_mtime_ns, Path(item.path), found.st_size
                elif found.st_mtime_ns < stale_ns:
                    self._unlink(Path(item.path))

    def _delete(self, path: Path) -> None:
        with self._lock:
            size = _size_bytes(path)
            if self._unlink(path) and self._used_bytes is not None:
                self._used_bytes -= size

    def _unlink(self, path: Path) -> bool:
        """Delete a file; return whether it is gone."""
        try:
            path.unlink(missing_ok=True)
        except OSError as exc:
            self._report(exc)
            return False
        return True

    def _touch(self, file: Path | str) -> None:
        now_ns = self._clock_ns()
        os.utime(file, ns=(now_ns, now_ns))

    def _path(self, key: str) -> Path:
        # Hashed whatever the key is, so that no key can name a file elsewhere.
        return self._folder / (hashlib.sha256(key.encode()).hexdigest() + _SUFFIX)

    def _report(self, exc: OSError) -> None:
        if exc.errno not in self._reported:
            self._reported.add(exc.errno)
            _logger.warning("the disk cache in %s does not work: %s", self._folder, exc)


def _write_all(handle: int, parts: tuple[bytes, ...]) -> None:
    for part in parts:
        rest = memoryview(part)
        while rest:
            rest = rest[os.write(handle, rest) :]


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
