"""One huge picture, a row of tiles at a time: read, run and written as it is done.

Memory is a few rows of tiles, however many there are; the pixels are those of the pipeline, bit for
bit. Whatever needs the whole picture at once goes through the pipeline.
"""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from calotype.aside import off_loop
from calotype.atomic import replacing
from calotype.backends import ladder
from calotype.codec.decode import Header, sniff
from calotype.codec.encode import fitting
from calotype.codec.glance import GLANCE_BYTES, glance
from calotype.codec.service import Codec, reductions
from calotype.codec.strip import RowReader, RowWriter
from calotype.domain.image import RGB, Image, Pixels, Size
from calotype.domain.request import ImageFormat, ImageRequest, Stage
from calotype.domain.stage import strip_hooks
from calotype.domain.tiling import (
    SHRINK,
    TILE,
    Joiner,
    check_result,
    grid_of,
    is_windowed,
    rounded_up,
    spans,
)
from calotype.errors import BadOutputError
from calotype.pipeline import Pipeline, Runner

LARGE_PIXELS = 64_000_000
"""Of the picture or the result, from where on strips are worth it: whole, each takes 3 bytes a
pixel, and the result again while it is put together and encoded. Below, that is no more than what
an engine takes; above, it decides what a machine can do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A picture that was written strip by strip."""

    size: Size
    format: ImageFormat
    stage: Stage
    warnings: tuple[str, ...]
    inference_s: float


def is_fit(stages: tuple[Stage, ...], header: Header, formats: tuple[ImageFormat, ...]) -> bool:
    """Tell whether a picture is large, and nothing about it needs all of it at once.

    Args:
        stages: what is to run.
        header: of the picture.
        formats: what the result may be written as, best first.

    Raises:
        InvalidParameterError: no format can hold the result.
    """
    stage, native = stages[0], header.size.times(stages[0].scale or 1)
    target = stage.values.get("target_size")
    return (
        is_divisible(stages)
        and is_large(stage, header.size)
        and (target is None or (target == native and stage.scale is not None))
        and not header.has_alpha  # which is resized as a whole
        and fitting(formats, native) != "webp"  # which libvips holds in memory
    )


def is_divisible(stages: tuple[Stage, ...]) -> bool:
    """Tell whether models work on a row of tiles at a time, and need nothing else."""
    stage = stages[0]
    return (
        len(stages) == 1
        and is_windowed(stage.model)
        and stage.model.param("seed") is None
        and not any(isinstance(value, bytes) for value in stage.values.values())
    )


