"""One huge picture, a row of tiles at a time: read, run and written as it is done.

Memory is a few rows of tiles, however many there are; the pixels are those of the pipeline, bit for
bit. Whatever needs the whole picture at once goes through the pipeline.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from calotype.atomic import replacing
from calotype.backends import ladder
from calotype.codec.decode import HEAD_BYTES, Header
from calotype.codec.encode import fitting
from calotype.codec.service import reductions
from calotype.codec.strip import RowReader, RowWriter
from calotype.domain.event import Event, Progress
from calotype.domain.hooks import Hooks
from calotype.domain.image import RGB, Image, Pixels, Size
from calotype.domain.plan import Plan, plan_stages
from calotype.domain.request import ImageFormat, ImageRequest, Stage
from calotype.domain.tiling import (
    TILE,
    Joiner,
    check_result,
    grid_of,
    is_windowed,
    rounded_up,
    spans,
)
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
    stage, size = stages[0], header.size
    native = size.times(stage.scale or 1)
    target = stage.values.get("target_size")
    return (
        max(size.pixels, native.pixels) >= LARGE_PIXELS
        and size.pixels > ladder.LARGE_PIXELS  # else backends may take another tile than is said
        and len(stages) == 1
        and is_windowed(stage.model)
        and stage.model.param("seed") is None
        and not any(isinstance(value, bytes) for value in stage.values.values())
        and (target is None or (target == native and stage.scale is not None))
        and not header.has_alpha  # which is resized as a whole
        and fitting(formats, native) != "webp"  # which libvips holds in memory
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
        chain = self.pipeline.catalog.chain(request.model_id)
        plan = plan_stages(chain, request.parameters, strict=request.strict)
        if not await asyncio.to_thread(source.is_file):
            return None
        with await asyncio.to_thread(source.open, "rb", buffering=0) as file:
            return await self._run_file(request, plan, file, target)

    async def _run_file(
        self, request: ImageRequest, plan: Plan, file: BinaryIO, target: Path
    ) -> Written | None:
        codec = self.pipeline.codec
        head = file.read(HEAD_BYTES)
        file.seek(0)
        formats = codec.choose_formats(head, request.formats, plan.last.values)
        reader = await asyncio.to_thread(
            RowReader, file, codec.limits.max_pixels, keep_metadata=codec.keep_metadata
        )
        codec.result_size(reader.header.size, plan.stages)
        if not is_fit(plan.stages, reader.header, formats):
            return None
        with reader:
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
        scale = run.scale(pixels)
        if scale is None:
            return None
        result = size.times(scale)
        check_result(result, codec.limits.max_output_pixels)
        chosen, joiner = fitting(formats, result), Joiner(run.rows, size.height_px, scale)
        if chosen == "webp":
            return None
        target.parent.mkdir(parents=True, exist_ok=True)
        with (
            replacing(target) as file,
            RowWriter(file, result, chosen, codec.options, run.reader.metadata) as writer,
        ):
            await asyncio.to_thread(writer.put, joiner.add(pixels))
            del pixels  # a row of tiles of the result is large enough to count
            for _ in run.rows[1:]:
                await asyncio.to_thread(writer.put, joiner.add(await run.next()))
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
        self.inference_s = 0.0
        self._done = self._top = 0
        self._pixels = np.empty((0, reader.header.size.width_px, RGB), np.uint8)
        self._tile: str | None = None

    async def next(self) -> Pixels:
        """Run the next row of tiles.

        Returns:
            (rows * s, w * s, 3) uint8.
        """
        image, stage = await asyncio.to_thread(self._read), self.stage
        with strip_hooks(self._request.hooks, self._done, len(self.rows)) as hooks:
            job = self._request.job(stage.model, stage.values, image, {})
            job = replace(job, hooks=hooks, admitted=self._done > 0, is_strip=True)
            outcome = await self._runner.submit(job)
        self._tile = hooks.facts.get(TILE)
        self._done += 1
        self.inference_s += outcome.inference_s
        return outcome.image.pixels

    def scale(self, pixels: Pixels) -> int | None:
        """Return size of the result / size of the strip; None if it can't go on in strips.

        So it is where the network has a tile of its own, or not the scale that is declared, for
        then the whole result is resized.
        """
        h, w, c = self._pixels.shape
        scale = self.stage.scale or len(pixels) // h
        fits = pixels.shape == (h * scale, w * scale, c)
        return scale if fits and self._tile == str(self._tile_px) else None

    def _read(self) -> Image:
        """Return the rows of the next row of tiles, as many as there are."""
        start, read = self.rows[self._done].start, self._top + len(self._pixels)
        stop = min(start + self._tile_px, self.reader.header.size.height_px)
        new = self.reader.take(stop - read)
        self._pixels = np.concatenate((self._pixels[start - self._top :], new))
        self._top = start
        return Image(self._pixels)


@contextlib.contextmanager
def strip_hooks(hooks: Hooks, index: int, count: int) -> Iterator[Hooks]:
    """Give a strip hooks of its own, whose progress is a part of the whole.

    Args:
        hooks: of the picture; who cancels them cancels the strip.
        index: of the strip.
        count: strips in all, each of as many tiles.
    """

    def step(done: int, total: int) -> None:
        hooks.report(total * index + done, total * count)

    def tell(event: Event) -> None:
        if not isinstance(event, Progress):
            hooks.happened(event)

    own = Hooks(step, tell)
    with hooks.on_cancel(own.cancel):
        yield own
    for note in own.notes:
        hooks.note(note)
