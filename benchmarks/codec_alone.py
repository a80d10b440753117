"""Calotype's own codec without a server, in the way the pipeline uses it."""

import time
from collections.abc import Awaitable, Callable

from calotype.codec.service import Codec, Limits
from calotype.domain.model import ModelSpec
from calotype.domain.request import Stage

Work = Callable[[], Awaitable[bytes]]


def codec_alone(upload: bytes) -> Work:
    """Return what decodes and encodes as the pipeline does, and nothing else."""
    codec = Codec(limits=Limits(max_pixels=50_000_000, max_output_pixels=250_000_000))
    model = ModelSpec(id="bench/nothing", backend="fake", revision="1")
    stages = (Stage(model=model, values={}),)
    formats = codec.choose_formats(upload, ("jpeg",), {})

    async def work() -> bytes:
        decoded = await codec.decode(upload, stages, formats)
        inputs = await codec.prepare(stages, decoded.image, decoded.images[0])
        made = await codec.finish(stages[0], inputs, inputs.image)
        return (await codec.encode(made, decoded, formats)).body

    return work


async def repeat(work: Work, seconds: float) -> list[float]:
    """Do something again and again for so long; return the seconds of each."""
    found: list[float] = []
    end_s = time.perf_counter() + seconds
    while (started_s := time.perf_counter()) < end_s:
        await work()
        found.append(time.perf_counter() - started_s)
    return found
