"""A network at fixed shapes: on OpenVINO where that computes the same, else on PyTorch."""

import copy
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import openvino as ov
import torch
from numpy.typing import NDArray
from torch import Tensor

from calotype.backends.attempt import Attempt
from calotype.backends.base import Machine
from calotype.backends.checkpoint.picture import PictureNetwork
from calotype.backends.network import with_uint8
from calotype.backends.openvino import Engine
from calotype.backends.traced import check_difference, trace
from calotype.domain.image import RGB, Pixels, Size
from calotype.domain.model import Device
from calotype.errors import MissingWeightsError, OutOfMemoryError

logger = logging.getLogger(__name__)

COMPILED = 3
"""Shapes for which a network stays compiled."""
NAMES = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}
_WHITE = 255

Mask = NDArray[np.bool_]
"""(h, w): True is repainted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Halves:
    """Which shorter types a network claims to compute in."""

    bf16: bool
    f16: bool


class Compute:
    """Runs pictures of sizes that the network takes.

    Args:
        name: of the model, for logs and errors.
        identity: equal only for equal weights, computed with equal versions.
        network: in f32 on the processor.
        halves: which types it may be run in.
        machine: what it may use.
        cuda: run on a CUDA device.
    """

    def __init__(
        self,
        name: str,
        identity: str,
        network: PictureNetwork,
        halves: Halves,
        machine: Machine,
        *,
        cuda: bool,
    ) -> None:
        self._name, self._identity, self._network = name, identity, network
        self._halves, self._machine = halves, machine
        self._engine = None if cuda else Engine(machine)
        self._requests: OrderedDict[Size, ov.InferRequest] = OrderedDict()
        digest = hashlib.blake2b(identity.encode(), digest_size=16).hexdigest()
        folder = machine.cache_dir / "compiled" if machine.cache_dir else None
        self._attempt = Attempt(folder / f"{digest}.trying" if folder else None)
        self._target = torch.device("cuda" if cuda else "cpu")
        self._dtype: torch.dtype | None = None
        self._trouble = ""
        """Why PyTorch runs it on the processor; empty: it doesn't."""
        if self._engine is not None and network.draws:
            self._fall_back("it draws at random")
        elif self._engine is not None and self._attempt.is_deadly:
            self._fall_back("converting it ended the process each time")

    @property
    def device(self) -> Device:
        """What it computes on."""
        return "cpu" if self._engine else "gpu"

    @property
    def precision(self) -> str:
        """What it computes in, and why."""
        if self._engine is not None and not self._trouble:
            return self._engine.description
        name = NAMES[self._dtype or torch.float32]
        where = torch.cuda.get_device_name() if self._engine is None else "PyTorch"
        return f"{name} ({where}{': ' if self._trouble else ''}{self._trouble})"

    def prepare(self, size: Size) -> None:
        """Compile the network for a size, or find out that PyTorch must run it.

        Raises:
            OutOfMemoryError: it doesn't fit.
        """
        if self._request(size) is None:
            self._choose_type(size)

    def run(self, picture: Pixels, mask: Mask | None = None) -> Pixels:
        """Run one picture.

        Args:
            picture: (h, w, 3) uint8, of a size that the network takes.
            mask: of the same size, for a masked network.

        Returns:
            (h * s, w * s, 3) uint8, which the next call may write over.

        Raises:
            OutOfMemoryError: the picture doesn't fit.
        """
        h, w, _ = picture.shape
        size = Size(height_px=h, width_px=w)
        request = self._request(size)
        if request is None:
            self._choose_type(size)
            return self._on_torch(self._network, picture, mask)
        return _infer(request, picture, mask)

    def _request(self, size: Size) -> ov.InferRequest | None:
        """Return the network compiled for a size; None: PyTorch runs it."""
        if self._engine is None or self._trouble:
            return None
        if size not in self._requests:
            while len(self._requests) >= COMPILED:
                self._requests.popitem(last=False)
            try:
                compiled = self._compiled(self._engine, size)
            except OutOfMemoryError:
                raise
            except Exception as error:  # whatever tracer, converter or compiler can't take
                self._fall_back(f"it can't be converted: {error.__cause__ or error!r:.300}")
                return None
            self._requests[size] = compiled.create_infer_request()
        self._requests.move_to_end(size)
        return self._requests[size]

    def _compiled(self, engine: Engine, size: Size) -> ov.CompiledModel:
        """Compile the network, or load it as it was compiled before."""

        def build() -> ov.Model:
            with self._attempt.marked():
                return with_uint8(converted(self._network, size), self._name, channels_last=False)

        def check(compiled: ov.CompiledModel) -> None:
            sample = _sample(size, masked=self._network.is_masked)
            expected = self._on_torch(self._network, *sample)
            _check(_infer(compiled.create_infer_request(), *sample), expected, engine.precision)

        identity = f"spandrel\0{self._identity}\0{size}"
        return engine.compile(self._name, identity, build, check=check)

    def _fall_back(self, reason: str) -> None:
        """Leave the network to PyTorch, and say so."""
        self._trouble = reason
        self._requests.clear()
        logger.warning("%s runs on PyTorch, which is slower: %s", self._name, reason)

    def _choose_type(self, size: Size) -> None:
        """Choose the type that PyTorch computes in: the shortest that computes the same."""
        if self._dtype is not None:
            return
        if self._engine is not None and self._machine.threads:
            torch.set_num_threads(self._machine.threads)
        self._network.to(self._target)
        self._dtype = torch.float32
        candidates = tuple(self._candidates())
        if not candidates:
            return
        sample = _sample(size, masked=self._network.is_masked)
        expected = self._on_torch(self._network, *sample)
        for dtype in candidates:
            shorter = copy.deepcopy(self._network).to(dtype)
            self._dtype = dtype
            try:
                _check(self._on_torch(shorter, *sample), expected, "bf16")
            except (RuntimeError, TypeError, ValueError, OutOfMemoryError) as error:
                logger.info("%s doesn't run in %s: %.300s", self._name, NAMES[dtype], error)
            else:
                self._network = shorter
                return
        self._dtype = torch.float32

    def _candidates(self) -> Iterator[torch.dtype]:
        """Yield the shorter types that are worth a try, best first."""
        if self._engine is None:
            wanted = self._machine.precision != "f32"
            if wanted and self._halves.f16:
                yield torch.float16
        else:
            wanted = self._engine.precision == "bf16"
        if wanted and self._halves.bf16:
            yield torch.bfloat16

    def _on_torch(self, network: PictureNetwork, picture: Pixels, mask: Mask | None) -> Pixels:
        """Run a picture on PyTorch."""
        with torch.inference_mode(), torch.random.fork_rng(devices=()):
            torch.manual_seed(0)  # equal pictures get equal answers
            try:
                inputs = [_tensor(picture).to(self._target) / _WHITE]
                if mask is not None:
                    inputs.append(torch.from_numpy(mask)[None, None].to(self._target))
                made = network(*(t.to(self._dtype or torch.float32) for t in inputs))[0].float()
                rounded = made.mul(_WHITE).add_(0.5).clamp_(0, _WHITE).to(torch.uint8)
            except torch.OutOfMemoryError as error:
                torch.cuda.empty_cache()
                raise OutOfMemoryError(f"{self._name}: {error}") from error
            except RuntimeError as error:
                if "allocate memory" not in str(error):  # the processor's has no class of its own
                    raise
                raise OutOfMemoryError(f"{self._name}: {error}") from error
            pixels: Pixels = rounded.permute(1, 2, 0).contiguous().cpu().numpy()
            return pixels


