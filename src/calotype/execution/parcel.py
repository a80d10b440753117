"""What crosses between the server and a worker process: batches one way, answers the other.

A batch is one segment: a byte for each job, which the server sets when nobody waits for it any
more; the pictures; then the pickled rest, which only the server writes. Answers are JSON, as the
server must not trust a process that a picture may have broken, with their pictures in a segment.
"""

import os
import pickle
import time
from collections.abc import Callable, Sequence
from typing import Any

from calotype.backends.base import Backend, Batching
from calotype.domain.failure import describe, error_of
from calotype.domain.hooks import Hooks
from calotype.domain.image import Image
from calotype.domain.model import ModelSpec
from calotype.domain.request import Job
from calotype.execution.channel import Message
from calotype.execution.packing import lay_out, read, write
from calotype.execution.segment import Segment, Shelf
from calotype.execution.worker import Answer, Traits

Told = Sequence[int | bool | str]
"""An answer in a message: the place of a picture, or the name and the text of an error."""
MakeHooks = Callable[[Segment, int], Hooks]


def pictures(jobs: Sequence[Job]) -> list[Image]:
    """Return all pictures of a batch, in the order in which they are packed."""
    return [image for job in jobs for image in (job.image, *job.images.values())]


def pack_object(thing: object) -> tuple[Segment, Message]:
    """Pickle something into a segment of its own.

    Raises:
        OSError: no memory.
    """
    content = pickle.dumps(thing)
    segment = Segment.create(len(content))
    segment.map[:] = content
    return segment, {"start": 0, "length": len(content), "kept": False}


def open_object(message: Message, segment: Segment) -> Any:  # noqa: ANN401  whatever was packed
    """Return what the server pickled."""
    start = message["start"]
    return pickle.loads(segment.map[start : start + message["length"]])  # noqa: S301  its own words


def pack_jobs(jobs: Sequence[Job], shelf: Shelf) -> tuple[Segment, Message]:
    """Put a batch into a segment.

    Args:
        jobs: the batch.
        shelf: where a segment may be, to be used again.

    Raises:
        OSError: no memory.
    """
    images = pictures(jobs)
    places, size = lay_out(images, len(jobs))
    found = iter(places)
    told = [
        {
            "image": next(found),
            "images": {name: next(found) for name in job.images},
            # Encoded pictures stay: their pixels are sent.
            "params": {n: v for n, v in job.params.items() if not isinstance(v, bytes)},
            "left_s": job.deadline_s - time.monotonic(),
            "shrink": job.shrink,
            "is_strip": job.is_strip,
            "keep_tile": job.keep_tile,
        }
        for job in jobs
    ]
    rest = pickle.dumps(told)
    segment, kept = shelf.take(size + len(rest))
    segment.map[: len(jobs)] = bytes(len(jobs))
    write(images, places, segment)
    segment.map[size : size + len(rest)] = rest
    return segment, {"start": size, "length": len(rest), "kept": kept}


def open_jobs(
    message: Message, segment: Segment, spec: ModelSpec, make_hooks: MakeHooks
) -> list[Job]:
    """Return the jobs of a batch; their pictures are not copied."""
    jobs = []
    for index, told in enumerate(open_object(message, segment)):
        hooks = make_hooks(segment, index)
        hooks.start(time.monotonic() + told["left_s"])
        jobs.append(
            Job(
                model=spec,
                image=read(told["image"], segment),
                images={name: read(place, segment) for name, place in told["images"].items()},
                params=told["params"],
                shrink=told["shrink"],
                is_strip=told["is_strip"],
                keep_tile=told["keep_tile"],
                hooks=hooks,
            )
        )
    return jobs


def pack_answers(answers: Sequence[Answer], shelf: Shelf) -> tuple[Segment | None, Message]:
    """Put the pictures among answers into a segment, and say of each answer what it is.

    Args:
        answers: of a batch.
        shelf: where a segment may be, to be used again.

    Raises:
        OSError: no memory.
    """
    images = [answer for answer in answers if isinstance(answer, Image)]
    places, size = lay_out(images)
    found = iter(places)
    told: list[Told] = [
        next(found) if isinstance(answer, Image) else describe(answer) for answer in answers
    ]
    if not images:
        return None, {"answers": told, "kept": False, "pictures": False}
    segment, kept = shelf.take(size)
    write(images, places, segment)
    return segment, {"answers": told, "kept": kept, "pictures": True}


def open_answers(message: Message, fd: int | None, shelf: Shelf) -> list[Answer]:
    """Return the answers of a batch; pictures in a segment that is used again are copied.

    Raises:
        ValueError: they are not what ``pack_answers`` says.
        TypeError: the same.
        LookupError: the same.
        OSError: their memory can't be mapped.
    """
    wanted = bool(message.get("pictures")) and "kept" in message
    if fd is not None and not wanted:
        os.close(fd)
    kept = bool(message["kept"])
    segment = shelf.open(fd, kept=kept) if message["pictures"] else None
    return [_open_answer(one, segment, kept=kept) for one in message["answers"]]


def _open_answer(told: Told, segment: Segment | None, *, kept: bool) -> Answer:
    """Return one answer."""
    if isinstance(told[0], str):
        return error_of(told[0], str(told[1]))
    if segment is None:
        raise ValueError("a picture's place, and no segment")
    start, h, w, has_alpha = told
    size = segment.size_bytes
    if not all(isinstance(n, int) and 0 <= n <= size for n in (start, h, w)) or not h or not w:
        raise ValueError(f"not a place in {size} bytes: {told}")
    image = read((int(start), int(h), int(w), bool(has_alpha)), segment)
    return _copy(image) if kept else image


def _copy(image: Image) -> Image:
    return Image(image.pixels.copy(), None if image.alpha is None else image.alpha.copy())


def describe_traits(backend: Backend) -> Message:
    """Return what a loaded model says of itself."""
    batching = backend.batching
    return {
        "precision": backend.precision,
        "batching": None if batching is None else [batching.params, batching.multiple_px],
        "shrinks": backend.shrinks,
        "device": backend.device,
    }


def traits_of(message: Message) -> Traits:
    """Read what ``describe_traits`` wrote."""
    batching = None
    if message["batching"] is not None:
        params, multiple_px = message["batching"]
        batching = Batching(params=tuple(params), multiple_px=multiple_px)
    return Traits(
        precision=message["precision"],
        batching=batching,
        shrinks=message["shrinks"],
        device=message["device"],
    )
