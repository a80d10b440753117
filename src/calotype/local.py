"""The library: the same models and the same path of a request, without a server.

with Calotype() as calotype:
    picture = calotype.run("upscale", "photo.jpg", target_size={"width": 1600, "height": 1200})
    picture.save("large.jpg")
"""

import asyncio
import logging
import os
import weakref
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self, TypeVar

from calotype.assembly import Services, assemble
from calotype.catalog.scan import describe_file
from calotype.codec.source import Source, encoded, with_files
from calotype.domain.chain import Chain
from calotype.domain.hooks import Hooks
from calotype.domain.model import ModelSpec
from calotype.domain.request import ImageRequest, ImageResponse
from calotype.loop import Loop
from calotype.picture import Picture, SavedPicture, parse_format
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

_Result = TypeVar("_Result")


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
        self._loop = Loop("calotype")
        grace_s = self._services.settings.drain_s
        self._end = weakref.finalize(self, self._loop.close, self._services.close, grace_s)
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
        request = self._request(model, parameters, format, on_progress, strict=strict)
        request = replace(request, upload=encoded(image, "image"))
        return _picture(self._wait(self._services.pipeline.run(request), request.hooks))

    def run_file(
        self,
        model: str,
        source: str | os.PathLike[str],
        target: str | os.PathLike[str],
        parameters: Mapping[str, object] = MappingProxyType({}),
        *,
        format: str | None = None,
        on_progress: Callable[[int, int], None] | None = None,
        strict: bool = False,
    ) -> SavedPicture:
        """Run a file's picture and write the result to another, whole or not at all.

        Of pictures that are huge, only a few rows are in memory, where model and formats allow it.

        Args:
            model: as in ``run``; so are the parameters, and the errors.
            source: the picture.
            target: what is written; folders that are missing are made.
            parameters: the model's.
            format: png, jpeg or webp; default by the target's suffix.
            on_progress: as in ``run``.
            strict: as in ``run``.

        Raises:
            InvalidParameterError: the suffix names no format that is written.
        """
        path = Path(target)
        said = format or path.suffix or "no suffix"
        request = self._request(model, parameters, said, on_progress, strict=strict)
        return self._wait(_run_file(self._services, request, Path(source), path), request.hooks)

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
        """Let running pictures finish, within the seconds of ``drain_s``, and let go of the models.

        What isn't finished by then ends with ``ShuttingDownError``, as does what comes later.
        """
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _request(
        self,
        model: str,
        parameters: Mapping[str, object],
        format: str | None,
        on_progress: Callable[[int, int], None] | None,
        *,
        strict: bool,
    ) -> ImageRequest:
        """Make a request without its picture."""
        return ImageRequest(
            model_id=model,
            upload=b"",
            parameters=self._parameters(model, parameters),
            formats=(parse_format(format),) if format else (),
            use_cache=False,
            wait_for_model=True,
            strict=strict,
            hooks=Hooks(on_progress),
        )

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
        return self._loop.call(work, hooks.cancel)


async def _run_file(
    services: Services, request: ImageRequest, source: Path, target: Path
) -> SavedPicture:
    """Run a file's picture, in strips or through the pipeline."""
    written = await services.strips.run(request, source, target)
    if written is None:
        upload = await asyncio.to_thread(encoded, source, "image")
        response = await services.pipeline.run(replace(request, upload=upload))
        return await asyncio.to_thread(_picture(response).saved, target)
    return SavedPicture(
        path=target,
        size=written.size,
        format=written.format,
        applied=dict(written.stage.values),
        warnings=_sentences(written.warnings),
        seed=None,
        model_id=written.stage.model.id,
        inference_s=written.inference_s,
    )


def _picture(response: ImageResponse) -> Picture:
    """Return what the pipeline answers as the library hands it out."""
    return Picture(
        body=response.body,
        format=response.format,
        applied=response.applied,
        warnings=_sentences(response.warnings),
        seed=response.seed,
        model_id=response.model.id,
        inference_s=response.inference_s,
    )


def _sentences(warnings: tuple[str, ...]) -> tuple[str, ...]:
    """Leave out of what kind each warning is, which only programs read."""
    return tuple(text.partition("; ")[2] or text for text in warnings)
