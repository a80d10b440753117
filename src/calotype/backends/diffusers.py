"""Diffusion: any pipeline of diffusers that takes a picture.

Options: ``class`` (of the pipeline); ``native_px`` and ``multiple_px``, where what the pipeline's
configuration says of its sizes is to be overruled.
"""

from collections.abc import Sequence

import numpy as np
import torch

from calotype.backends.base import Batching, Machine, ReadWeights
from calotype.backends.diffusion.adapter import Addition
from calotype.backends.diffusion.call import SHARED, Interface
from calotype.backends.diffusion.compiled import KeptKernels, compile_blocks
from calotype.backends.diffusion.load import (
    DENOISERS,
    PICTURE_ENCODER,
    TEXT_ENCODERS,
    Loaded,
    load_pipeline,
    part,
)
from calotype.backends.diffusion.lora import Adapters
from calotype.backends.diffusion.memo import Memo
from calotype.backends.diffusion.preview import Previews
from calotype.backends.diffusion.progress import Steps
from calotype.backends.diffusion.safety import Checker
from calotype.backends.diffusion.warm import warm_up
from calotype.domain.image import Image, Size
from calotype.domain.model import Device, ModelSpec
from calotype.domain.request import Job, Loras
from calotype.errors import BadOutputError, InvalidParameterError, OutOfMemoryError

BATCHED = frozenset(
    {
        "StableDiffusionImg2ImgPipeline",
        "StableDiffusionInstructPix2PixPipeline",
        "StableDiffusionXLImg2ImgPipeline",
    }
)
"""Pipelines that give each picture of a batch what it gets alone."""


def load(spec: ModelSpec, read_weights: ReadWeights, machine: Machine) -> "DiffusersBackend":
    """Load a pipeline; what it takes long for is done before the first request comes."""
    del read_weights  # gigabytes, which the library maps
    backend = DiffusersBackend(spec, load_pipeline(spec, machine), machine)
    backend.prepare()
    return backend