def is_large(stage: Stage, size: Size) -> bool:
    """Tell whether a picture of a size is large, or its result."""
    return (
        max(size.pixels, size.times(stage.scale or 1).pixels) >= LARGE_PIXELS
        and size.pixels > ladder.LARGE_PIXELS  # else backends may take another tile than is said
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Strips:
    """From one file to another, for pictures that ``is_fit`` lets through."""

    pipeline: Pipeline

    async def run(self, request: ImageRequest, source: Path, target: Path) -> Written | None:
        """Run a file's picture, and write the result whole or not at all.

        Args:
            request: its upload is not looked at.
            source: the picture.
            target: what is written; folders that are missing are made.

        Returns:
            None if the pipeline has to run it: nothing was written then.

        Raises:
            RequestError: the picture or a parameter is wrong.
            CalotypeError: as the pipeline does.
            OSError: a file can't be read or written.
        """
        chain, codec = self.pipeline.catalog.chain(request.model_id), self.pipeline.codec
        plan = self.pipeline.planner.plan(chain, request.parameters, strict=request.strict)
        if not is_divisible(plan.stages):
            return None
        head = await asyncio.to_thread(_head_of_large, source, plan.last)
        if head is None:
            return None
        formats = codec.choose_formats(head, request.formats, plan.last.values)
        async with off_loop(_opened(source, codec)) as reader:
            codec.result_size(reader.header.size, plan.stages)
            if not is_fit(plan.stages, reader.header, formats):
                return None
            async with off_loop(reader):
                run = _Run(self.pipeline.runner, request, plan.last, reader)
                written = await self._write(run, formats, target)
        if written is None:
            return None
        notes = (*request.hooks.notes, *reductions(reader.header))
        return replace(written, warnings=plan.warnings + notes)

    async def _write(
        self, run: "_Run", formats: tuple[ImageFormat, ...], target: Path
    ) -> Written | None:
        codec, size = self.pipeline.codec, run.reader.header.size
        pixels = await run.next()
        if pixels is None:
            return None
        result = size.times(run.scale)
        check_result(result, codec.limits.max_output_pixels)
        chosen = fitting(formats, result)
        if chosen == "webp":
            return None
        joiner = Joiner(run.rows, size.height_px, run.scale)
        async with off_loop(_writing(target, result, chosen, codec, run.reader)) as writer:
            while pixels is not None:
                await asyncio.to_thread(_put, writer, joiner, pixels)
                del pixels  # a row of tiles of the result is large enough to count
                pixels = await run.next()
            await asyncio.to_thread(writer.finish)
        return Written(
            size=result,
            format=chosen,
            stage=run.stage,
            warnings=(),
            inference_s=run.inference_s,
        )


class _Run:
    """One picture on its way through the runner."""

    def __init__(
        self, runner: Runner, request: ImageRequest, stage: Stage, reader: RowReader
    ) -> None:
        self._runner, self._request = runner, request
        self.stage, self.reader = stage, reader
        self._tile_px = stage.model.tile
        grid = grid_of(stage.model, self._tile_px)
        self.rows = spans(rounded_up(reader.header.size.height_px, grid), grid)
        self.scale = stage.scale or 0
        """Size of the result / size of the picture; 0 until that is known."""
        self.inference_s = 0.0
        self._done = self._top = self._shrink = 0
        self._pixels = np.empty((0, reader.header.size.width_px, RGB), np.uint8)

    async def next(self) -> Pixels | None:
        """Run the next row of tiles.

        Returns:
            (rows * s, w * s, 3) uint8; None after the last, and instead of the first if it can't be
            done so: the network has a tile of its own, or not the scale that is declared, for then
            the whole result is resized.

        Raises:
            BadOutputError: a later one is not as the first.
        """
        if self._done == len(self.rows):
            return None
        image, stage = await asyncio.to_thread(self._read), self.stage
        with strip_hooks(self._request.hooks, self._done, len(self.rows)) as hooks:
            job = self._request.job(stage.model, stage.values, image, {})
            admitted, shrink = self._done > 0, self._shrink
            job = replace(job, hooks=hooks, is_strip=True, admitted=admitted, shrink=shrink)
            outcome = await self._runner.submit(job)
        pixels, (h, w, c) = outcome.image.pixels, image.pixels.shape
        self.scale = self.scale or len(pixels) // h
        fits = pixels.shape == (h * self.scale, w * self.scale, c) and self._is_usual(hooks.facts)
        if not fits and self._done:
            raise BadOutputError(f"{stage.model.id}: {w}x{h} became {outcome.image.size} in strips")
        self._done += 1
        self.inference_s += outcome.inference_s
        return pixels if fits else None

    def _is_usual(self, facts: Mapping[str, str]) -> bool:
        """Tell whether a strip was cut into tiles as the model says, or as memory allows.

        What there was no memory for once is not tried again: compiling it in vain takes its time.
        """
        shrink = int(facts.get(SHRINK, "0"))
        if shrink <= self._shrink:
            return bool(shrink) or facts.get(TILE) == str(self._tile_px)
        self._shrink = shrink
        self._request.hooks.note(
            f"memory; there was none for tiles of {self._tile_px} px: from row {self._top} of the "
            f"input on they are {facts.get(TILE)} px, so pixels may differ and seams may show"
        )
        return True

    def _read(self) -> Image:
        """Return the rows of the next row of tiles, as many as there are."""
        start, read = self.rows[self._done].start, self._top + len(self._pixels)
        stop = min(start + self._tile_px, self.reader.header.size.height_px)
        new = self.reader.take(stop - read)
        self._pixels = np.concatenate((self._pixels[start - self._top :], new))
        self._top = start
        return Image(self._pixels)


def _head_of_large(source: Path, stage: Stage) -> bytes | None:
    """Return the first bytes of a file, or None if its picture is known not to be large.

    Raises:
        OSError: it can't be read.
    """
    if not source.is_file():  # what is read of anything else may be gone then
        return None
    with source.open("rb", buffering=0) as file:
        head = file.read(GLANCE_BYTES)
    size = glance(head)
    return head if sniff(head) and (size is None or is_large(stage, size)) else None


@contextlib.contextmanager
def _opened(source: Path, codec: Codec) -> Iterator[RowReader]:
    """Open a picture; none of its pixels is read yet."""
    with (
        source.open("rb", buffering=0) as file,
        contextlib.closing(
            RowReader(file, codec.limits.max_pixels, keep_metadata=codec.keep_metadata)
        ) as reader,
    ):
        yield reader


@contextlib.contextmanager
def _writing(
    target: Path, size: Size, format: ImageFormat, codec: Codec, reader: RowReader
) -> Iterator[RowWriter]:
    """Open a file that takes its place once the block is through."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        replacing(target) as file,
        RowWriter(file, size, format, codec.options, reader.metadata) as writer,
    ):
        yield writer


def _put(writer: RowWriter, joiner: Joiner, strip: Pixels) -> None:
    writer.put(joiner.add(strip))
