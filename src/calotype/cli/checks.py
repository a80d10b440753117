"""What ``calotype doctor`` looks at; each check answers, none raises."""

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from calotype.api.door import token_desk
from calotype.assembly import open_catalog
from calotype.catalog import weights
from calotype.cli.serve import check_binding, listen
from calotype.errors import CalotypeError, StoreUnavailableError
from calotype.running import machine_of
from calotype.settings import Settings

FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
"""What makes inference fast; as Linux names them."""

DIFFUSION = ("diffusers", "torch", "transformers", "accelerate", "safetensors")
"""What pipelines need; asked for their versions, not imported."""

LEAST_FREE_BYTES = 1_000_000_000

Status = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line of the report."""

    name: str
    status: Status = "ok"
    text: str
    fix: str = ""
    """The command that mends it."""


def examine(settings: Settings) -> Iterator[Check]:
    """Look at everything, one check after the other."""
    checks: tuple[tuple[str, Callable[[Settings], Iterator[Check]]], ...] = (
        ("versions", _versions),
        ("processor", _processor),
        ("precision", _precision),
        ("models", _models),
        ("folders", _folders),
        ("port", _port),
        ("binding", _binding),
        ("hub", _hub),
        ("diffusion", _diffusion),
    )
    for name, check in checks:
        try:
            yield from check(settings)
        except CalotypeError as error:
            yield Check(name=name, status="problem", text=str(error))
        except Exception as error:  # a broken installation fails in its own ways
            text = f"{type(error).__name__}: {error}"
            fix = "pip install --force-reinstall calotype"
            yield Check(name=name, status="problem", text=text, fix=fix)


def _versions(settings: Settings) -> Iterator[Check]:
    del settings
    yield Check(name="python", text=f"{platform.python_version()} at {sys.executable}")
    yield Check(name="calotype", text=importlib.metadata.version("calotype"))
    for name, package in (("openvino", "openvino"), ("libvips", "pyvips")):
        try:
            module = importlib.import_module(package)
            version = importlib.metadata.version(package)
        except Exception as error:  # a missing shared library shows as any of several errors
            fix = f"pip install --force-reinstall {package}"
            yield Check(name=name, status="problem", text=str(error), fix=fix)
        else:
            if package == "pyvips":
                version = ".".join(str(module.version(part)) for part in range(3))
            yield Check(name=name, text=version)


def _processor(settings: Settings) -> Iterator[Check]:
    cores = f"{os.cpu_count()} threads, {settings.threads or 'all'} for inference"
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        yield Check(name="processor", text=f"{platform.processor() or 'unknown'}; {cores}")
        return
    facts = {key.strip(): value.strip() for key, _, value in (x.partition(":") for x in lines)}
    flags = set(facts.get("flags", "").split())
    has = [name for name in FEATURES if name in flags]
    name = facts.get("model name", platform.machine())
    yield Check(name="processor", text=f"{name}; {', '.join(has) or 'no AVX2'}; {cores}")


def _precision(settings: Settings) -> Iterator[Check]:
    engine = importlib.import_module("calotype.backends.openvino").Engine(machine_of(settings))
    yield Check(name="precision", text=engine.description)


def _models(settings: Settings) -> Iterator[Check]:
    catalog = open_catalog(settings)
    good = 0
    for spec in catalog.all():
        problems = [report.problem for report in weights.check(spec) if not report.ok]
        good += not problems
        for problem in problems:
            text, _, fix = problem.partition(": pip install ")
            mend = f"pip install {fix}" if fix else ""
            yield Check(name="weights", status="problem", text=f"{spec.id}: {text}", fix=mend)
    yield Check(name="models", text=f"{good} can be served; the default is {catalog.default.id}")


def _folders(settings: Settings) -> Iterator[Check]:
    folders = {
        "data": (settings.data_path, "CALOTYPE_DATA_DIR"),
        "cache": (settings.cache_path, "CALOTYPE_CACHE_DIR"),
        "models dir": (settings.models_path, "CALOTYPE_MODELS_DIR"),
    }
    for name, (folder, variable) in folders.items():
        standing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if not standing.is_dir() or not os.access(standing, os.W_OK | os.X_OK):
            text = f"{folder} can't be written"
            fix = f"sudo chown -R $USER {standing}, or set {variable} to another folder"
            yield Check(name=name, status="problem", text=text, fix=fix)
            continue
        free_bytes = shutil.disk_usage(standing).free
        text = f"{folder}, {free_bytes / 1e9:.1f} GB free"
        if free_bytes < LEAST_FREE_BYTES:
            fix = f"set {variable} to a folder with more room"
            yield Check(name=name, status="warning", text=text, fix=fix)
        else:
            yield Check(name=name, text=text)


def _port(settings: Settings) -> Iterator[Check]:
    try:
        listen(settings.host, settings.port).close()
    except CalotypeError as error:
        text, _, _ = str(error).partition(";")
        fix = "stop what listens there, or: calotype serve --port 0"
        yield Check(name="port", status="warning", text=text, fix=fix)
    else:
        yield Check(name="port", text=f"{settings.host} port {settings.port} is free")


def _binding(settings: Settings) -> Iterator[Check]:
    try:
        tokens = token_desk(settings).list()
    except StoreUnavailableError as error:
        fix = "start the store that store_url names"
        yield Check(name="binding", status="problem", text=str(error), fix=fix)
        return
    try:
        check_binding(settings, has_tokens=bool(tokens))
    except CalotypeError as error:
        text, _, _ = str(error).partition(":")
        fix = "calotype token create NAME"
        yield Check(name="binding", status="problem", text=text, fix=fix)
        return
    count = f"{len(tokens)} token{'' if len(tokens) == 1 else 's'}"
    if settings.insecure and not tokens:
        fix = "calotype token create NAME"
        text = f"{settings.host}, {count}: everybody who reaches it is let in"
        yield Check(name="binding", status="warning", text=text, fix=fix)
    else:
        yield Check(name="binding", text=f"{settings.host}, {count}")


def _hub(settings: Settings) -> Iterator[Check]:
    del settings
    if importlib.util.find_spec("huggingface_hub") is None:
        text = "not installed; only needed to fetch models: pip install 'calotype[hub]'"
    else:
        text = f"huggingface_hub {importlib.metadata.version('huggingface_hub')}"
    yield Check(name="hub", text=text)


def _diffusion(settings: Settings) -> Iterator[Check]:
    missing = [name for name in DIFFUSION if importlib.util.find_spec(name) is None]
    if not missing:
        versions = (f"{name} {importlib.metadata.version(name)}" for name in DIFFUSION)
        yield Check(name="diffusion", text=", ".join(versions))
        return
    fix = "pip install 'calotype[diffusers]'"
    if needing := [s.id for s in open_catalog(settings).all() if s.backend == "diffusers"]:
        text = f"{', '.join(missing)} missing, which {needing[0]} needs"
        yield Check(name="diffusion", status="problem", text=text, fix=fix)
    else:
        yield Check(name="diffusion", text=f"not installed; only needed for pipelines: {fix}")
