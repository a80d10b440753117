"""The OpenVINO engine: choose the precision, compile for fixed shapes, keep the result on disk."""

import hashlib
import json
import logging
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as op

from calotype.atomic import write_atomically
from calotype.backends.base import Machine
from calotype.errors import MissingWeightsError, OutOfMemoryError

Build = Callable[[], ov.Model]
logger = logging.getLogger(__name__)

DIGEST_BYTES = 32
KEPT_S = 60 * 86400
"""Compiled or converted networks that were not used for this long are deleted."""
PROBE_CHANNELS, PROBE_PX, PROBE_LAYERS, PROBE_RUNS = 64, 96, 6, 5


@cache
def _core() -> ov.Core:
    """Return the process's one OpenVINO core; making one takes a third of a second."""
    return ov.Core()


class Engine:
    """Compiles networks for this machine."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._folder = machine.cache_dir / "compiled" if machine.cache_dir else None
        self.precision, self.reason = self._choose_precision()

    @property
    def description(self) -> str:
        """The precision and why."""
        return f"{self.precision} ({self.reason})"

    def compile(
        self,
        name: str,
        identity: str,
        build: Build,
        *,
        exact: bool = False,
        check: Callable[[ov.CompiledModel], None] = lambda _: None,
    ) -> ov.CompiledModel:
        """Compile a network, or load what an earlier start compiled.

        Args:
            name: for the log.
            identity: equal only for equal networks with equal shapes.
            build: makes the network; not called when a compiled one is found.
            exact: compute in f32 whatever the machine's precision is.
            check: raises if the network isn't what it should be; then it isn't kept.

        Raises:
            OutOfMemoryError: the compiled network doesn't fit.
            MissingWeightsError: the network can't be compiled.
        """
        config = self._config("f32" if exact else self.precision)
        key = _digest("\0".join((identity, ov.get_version(), _processor(), json.dumps(config))))
        if (found := self._load(name, key, config)) is not None:
            return found
        compiled = self._compile(name, build, config)
        check(compiled)
        self._store(key, compiled)
        return compiled

    def compile_for_now(self, name: str, model: ov.Model) -> ov.CompiledModel:
        """Compile a network that is too large to be kept compiled on disk.

        Raises:
            OutOfMemoryError: the compiled network doesn't fit.
            MissingWeightsError: the network can't be compiled.
        """
        return self._compile(name, lambda: model, self._config(self.precision))

    def _compile(self, name: str, build: Build, config: dict[str, Any]) -> ov.CompiledModel:
        started_s = time.monotonic()
        try:
            compiled = _core().compile_model(build(), "CPU", config)
        except MemoryError as error:
            raise OutOfMemoryError(f"{name}: no memory to compile it") from error
        except RuntimeError as error:
            raise MissingWeightsError(f"{name}: OpenVINO can't compile it") from error
        logger.info("compiled %s in %.2f s", name, time.monotonic() - started_s)
        return compiled

    def _config(self, precision: str) -> dict[str, Any]:
        return {
            "INFERENCE_PRECISION_HINT": precision,
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": self._machine.threads,
        }

    def _load(self, name: str, key: str, config: dict[str, Any]) -> ov.CompiledModel | None:
        """Load a stored network; a damaged file is as good as none."""
        if self._folder is None or not (file := self._folder / f"{key}.blob").exists():
            return None
        try:
            data = file.read_bytes()
            digest, blob = data[:DIGEST_BYTES], data[DIGEST_BYTES:]
            if hashlib.blake2b(blob, digest_size=DIGEST_BYTES).digest() != digest:
                raise ValueError("wrong digest")
            file.touch()  # in use
            return _core().import_model(blob, "CPU", config)
        except (OSError, ValueError, RuntimeError) as error:
            logger.warning("compiled %s is unusable, compiling anew: %s", name, error)
            return None

    def _store(self, key: str, compiled: ov.CompiledModel) -> None:
        """Keep a compiled network for the next start."""
        if self._folder is None:
            return
        try:
            blob = compiled.export_model().getvalue()
            digest = hashlib.blake2b(blob, digest_size=DIGEST_BYTES).digest()
            self._folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self._folder / f"{key}.blob", digest + blob)
            self._sweep()
        except (OSError, RuntimeError) as error:
            logger.warning("the compiled network was not kept for the next start: %s", error)

    def _sweep(self) -> None:
        """Delete what no start used for long: networks of other versions, models, settings."""
        stale_s = time.time() - KEPT_S
        for file in self._folder.glob("*.blob") if self._folder else ():
            if file.stat().st_mtime < stale_s:
                file.unlink(missing_ok=True)

    def _choose_precision(self) -> tuple[str, str]:
        """Take what the settings say, else what is faster here."""
        wanted = self._machine.precision
        has_bf16 = "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if wanted == "f32":
            return "f32", "as set"
        if not has_bf16:
            if wanted == "bf16":
                logger.warning(
                    "precision bf16 was asked for, but this processor has none: using f32"
                )
            return "f32", "this processor has no bf16"
        if wanted == "bf16":
            return "bf16", "as set"
        f32_s, bf16_s = self._measured()
        ratio = f"{f32_s / bf16_s:.2f}x the speed of f32"
        if bf16_s < f32_s:
            return "bf16", f"measured {ratio} on this processor"
        logger.info("using f32: this processor has bf16, but at only %s", ratio)
        return "f32", f"this processor has bf16, but at only {ratio}"

    def _measured(self) -> tuple[float, float]:
        """Return how long a small stack of convolutions takes in f32 and in bf16, once a machine.

        Having the instructions doesn't mean that they are faster: without AMX, Intel's server cores
        run bf16 products at no more than the speed of f32.
        """
        name = _digest(f"{ov.get_version()}\0{_processor()}\0{self._machine.threads}")
        file = self._folder / f"precision-{name}.json" if self._folder else None
        try:
            if file is not None:
                f32_s, bf16_s = (float(v) for v in json.loads(file.read_bytes()))
                return f32_s, bf16_s
        except (OSError, ValueError):
            pass  # measured below, and written again
        f32_s, bf16_s = (_probe(self._config(p)) for p in ("f32", "bf16"))
        if file is not None:
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(file, json.dumps([f32_s, bf16_s]).encode())
            except OSError as error:
                logger.warning("the measured precision was not kept for the next start: %s", error)
        return f32_s, bf16_s


def _probe(config: dict[str, Any]) -> float:
    """Return seconds for a stack of 3x3 convolutions, the best of a few runs."""
    c, px = PROBE_CHANNELS, PROBE_PX
    rng = np.random.default_rng(0)
    first = op.parameter([1, c, px, px], np.float32)
    node = first.output(0)
    for _ in range(PROBE_LAYERS):
        kernel = op.constant(rng.normal(0, 0.04, (c, c, 3, 3)).astype(np.float32))
        node = op.relu(op.convolution(node, kernel, [1, 1], [1, 1], [1, 1], [1, 1])).output(0)
    request = _core().compile_model(ov.Model([op.result(node)], [first], "probe"), "CPU", config)
    run = request.create_infer_request()
    image = rng.random((1, c, px, px), dtype=np.float32)
    seconds = []
    for _ in range(PROBE_RUNS):
        started_s = time.perf_counter()
        run.infer([image], share_inputs=True)
        seconds.append(time.perf_counter() - started_s)
    return min(seconds)


@cache
def _processor() -> str:
    """Name the processor closely enough that compiled code for it runs on the same name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return "\n".join(
            sorted({line for line in lines if line.startswith(("model name", "flags"))})
        )
    except OSError:
        return str(_core().get_property("CPU", "FULL_DEVICE_NAME"))


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
