"""How good super-resolution is: PSNR, SSIM and GMSD beside bicubic and Lanczos, on known pictures.

    .venv/bin/python benchmarks/quality.py            Set5, and every fourth picture of Kodak24
    .venv/bin/python benchmarks/quality.py --full     Set5 and Kodak24

The protocol of the literature: each picture is cropped to multiples of the scale and reduced by
Pillow's bicubic filter, which is widened by the scale against aliasing, as MATLAB's is. What is
made of it is compared on luma (Y of BT.601, 16..235), without a border of as many pixels as the
scale. Higher PSNR and SSIM are better, lower GMSD is. Scikit-image and piq, in an environment of
their own, compute them. Calotype's pictures are those that its server sends.

Networks trained against a discriminator, as these two are, paint details that are likely but not
those of the original, and lose PSNR by it; they also repair what isn't broken here. None of the
three numbers rewards that; those that do need networks of their own, which no package carries.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

import peer
import pictures
import report
from served import Served, serving
from testset import DATA, Photos, Pixels, photographs, pixels_of

PRECISIONS = ("f32", "bf16")
FILTERS = {"bicubic": Image.Resampling.BICUBIC, "Lanczos": Image.Resampling.LANCZOS}
MODELS: Mapping[int, Sequence[str]] = {2: ("upscale-fast",), 4: ("upscale-fast", "upscale")}
"""Which models enlarge by a scale."""
SHORT_EVERY = 4
METRICS = ("psnr", "ssim", "gmsd")
PEER_S = 900


@dataclass(frozen=True, slots=True)
class Case:
    """One picture to be enlarged."""

    group: str
    scale: int
    small: Pixels
    truth: Path


@dataclass(frozen=True, slots=True)
class Made:
    """What became of a picture."""

    case: Case
    by: str
    file: Path


def main() -> None:
    """Enlarge, measure, and publish."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full", action="store_true", help="all pictures of Kodak24")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of Set5 and Kodak24")
    told = parser.parse_args()
    every = 1 if told.full else SHORT_EVERY
    missing: dict[str, str] = {}
    sets = [photographs(told.data, "Kodak24", every=every)]
    if (told.data / "Set5").is_dir():
        sets.insert(0, photographs(told.data, "Set5"))
    else:
        missing["Set5"] = "its pictures aren't here"
    tables: tuple[report.Table, ...] = ()
    versions = report.versions("calotype", "openvino", "pillow")
    try:
        judge = peer.install("quality")
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            cases = list(reduced(sets, folder))
            made = [*filtered(cases, folder), *enlarged(cases, folder, missing)]
            tables = tuple(compare(made, scored(judge, made)))
        versions |= judge.versions()
    except peer.PeerMissingError as error:
        missing["scikit-image and piq"] = str(error)
    report.publish(
        report.Report(
            name="quality-full" if told.full else "quality",
            method="Pictures are reduced by Pillow's bicubic filter and enlarged again: by Pillow, "
            "and by `calotype serve`. Luma (BT.601, 16..235) is compared with the original's, "
            "without a border of as many pixels as the scale; means over the pictures. PSNR and "
            "SSIM by scikit-image (Gaussian window of 11 pixels), GMSD by piq. Networks trained "
            "against a discriminator lose PSNR by design.",
            tables=tables,
            versions=versions,
            missing=missing,
        )
    )


def reduced(sets: Sequence[Photos], folder: Path) -> Iterator[Case]:
    """Yield every picture at every scale; the original is written to a file."""
    for photos in sets:
        for scale in MODELS:
            for photo in photos.all:
                h, w, _ = photo.pixels.shape
                truth = photo.pixels[: h - h % scale, : w - w % scale]
                file = folder / f"truth{scale}-{photos.words}-{photo.name}.png"
                file.write_bytes(pictures.png(truth))
                small = _resized(truth, h // scale, w // scale, Image.Resampling.BICUBIC)
                yield Case(photos.words, scale, small, file)


def filtered(cases: Sequence[Case], folder: Path) -> Iterator[Made]:
    """Enlarge by filters."""
    for name, resampling in FILTERS.items():
        for case in cases:
            h, w, _ = case.small.shape
            large = _resized(case.small, h * case.scale, w * case.scale, resampling)
            yield _written(case, name, large, folder)


def enlarged(cases: Sequence[Case], folder: Path, missing: dict[str, str]) -> Iterator[Made]:
    """Enlarge by the models, in each precision that this processor has."""
    for precision in PRECISIONS:
        with serving(folder / precision, precision) as served:
            if not (said := served.precision("upscale-fast")).startswith(precision):
                missing[f"Calotype in {precision}"] = f"the server uses {said}"
                continue
            for case in cases:
                yield from _asked(served, case, precision, folder)


def _asked(served: Served, case: Case, precision: str, folder: Path) -> Iterator[Made]:
    for model in MODELS[case.scale]:
        print(f"{model}, {precision}, x{case.scale}: {case.truth.stem}", flush=True)
        parameters = {"scale": case.scale} if model == "upscale-fast" else {}
        pixels = served.picture(model, case.small, parameters)
        yield _written(case, f"`{model}`, {precision}", pixels, folder)


def _written(case: Case, by: str, pixels: Pixels, folder: Path) -> Made:
    if pixels.shape != (wanted := pixels_of(case.truth).shape):
        raise SystemExit(f"{by} made {pixels.shape} instead of {wanted}")
    file = folder / f"{by} {case.truth.name}"
    file.write_bytes(pictures.png(pixels))
    return Made(case, by, file)


def scored(judge: peer.Peer, made: Sequence[Made]) -> list[dict[str, float]]:
    """Return the metrics of each picture."""
    pairs = [[str(one.case.truth), str(one.file), one.case.scale] for one in made]
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        json.dump(pairs, file)
        file.flush()
        print(f"comparing {len(pairs)} pictures", flush=True)
        found: list[dict[str, float]] = json.loads(judge.run(file.name, timeout_s=PEER_S))
    return found


def compare(made: Sequence[Made], scores: Sequence[Mapping[str, float]]) -> Iterator[report.Table]:
    """Yield a table for each set and scale."""
    groups: dict[tuple[str, int], dict[str, list[Mapping[str, float]]]] = {}
    for one, score in zip(made, scores, strict=True):
        by = groups.setdefault((one.case.group, one.case.scale), {})
        by.setdefault(one.by, []).append(score)
    for (group, scale), rows in groups.items():
        yield report.Table(
            f"x{scale}, {group}",
            ("enlarged by", "PSNR, dB", "SSIM", "GMSD"),
            tuple((name, *_means(found)) for name, found in rows.items()),
        )


def _means(found: Sequence[Mapping[str, float]]) -> tuple[str, ...]:
    """Return means with the digits that the literature gives."""
    psnr, ssim, gmsd = (statistics.fmean(one[metric] for one in found) for metric in METRICS)
    return f"{psnr:.2f}", f"{ssim:.4f}", f"{gmsd:.4f}"


def _resized(pixels: Pixels, h: int, w: int, resampling: Image.Resampling) -> Pixels:
    return np.asarray(Image.fromarray(pixels).resize((w, h), resampling))


if __name__ == "__main__":
    main()
