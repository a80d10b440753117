"""Pictures that are never whole in memory: read from a file, and written to one, row by row.

libvips reads and writes whole files in one go, top to bottom, in threads of its own; a pipe between
them and us makes either side wait for the other.
"""

import threading
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
import pyvips

from calotype.codec.colour import to_srgb
from calotype.codec.decode import open_file, reading, upright
from calotype.codec.encode import EncodeOptions, save_to
from calotype.codec.metadata import Metadata, read
from calotype.codec.pipe import Pipe
from calotype.codec.vips import VipsImage
from calotype.domain.image import RGB, Pixels, Size
from calotype.domain.png import PngWriter
from calotype.domain.request import ImageFormat

PART_BYTES = 1024 * 1024
"""Rows are handed to libvips in parts of about this size."""


class Stream:
    """A thread of libvips at one end of a pipe; leaving the ``with`` block ends both.

    It is never part of a cycle: what it holds open must not wait for the garbage collector.
    """

    def __init__(self, name: str) -> None:
        self._name, self._pipe = name, Pipe()
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the thread, if it was started, and let go of what it worked on; may take a while."""
        self._pipe.abort()
        if self._thread is not None:
            self._thread.join()
        self._error = None  # it holds on to where it was raised, and so to this

    def _work(self) -> None:
        """Do what the thread is for."""
        raise NotImplementedError

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self._error = self._error or error
            self._pipe.abort()
        finally:
            self._pipe.end()

    def _wait(self) -> None:
        """Wait for the thread, and raise what it failed with."""
        if self._thread is not None:
            self._thread.join()
        if self._error is not None:
            raise self._error


class RowReader(Stream):
    """The first picture of a file as upright 8-bit sRGB, from top to bottom.

    A picture that has to be turned is held in memory all the same, and some kinds of files, such as
    progressive JPEG, are by libvips.

    Args:
        file: open for reading, unbuffered, at its beginning; must stay open.
        max_pixels: most pixels, width times height, that are let through.
        keep_metadata: whether to read EXIF, XMP and IPTC too.

    Raises:
        BadImageError: not an image we read, or one whose header is damaged: the caller's fault.
        PayloadTooLargeError: more pixels than allowed.
    """

    def __init__(self, file: BinaryIO, max_pixels: int, *, keep_metadata: bool = False) -> None:
        super().__init__("rows-in")
        loaded, self.header = open_file(file, max_pixels)
        with reading(self.header.format, "header"):
            self.metadata = read(loaded) if keep_metadata else None
        self._loaded: VipsImage | None = loaded
        self._left = self.header.size.height_px

    def take(self, count: int) -> Pixels:
        """Return the next rows.

        Args:
            count: of rows, at most as many as are left.

        Returns:
            (count, w, 3) uint8.

        Raises:
            BadImageError: the file is cut off or damaged: the caller's fault.
        """
        pixels = np.empty((count, self.header.size.width_px, RGB), np.uint8)
        flat, done = pixels.reshape(-1).data, 0
        while done < len(flat) and (block := self._pipe.take(len(flat) - done)):
            flat[done : done + len(block)] = block
            done += len(block)
        self._left -= count
        if done < len(flat) or not self._left:
            self._wait()  # what is wrong with the end of a file is found after its last row
        return pixels

    def close(self) -> None:
        """End the thread, and close the file as far as libvips has it open."""
        super().close()
        self._loaded = None

    def _work(self) -> None:
        target = pyvips.TargetCustom()
        target.on_write(lambda data: len(data) if self._pipe.put(bytes(data)) else -1)
        with reading(self.header.format, "data"):
            upright(to_srgb(self._loaded)).rawsave_target(target)


class RowWriter(Stream):
    """Writes a picture as a file, from top to bottom.

    Args:
        file: open for writing.
        size: of the picture.
        format: PNG or JPEG; libvips holds all of a WebP file's picture in memory.
        options: how hard to press.
        metadata: EXIF, XMP and IPTC to carry over; None writes no metadata at all.
    """

    def __init__(
        self,
        file: BinaryIO,
        size: Size,
        format: ImageFormat,
        options: EncodeOptions,
        metadata: Metadata | None = None,
    ) -> None:
        super().__init__("rows-out")
        self._file, self._format, self._options = file, format, options
        self._metadata, self._size = metadata, size
        # Of the trusted loaders of libvips this is the simplest that takes rows as they come.
        self._png = PngWriter(size, effort=0)
        self._pipe.put(self._png.head())

    def put(self, rows: Pixels) -> None:
        """Write the next rows, waiting for libvips as far as needed.

        Args:
            rows: (n, w, 3) uint8.

        Raises:
            OSError: the file can't be written.
        """
        step = max(1, PART_BYTES // (RGB * self._size.width_px))
        for start in range(0, len(rows), step):
            if not self._pipe.put(self._png.rows(rows[start : start + step])):
                self._wait()

    def finish(self) -> None:
        """Write what is left, once all rows are there.

        Raises:
            OSError: the file can't be written.
        """
        self._pipe.put(self._png.end())
        self._pipe.end()
        self._wait()

    def _work(self) -> None:
        source, target = pyvips.SourceCustom(), pyvips.TargetCustom()
        source.on_read(self._pipe.take)
        target.on_write(self._store)
        loaded = pyvips.Operation.call(
            "pngload_source", source, access="sequential", fail_on="error"
        )
        # A resolution that nobody gave is no part of the picture.
        plain = loaded.copy(xres=1.0, yres=1.0)
        save_to(target, plain, self._format, self._options, self._metadata)

    def _store(self, data: bytes) -> int:
        """Write some of the file; libvips only gets to know whether that went well."""
        try:
            return self._file.write(data)
        except OSError as error:
            self._error = error
            return -1
