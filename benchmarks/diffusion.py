"""An edit by diffusion at full size: Calotype beside diffusers and optimum-intel.

    .venv/bin/python benchmarks/diffusion.py --steps 10 --side 256 --rounds 3
    .venv/bin/python benchmarks/diffusion.py --tiny --rounds 1 --steps 2   whether it works at all

The networks have Stable Diffusion 1's configuration and random weights, as its own need a download
of 4 GB. Two pipelines: instruct-pix2pix, and image-to-image, as optimum-intel lacks the former.
Each way runs in a process of its own, all in turn. Writes some 15 GB, takes most of an hour.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import contest
import diffusion_model
import peer
import report
import scene

OURS, EXACT, OPTIMUM = "calotype", "diffusers", "optimum-intel"
LIMIT_S = 3600.0
RunOnce = Callable[[Path, Path], dict[str, Any]]
"""(picture, where the result goes) -> what was measured."""


@dataclass(slots=True)
class Findings:
    """What was found so far."""

    tables: list[report.Table] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def main() -> None:
    """Measure, and publish."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = tuple(diffusion_model.CLASSES)
    parser.add_argument(
        "--folder", type=Path, help="where the pipelines are, or are made, and kept"
    )
    parser.add_argument("--pipelines", nargs="+", choices=kinds, default=list(kinds))
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--side", type=int, default=256, help="pixels each way")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tiny", action="store_true", help="networks of some thousand weights")
    told = parser.parse_args()
    ours = ("calotype", "diffusers", "torch", "transformers", "openvino")
    findings = Findings(versions=report.versions(*ours))
    with kept(told.folder) as folder:
        for pipeline in told.pipelines:
            measure_one(pipeline, folder, told, findings)
    report.publish(
        report.Report(
            name="diffusion",
            method="Each way runs in a process of its own, all in turn, round after round. A "
            f"process makes {diffusion_model.RUNS} edits with other prompts and pictures; the "
            "quicker one after the first counts, encoding and decoding included. What counts is "
            "the median of the paired ratios. Differences are from diffusers in f32, with the same "
            "seed; with random weights the pictures are noise, in which they show most.",
            tables=findings.tables,
            versions=findings.versions,
            missing=findings.missing,
        )
    )


@contextlib.contextmanager
def kept(folder: Path | None) -> Iterator[Path]:
    """Yield the folder, or one that is gone afterwards."""
    if folder is not None:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="calotype-bench-") as name:
        yield Path(name)


def measure_one(pipeline: str, folder: Path, told: argparse.Namespace, findings: Findings) -> None:
    """Run all ways of one pipeline in turn."""
    diffusion_model.build(folder, pipeline, tiny=told.tiny)
    picture = folder / "picture.npy"
    np.save(picture, scene.scene(told.side, told.side))
    ways = contestants(pipeline, folder, told, findings)
    results: dict[str, list[dict[str, Any]]] = {}
    for _ in range(told.rounds):
        for way, run in list(ways.items()):
            try:
                found = run(picture, folder / f"{way}.npy")
            except peer.PeerMissingError as error:
                findings.missing[f"{way} ({pipeline})"] = str(error)
                print(f"  {way} drops out: {error}", flush=True)
                results.pop(way, None)
                del ways[way]
                continue
            results.setdefault(way, []).append(found)
            print(f"  {pipeline}, {way}: {found['run_s']:.2f} s ({found['what']})", flush=True)
    size = "tiny" if told.tiny else "860 M"
    title = f"{pipeline} ({size}), {scene.named(told.side, told.side)}, {told.steps} steps"
    findings.tables.append(table(title, results, folder))


def contestants(
    pipeline: str, folder: Path, told: argparse.Namespace, findings: Findings
) -> dict[str, RunOnce]:
    """Return all ways that can run a pipeline."""

    def here(way: str) -> RunOnce:
        options = ["--way", way, "--folder", str(folder), "--pipeline", pipeline]

        def run(picture: Path, output: Path) -> dict[str, Any]:
            return run_here([*options, *common(picture, output, told.steps)])

        return run

    ways = {way: here(way) for way in diffusion_model.WAYS}
    if pipeline != "img2img":
        findings.missing[f"{OPTIMUM} ({pipeline})"] = "it has no class for this pipeline"
        return ways
    try:
        installed = peer.install("optimum")
    except peer.PeerMissingError as error:
        findings.missing[f"{OPTIMUM} ({pipeline})"] = str(error)
        return ways
    found = {f"{OPTIMUM}'s {name}": text for name, text in installed.versions().items()}
    findings.versions |= {
        name.replace(f"{OPTIMUM}'s {OPTIMUM}", OPTIMUM): text for name, text in found.items()
    }
    place = diffusion_model.place_of(folder, pipeline)
    options = ["--pipeline", str(place), "--converted", str(folder / pipeline / "optimum")]
    options += ["--strength", str(diffusion_model.STRENGTH), "--prompt", diffusion_model.PROMPT]

    def optimum(picture: Path, output: Path) -> dict[str, Any]:
        words = [*options, *common(picture, output, told.steps)]
        return last_line(installed.run(*words, timeout_s=LIMIT_S))

    return ways | {OPTIMUM: optimum}


def common(picture: Path, output: Path, steps: int) -> list[str]:
    """Return the options that all scripts take."""
    return ["--picture", str(picture), "--output", str(output), "--steps", str(steps)]


def run_here(words: list[str]) -> dict[str, Any]:
    """Run Calotype or diffusers in a process of this environment."""
    command = [sys.executable, diffusion_model.__file__, *words]
    quiet = {**os.environ, "TQDM_DISABLE": "1"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=quiet)
    return last_line(done.stdout)


def last_line(said: str) -> dict[str, Any]:
    """Read what a script printed last."""
    found: dict[str, Any] = json.loads(said.splitlines()[-1])
    return found


def table(title: str, results: dict[str, list[dict[str, Any]]], folder: Path) -> report.Table:
    """Set all ways side by side."""
    exact = np.load(folder / f"{EXACT}.npy")
    rows = []
    for way, runs in results.items():
        seconds, ours = ([run["run_s"] for run in side] for side in (runs, results[OURS]))
        apart = None if way == EXACT else contest.difference(np.load(folder / f"{way}.npy"), exact)
        rows.append(
            (
                f"{way}: {runs[-1]['what']}",
                statistics.median(seconds),
                None if way == OURS else report.paired(seconds, ours),
                statistics.median(run["ready_s"] for run in runs),
                statistics.median(run["first_s"] for run in runs),
                max(run["peak_bytes"] for run in runs) / 1e9,
                *(apart or (None, None)),
            )
        )
    columns = ("way", "seconds", "Calotype is faster by (spread)", "ready in, s", "first run, s")
    measures = ("peak memory, GB", "max difference, of 255", "PSNR, dB")
    return report.Table(title, (*columns, *measures), tuple(rows))


if __name__ == "__main__":
    main()
