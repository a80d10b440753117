"""The library: the same models and the same path of a request, without a server.

with Calotype() as calotype:
    picture = calotype.run("upscale", "photo.jpg", target_size={"width": 1600, "height": 1200})
    picture.save("large.jpg")
"""

import asyncio
import concurrent.futures
import contextlib
import logging
import os
import threading
import weakref
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from calotype.assembly import Services, assemble
from calotype.atomic import write_atomically
from calotype.catalog.scan import describe_file
from calotype.codec.decode import decode, probe
from calotype.codec.source import Source, encoded, with_files
from calotype.domain.chain import Chain
from calotype.domain.hooks import Hooks
from calotype.domain.image import Size
from calotype.domain.model import ModelSpec
from calotype.domain.request import FORMATS, ImageFormat, ImageRequest, ParamValue
from calotype.errors import InvalidParameterError, ShuttingDownError
from calotype.settings import load_settings

LOCAL: Mapping[str, object] = {
    "cache_memory_bytes": 0,
    "cache_disk_bytes": 0,
    "max_pixels": 1_000_000_000,
    "max_output_pixels": 1_000_000_000,
    "queue_size": 100_000,
    "queue_bytes": 2**62,
    "isolation": "thread",
    "idle_s": 0.0,
    "preload": "",
}
"""What differs from a server, whose limits guard it against strangers."""