class DiffusersBackend:
    """A pipeline, called for one job or several at a time."""

    shrinks = 0

    def __init__(self, spec: ModelSpec, loaded: Loaded, machine: Machine) -> None:
        self._spec, self._loaded, self._machine = spec, loaded, machine
        self._pipe = pipe = loaded.pipe
        self._interface = Interface.of(pipe, spec)
        self._scheduler = getattr(pipe, "scheduler", None)
        self._checker = Checker(pipe, machine.diffusion.safety)
        found = {name: part(pipe, name) for name in (*DENOISERS, *TEXT_ENCODERS)}
        self._networks = {name: module for name, module in found.items() if module is not None}
        self._adapters = Adapters(pipe, self._networks, machine.diffusion.loras_dir)
        self._additions = {name: Addition(module) for name, module in self._networks.items()}
        self._adapted: str | None = ""
        """Which adapters the weights have; None: a change of them failed halfway."""
        self._prepared = False
        self._previews = Previews(pipe, self._interface.defaults)
        self.memo = Memo(machine.diffusion.stage_bytes)
        for name in (*TEXT_ENCODERS, PICTURE_ENCODER):
            if (module := part(pipe, name)) is not None:
                self.memo.remember(name, module)

    @property
    def device(self) -> Device:
        """What it computes on."""
        return self._loaded.device

    @property
    def precision(self) -> str:
        """What it computes in, and why."""
        left = [seam.name for seam in self._loaded.seams if seam.trouble]
        return self._loaded.precision + (f", {', '.join(left)} on PyTorch" if left else "")

    @property
    def batching(self) -> Batching | None:
        """Which jobs may share a call.

        On OpenVINO none: one picture keeps the processor busy, so company would only make the
        first ones wait.
        """
        if self._loaded.seams or type(self._pipe).__name__ not in BATCHED:
            return None
        return Batching(params=SHARED)

    def prepare(self) -> None:
        """Convert or compile what has to be, with a picture that nobody asked for."""
        smallest, native = self._interface.multiple_px, self._interface.native_px
        if self.device == "gpu" and self._machine.diffusion.compile:
            folder = self._machine.cache_dir
            kernels = KeptKernels(folder / "kernels" if folder else None, self._spec.id)
            kernels.load()
            done = [compile_blocks(n) for name, n in self._networks.items() if name in DENOISERS]
            if any(done):
                warm_up(self, self._spec, native)
                kernels.save()
        elif any(not seam.settled for seam in self._loaded.seams):
            warm_up(self, self._spec, smallest)
        self._prepared = True

    def run(self, jobs: Sequence[Job]) -> list[Image]:
        """Run each group of jobs that can share a call."""
        answers: dict[int, Image] = {}
        for group in self._groups(jobs):
            members = [jobs[index] for index in group]
            answers |= dict(zip(group, self._run(members), strict=True))
        return [answers[index] for index in range(len(jobs))]

    def _groups(self, jobs: Sequence[Job]) -> list[list[int]]:
        """Sort jobs by what one call can have only one of."""
        alone = self.batching is None
        groups: dict[object, list[int]] = {}
        for index, job in enumerate(jobs):
            shared = tuple(job.params.get(name) for name in SHARED)
            negative = job.params.get("negative_prompt") is None
            # Networks that read the guidance as an input take one number for all.
            embedded = job.params.get("guidance_scale") if self._interface.embeds_guidance else None
            guided = self._interface.guided(job)
            key = (self._interface.size(job), shared, negative, guided, embedded)
            groups.setdefault((index if alone else 0, *key), []).append(index)
        return list(groups.values())

    def _run(self, jobs: Sequence[Job]) -> list[Image]:
        """Call the pipeline; nothing of the call stays behind."""
        size = self._interface.size(jobs[0])
        arguments = self._interface.arguments(jobs, size)
        self._adapt(jobs[0].params.get("loras"))
        if self._scheduler is not None:  # they remember the last step, and more
            self._pipe.scheduler = type(self._scheduler).from_config(self._scheduler.config)
        self._pipe.progress_bar = Steps(jobs)
        self._checker.forget()
        watched = jobs if self._prepared else ()
        try:
            with torch.inference_mode(), self._previews.shown(watched) as extra:
                result = self._pipe(**arguments, **extra)
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            raise OutOfMemoryError(f"{self._spec.id}: {error}") from error
        finally:
            del self._pipe.progress_bar  # which holds on to the jobs
        if self._prepared:
            self._checker.report(jobs)
        images = [_image(made) for made in _pictures(result)]
        for job, image in zip(jobs, images, strict=True):
            self._note(job, size, image)
        return images

    def _note(self, job: Job, size: Size, image: Image) -> None:
        """Say what was rounded, and what had no effect."""
        target, params = job.params.get("target_size"), job.params
        final = target if isinstance(target, Size) else job.image.size.times(self._interface.scale)
        if image.size != final:
            job.hooks.note(f"size; computed at {image.size}, then resized to {final}")
        elif size != job.image.size and self._interface.scale != 1:
            job.hooks.note(f"size; the input was resized to {size}")
        guided = self._interface.guided(job)
        if params.get("negative_prompt") and not guided:
            job.hooks.note("parameters; negative_prompt had no effect: guidance is off up to 1")
        if self._interface.guides_by_negative and guided and params.get("negative_prompt") is None:
            job.hooks.note("parameters; guidance had no effect: this model needs a negative_prompt")
        if params.get("image_guidance_scale") is not None and not guided:
            job.hooks.note(
                "parameters; guidance is off, and with it image_guidance_scale: guidance_scale must"
                " be above 1 and image_guidance_scale at least 1"
            )

    def _adapt(self, loras: object) -> None:
        """Add adapters to the weights, or take them away again."""
        wanted = loras if isinstance(loras, Loras) and loras.scales else None
        name = self._adapters.name(wanted) if wanted else ""
        if name == self._adapted:
            return
        if wanted and self._machine.diffusion.offload == "sequential" and self.device == "gpu":
            raise InvalidParameterError(
                "loras can't be used while layers are offloaded: diffusion_offload is sequential"
            )
        deltas = self._adapters.deltas(wanted) if wanted else {}
        self._adapted = None
        seams = {seam.name: seam for seam in self._loaded.seams}
        for network, addition in self._additions.items():
            added = deltas.get(network, {})
            if network in seams:
                seams[network].adapt(name if added else "", added)
            else:
                addition.put(added)
        self._adapted = self.memo.weights = name


def _image(picture: object) -> Image:
    """Turn what a pipeline gives into an image."""
    return Image(np.array(picture.convert("RGB")))  # type: ignore[attr-defined]


def _pictures(result: object) -> Sequence[object]:
    """Return the pictures of a pipeline's answer.

    Raises:
        BadOutputError: there are none.
    """
    images = getattr(result, "images", None)
    if not isinstance(images, list) or not all(hasattr(image, "convert") for image in images):
        raise BadOutputError(f"the pipeline gave {type(result).__name__} without pictures")
    return images
