"""Small pictures of what there is so far, while a pipeline denoises.

A code is nearly linear in the colours of the picture that it stands for. So a linear map, found
once for each pipeline, shows a code in a millisecond, where decoding it would take as long as a
step.
"""

import contextlib
import functools
import io
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import PIL.Image
import torch
from torch import Tensor

from calotype.backends.diffusion.call import PIXELWISE
from calotype.backends.diffusion.forward import swapped
from calotype.backends.diffusion.load import PICTURE_ENCODER, part
from calotype.backends.diffusion.palette import CELLS, Codes, Palette, cell_means, chart
from calotype.domain.event import Preview
from calotype.domain.image import Pixels
from calotype.domain.request import Job

logger = logging.getLogger(__name__)

EVERY_S = 1.0
LONGEST_PX = 128
"""Of a preview, which has a pixel for each value of the code, or fewer."""
CALLBACK, TENSORS = "callback_on_step_end", "callback_on_step_end_tensor_inputs"
LATENTS = "latents"
CODE_DIMS = 4
"""Of codes that are laid out as pictures are: n, c, h, w."""


class Previews:
    """Shows jobs what there is of their pictures, at most once a second.

    What is shown is what the network sees: of a masked request the cut-out around the mask. Nothing
    is shown where the pipeline lets nobody see its steps, where its codes aren't laid out as
    pictures are, or where it has no encoder to learn from; and whatever goes wrong here, the result
    is the same.

    Args:
        pipe: a pipeline, before its encoder's answers are remembered: nobody asks for those that
            are needed here again.
        defaults: the arguments that it takes.
        clock: monotonic, seconds.
    """

    def __init__(
        self, pipe: Any, defaults: Mapping[str, object], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._pipe, self._clock = pipe, clock
        self._encoder = part(pipe, PICTURE_ENCODER)
        self._forward = self._encoder.forward if self._encoder is not None else None
        self._palette: Palette | None = None
        self._is_open = (
            {CALLBACK, TENSORS} <= set(defaults)
            and LATENTS in getattr(pipe, "_callback_tensor_inputs", ())
            and type(pipe).__name__ not in PIXELWISE
            and not hasattr(pipe, "_pack_latents")
            and hasattr(getattr(pipe, "vae", None), "encode")
        )
        """Whether there may be previews."""

    @contextlib.contextmanager
    def shown(self, jobs: Sequence[Job]) -> Iterator[dict[str, Any]]:
        """Show the jobs of a call their previews; yield what the call needs for that.

        The map is found before the first call, and not at its first step: a job's pace is told from
        its steps.
        """
        if jobs and self._is_open and self._palette is None:
            self._palette = self._found()
            self._is_open = self._palette is not None
        if not jobs or self._palette is None:
            yield {}
            return
        view = View(jobs, self._palette, self._clock)
        with overheard(getattr(self._pipe, "scheduler", None), view.hear):
            yield {CALLBACK: view.step, TENSORS: [LATENTS]}

    def _found(self) -> Palette | None:
        """Return the map of this pipeline, or None."""
        started_s = time.monotonic()
        try:
            pixels = chart(CELLS * int(getattr(self._pipe, "vae_scale_factor", 8)))
            code = self._encoded(pixels)
            palette = Palette.fitted(code, cell_means(pixels, *code.shape[1:]))
        except Exception as error:  # a pipeline may fail as it likes: what counts is the result
            logger.debug("no previews: %r", error)
            return None
        logger.debug("previews were fitted in %.3f s", time.monotonic() - started_s)
        return palette

    def _encoded(self, pixels: Pixels) -> Codes:
        """Return the code of a picture, (c, h, w), scaled as the pipeline scales it."""
        vae = self._pipe.vae
        if not getattr(self._forward, "settled", True):
            raise ValueError("the pipeline doesn't use its encoder, and converting it takes long")
        values = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1
        device = getattr(self._pipe, "_execution_device", "cpu")
        plain: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
        if self._encoder is not None and self._forward is not None:
            plain = swapped(self._encoder, self._forward)
        with torch.inference_mode(), plain:
            answer = vae.encode(values.to(device, vae.dtype))
        spread = getattr(answer, "latent_dist", None)
        code: Tensor = answer.latents if spread is None else spread.mode()
        if code.dim() != CODE_DIMS:
            raise ValueError(f"codes of {code.dim()} dimensions")
        return scaled(code.float().cpu(), vae.config)[0].numpy()


class View:
    """Looks at the steps of one call.

    Args:
        jobs: of the call.
        palette: of the pipeline.
        clock: monotonic, seconds.
    """

    def __init__(self, jobs: Sequence[Job], palette: Palette, clock: Callable[[], float]) -> None:
        self._jobs, self._palette, self._clock = jobs, palette, clock
        self._next_s = float("-inf")
        self._expected: Any = None

    def hear(self, answer: Any) -> None:
        """Note what a scheduler expects the result to be: the code itself is still full of noise.

        Args:
            answer: to a step: the next code, and from many schedulers the expected one.
        """
        if isinstance(answer, tuple):
            self._expected = answer[1] if len(answer) > 1 else None
        else:
            self._expected = getattr(answer, "pred_original_sample", None)

    def step(self, *call: Any) -> dict[str, Any]:
        """Show the jobs what there is after a step; change nothing.

        Args:
            call: a pipeline, a step, its time, and tensors by name.
        """
        if self._clock() >= self._next_s:
            latents = self._seen(call[-1].get(LATENTS))
            for job, code in zip(self._jobs, latents, strict=False):
                if not job.hooks.cancelled:
                    self._show(job, code)
            self._next_s = self._clock() + EVERY_S
        return {}

    def _seen(self, latents: Any) -> Sequence[Tensor]:
        """Return the code of each job, or nothing if that can't be told."""
        expected, shape = self._expected, getattr(latents, "shape", ())
        if len(shape) != CODE_DIMS or len(latents) != len(self._jobs):
            logger.debug("no previews of %s for %d jobs", tuple(shape), len(self._jobs))
            return ()
        codes: Tensor = latents
        if isinstance(expected, Tensor) and expected.shape == shape:
            codes = expected
        return codes.unbind()

    def _show(self, job: Job, code: Tensor) -> None:
        """Tell a job what its code looks like."""
        try:
            picture = self._palette.drawn(code.float().cpu().numpy())
            job.hooks.happened(Preview(as_png(picture)))
        except Exception as error:
            logger.debug("no preview: %r", error)


@contextlib.contextmanager
def overheard(scheduler: Any, hear: Callable[[Any], None]) -> Iterator[None]:
    """Pass on what a scheduler answers at each step."""
    original = getattr(scheduler, "step", None)
    if original is None:
        yield
        return

    @functools.wraps(original)  # pipelines read off its signature what it takes
    def step(*args: Any, **kwargs: Any) -> Any:
        answer = original(*args, **kwargs)
        hear(answer)
        return answer

    scheduler.step = step
    try:
        yield
    finally:
        del scheduler.step


def scaled(code: Tensor, config: Mapping[str, Any]) -> Tensor:
    """Scale an autoencoder's code as pipelines do before they add noise to it.

    Args:
        code: (n, c, h, w).
        config: of the autoencoder.
    """
    mean, std = (config.get(name) for name in ("latents_mean", "latents_std"))
    factor = float(config.get("scaling_factor") or 1)
    if mean is not None and std is not None:
        mean, std = (torch.tensor(values).reshape(1, -1, 1, 1) for values in (mean, std))
        return (code - mean) * factor / std
    return (code - float(config.get("shift_factor") or 0)) * factor


def as_png(picture: PIL.Image.Image) -> bytes:
    """Write a picture as a file, no larger than a preview may be."""
    picture.thumbnail((LONGEST_PX, LONGEST_PX), PIL.Image.Resampling.BOX)
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()