_ANY_SIZE = 2**62
_CLOSED = "this Calotype is closed"
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A finished picture, and how it was made."""

    body: bytes
    """The encoded file."""
    format: ImageFormat
    applied: Mapping[str, ParamValue | Mapping[str, ParamValue]]
    """Every parameter that was really used, defaults filled in; of a chain, by its stages."""
    warnings: tuple[str, ...]
    """What was ignored or changed, one sentence each."""
    seed: int | None
    """What random draws started from; None where nothing is drawn."""
    model_id: str
    inference_s: float

    @property
    def size(self) -> Size:
        """Rows and columns, read from the file's header."""
        return probe(self.body, _ANY_SIZE).size

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """The picture decoded anew: (h, w, 3) RGB or, with transparency, (h, w, 4) RGBA uint8."""
        image = decode(self.body, _ANY_SIZE).image
        return image.pixels if image.alpha is None else np.dstack((image.pixels, image.alpha))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file, whole or not at all.

        Args:
            path: its suffix is not looked at: name the format when you call ``run``.

        Raises:
            OSError: the folder is missing, full or write-protected.
        """
        write_atomically(Path(path), self.body)


class Calotype:
    """Models in this process; any thread may call any method.

    A model is loaded when it is first used, and stays until ``close`` or the program's end.

    Args:
        settings: as ``calotype serve --help`` lists them, e.g. ``precision="f32"``; they beat
            the environment. The limits on pixels are those of ``LOCAL`` unless given here.

    Raises:
        ConfigError: a setting is unknown or out of range, or a catalog file is wrong.
    """

    def __init__(self, **settings: object) -> None:
        given = {k: os.fspath(v) if isinstance(v, os.PathLike) else v for k, v in settings.items()}
        # A library leaves logging to the program; without this, Python would print errors itself.
        logging.getLogger("calotype").addHandler(logging.NullHandler())
        self._services = assemble(load_settings({**LOCAL, **given}))
        self._loop = asyncio.new_event_loop()
        thread = threading.Thread(target=self._loop.run_forever, name="calotype", daemon=True)
        thread.start()
        self._end = weakref.finalize(self, _end, self._services, self._loop, thread)
        self._wait(self._services.start(), Hooks())

    def run(
        self,
        model: str,
        image: Source,
        /,
        *,
        format: str | None = None,
        on_progress: Callable[[int, int], None] | None = None,
        strict: bool = False,
        **parameters: object,
    ) -> Picture:
        """Run one picture through a model; Ctrl-C stops the model too.

        Args:
            model: id or alias; empty for the default; several joined by ``+`` run in turn.
            image: the picture.
            format: png, jpeg or webp; default the input's own, and PNG for other inputs.
            on_progress: called from another thread with (steps done, steps in all); of a chain,
                with thousandths of its stages.
            strict: refuse what would otherwise be ignored with a warning.
            parameters: the model's; image parameters take what ``image`` takes. Those of one stage
                of a chain are in a mapping under its name.

        Raises:
            RequestError: the picture or a parameter is wrong, or there is no such model.
            ConfigError: the model can't be loaded.
            BackendError: the model failed.
            OSError: a file can't be read.
        """
        return self.run_with(
            model, image, parameters, format=format, on_progress=on_progress, strict=strict
        )

    def run_with(
        self,
        model: str,
        image: Source,
        parameters: Mapping[str, object],
        *,
        format: str | None = None,
        on_progress: Callable[[int, int], None] | None = None,
        strict: bool = False,
    ) -> Picture:
        """Do what ``run`` does, with the parameters in a mapping: their names may be any."""
        hooks = Hooks(on_progress)
        request = ImageRequest(
            model_id=model,
            upload=encoded(image, "image"),
            parameters=self._parameters(model, parameters),
            formats=(parse_format(format),) if format else (),
            use_cache=False,
            wait_for_model=True,
            strict=strict,
            hooks=hooks,
        )
        response = self._wait(self._services.pipeline.run(request), hooks)
        return Picture(
            body=response.body,
            format=response.format,
            applied=response.applied,
            warnings=tuple(text.partition("; ")[2] or text for text in response.warnings),
            seed=response.seed,
            model_id=response.model.id,
            inference_s=response.inference_s,
        )

    def load(self, model: str) -> None:
        """Load a model now, so that its first picture is fast.

        Raises:
            UnknownModelError: there is none of that name.
            ConfigError: it can't be loaded.
        """
        self._wait(self._services.pool.load(self.model(model)), Hooks())

    def models(self) -> tuple[ModelSpec, ...]:
        """Return every model, by id."""
        return self._services.catalog.all()

    def model(self, name: str) -> ModelSpec:
        """Return one model by id or alias, the default for an empty name.

        Raises:
            UnknownModelError: there is none.
        """
        return self._services.catalog.get(name)

    def chain(self, name: str) -> Chain:
        """Return the models of a name: of one as ``model`` does, or of several joined by ``+``.

        Raises:
            UnknownModelError: there is none of one of the names.
        """
        return self._services.catalog.chain(name)

    def open(self, network: str | os.PathLike[str]) -> ModelSpec:
        """Add a network's file that lies outside the models folder, and return it as a model.

        Args:
            network: ``.onnx``, ``.param`` with its ``.bin``, or a checkpoint of PyTorch.

        Raises:
            InvalidCatalogError: it can't be run, or the TOML file beside it is wrong.
        """
        return self._services.catalog.open(describe_file(Path(network)))

    def close(self) -> None:
        """Let running pictures finish, and let go of the models."""
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _parameters(self, model: str, parameters: Mapping[str, object]) -> dict[str, object]:
        """Turn image parameters into bytes."""
        chain = self.chain(model)
        images = {p.name for spec in chain.models for p in spec.params if p.type == "image"}
        given = with_files(parameters, images)
        for name in chain.addresses:
            table = given.get(name)
            if isinstance(table, Mapping):
                given[name] = with_files(table, images)
        return given

    def _wait(self, work: Coroutine[Any, Any, _Result], hooks: Hooks) -> _Result:
        """Run work on the loop's thread; whatever ends the wait ends the work."""
        if not self._end.alive:
            work.close()
            raise ShuttingDownError(_CLOSED)
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise ShuttingDownError(_CLOSED) from None
        except BaseException:
            hooks.cancel()
            future.cancel()
            raise


def parse_format(text: str) -> ImageFormat:
    """Read the name of a format; ``jpg`` is one of JPEG's.

    Raises:
        InvalidParameterError: not one that is written.
    """
    name = text.strip().lower().removeprefix(".").replace("jpg", "jpeg")
    if name not in FORMATS:
        raise InvalidParameterError(f"format must be one of {', '.join(FORMATS)}, got {text!r}")
    return name


def _end(services: Services, loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    """Drain, and end the loop's thread."""
    if threading.current_thread() is thread:  # garbage is collected on any thread
        loop.stop()
        return
    with contextlib.suppress(concurrent.futures.CancelledError):
        asyncio.run_coroutine_threadsafe(_finish(services, loop), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


async def _finish(services: Services, loop: asyncio.AbstractEventLoop) -> None:
    services.refuse()
    await services.settle()
    await services.stop()
    await loop.shutdown_default_executor()