def converted(network: PictureNetwork, size: Size) -> ov.Model:
    """Convert a network for one size.

    Returns:
        In (1, 3, h, w) float RGB 0..1, and for a masked one (1, 1, h, w) float 0 or 1; out
        (1, 3, h * s, w * s) float.

    Raises:
        Exception: whatever the tracer or the converter makes of a network that it can't take.
    """
    shape = (1, RGB, size.height_px, size.width_px)
    example = [torch.rand(shape)]
    if network.is_masked:
        example.append((torch.rand((1, 1, *shape[2:])) > 0.5).float())  # noqa: PLR2004  half
    with torch.no_grad():
        model = trace(network, tuple(example))
    model.reshape({port: ov.PartialShape(list(t.shape)) for port, t in enumerate(example)})
    if model.output(0).partial_shape.is_dynamic:
        raise MissingWeightsError("the size of its output depends on the picture")
    return model


def _infer(request: ov.InferRequest, picture: Pixels, mask: Mask | None) -> Pixels:
    """Run a picture on OpenVINO."""
    inputs = [picture[None]] if mask is None else [picture[None], mask[None, None].astype("f4")]
    result = request.infer(inputs, share_inputs=True, share_outputs=True)
    pixels: Pixels = next(iter(result.values()))[0]
    return pixels


def _tensor(picture: Pixels) -> Tensor:
    """(h, w, 3) uint8 -> (1, 3, h, w) uint8."""
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None]


def _sample(size: Size, *, masked: bool) -> tuple[Pixels, Mask | None]:
    """Return a picture of noise, and a mask of its lower right quarter."""
    h, w = size.height_px, size.width_px
    picture = np.random.default_rng(0).integers(0, _WHITE + 1, (h, w, RGB), dtype=np.uint8)
    mask = np.zeros((h, w), np.bool_)
    mask[h // 2 :, w // 2 :] = True
    return picture, mask if masked else None


def _check(found: Pixels, expected: Pixels, precision: str) -> None:
    """Refuse what is more than rounding."""
    if found.shape != expected.shape:
        raise ValueError(f"makes {found.shape} of what PyTorch makes {expected.shape} of")
    difference = np.abs(found.astype(np.int16) - expected).max()
    check_difference(float(difference), max(float(expected.max()), _WHITE / 2), precision)
