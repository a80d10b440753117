"""Writing and reading PNG, JPEG and WebP files: Calotype's codec beside Pillow's.

    .venv/bin/python benchmarks/formats.py [--rounds 3] [--formats png,jpeg,webp]

Calotype writes with its defaults. Pillow writes PNG with its default (zlib's 6) and with level 1;
JPEG with Calotype's quality, once with Calotype's subsampling of colour and once with Pillow's own;
WebP with Calotype's quality. Both read what Pillow wrote. Before anything is timed, what was
written is read by both and compared. What is timed is the processor time of all threads, which is
what a busy server pays, and which other programs on the machine disturb the least.
"""

import argparse
import io
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import pyvips
from PIL import Image, JpegImagePlugin, features

import bounds
import measure
import pictures
import report
from calotype.codec.decode import decode
from calotype.codec.encode import EncodeOptions, encode
from calotype.domain.image import Image as Picture
from calotype.domain.request import ImageFormat
from testset import DATA, Photos, Pixels, mosaic, photographs

LARGE_PX = (3000, 4000)
ANY_SIZE = 2**62
LEAST_PNG_RATIO = 4.0
OPTIONS = EncodeOptions()

Encode = Callable[[Pixels], bytes]
Decode = Callable[[bytes], Pixels]


@dataclass(frozen=True, slots=True)
class Written:
    """What one contestant wrote."""

    name: str
    size_bytes: int
    psnr_db: float
    """Over all pictures; infinite if nothing is lost."""


def main() -> None:
    """Compare, time, and publish."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--formats", default="png,jpeg,webp", help="separated by commas")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of Kodak24")
    told = parser.parse_args()
    photos = photographs(told.data)
    groups = groups_of(photos)
    tables: list[report.Table] = []
    aims: list[bounds.Bound] = []
    for kind in cast("list[ImageFormat]", told.formats.split(",")):
        for words, group in groups.items():
            tables.append(writing(kind, words, group, told.rounds, aims))
        tables.append(reading(kind, groups, told.rounds))
    report.publish(
        report.Report(
            name="codecs",
            method=f"All contestants in turn in one process, {told.rounds} rounds after one to "
            "warm up. Seconds are processor time, all threads together; they and sizes are sums "
            "over the pictures; ratios are medians of the paired rounds. PSNR is that of RGB.",
            tables=tables,
            aims=aims,
            versions=versions(),
        )
    )


def groups_of(photos: Photos) -> Mapping[str, Sequence[Pixels]]:
    """Return the pictures one by one, and one large picture made of them."""
    h, w = LARGE_PX
    large = f"one of {h * w / 1e6:.0f} megapixels, a mosaic of them"
    return {photos.words: [one.pixels for one in photos.all], large: [mosaic(photos, h, w)]}


def encoders(format: ImageFormat, sample: Pixels) -> dict[str, Encode]:
    """Return who writes a format; the first is ours, the second what it is compared with."""
    ours: dict[str, Encode] = {"Calotype": partial(_ours, format=format)}
    if format == "png":
        return ours | {
            "Pillow, default": partial(_pillow, format=format),
            "Pillow, level 1": partial(_pillow, format=format, compress_level=1),
        }
    if format == "webp":
        quality = OPTIONS.webp_quality
        return ours | {f"Pillow, {quality}": partial(_pillow, format=format, quality=quality)}
    quality, sampling = OPTIONS.jpeg_quality, sampling_of(_ours(sample, format))
    alike = partial(_pillow, format=format, quality=quality, subsampling=sampling)
    return ours | {
        f"Pillow, {quality}, colour sampled as ours": alike,
        f"Pillow, {quality}": partial(_pillow, format=format, quality=quality),
    }


def _ours(pixels: Pixels, format: ImageFormat) -> bytes:
    return encode(Picture(pixels), format, OPTIONS)


def _pillow(pixels: Pixels, *, format: ImageFormat, **options: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format, **options)
    return file.getvalue()


def sampling_of(data: bytes) -> int:
    """Return how a JPEG samples colour, as Pillow's ``subsampling`` names it."""
    with Image.open(io.BytesIO(data)) as image:
        return int(JpegImagePlugin.get_sampling(image))


def decode_ours(data: bytes) -> Pixels:
    """Read as the server does."""
    return decode(data, ANY_SIZE).image.pixels


DECODERS: Mapping[str, Decode] = {"Calotype": decode_ours, "Pillow": pictures.pixels_of}


def writing(
    format: ImageFormat,
    words: str,
    group: Sequence[Pixels],
    rounds: int,
    aims: list[bounds.Bound],
) -> report.Table:
    """Compare what is written, then time it; what is promised goes to ``aims``."""
    print(f"writing {format}: {words}", flush=True)
    contestants = encoders(format, group[0])
    written = [check(format, name, work, group) for name, work in contestants.items()]
    works = {name: partial(_each, work, group) for name, work in contestants.items()}
    timings = measure.side_by_side(works, rounds, time.process_time)
    ratios = [report.paired(timing.seconds, timings[0].seconds) for timing in timings]
    shares = [one.size_bytes / written[0].size_bytes for one in written]
    rows = [
        (
            one.name,
            timing.median_s,
            ratio if number else None,
            one.size_bytes / 1e6,
            f"{share:.3f}" if number else None,
            "equal" if np.isinf(one.psnr_db) else f"{one.psnr_db:.2f}",
        )
        for number, (one, timing, ratio, share) in enumerate(
            zip(written, timings, ratios, shares, strict=True)
        )
    ]
    if format == "png":
        what = f"writing PNG beside Pillow's default, {words}"
        aims.append(bounds.at_least(f"{what}: speed", ratios[1].median, LEAST_PNG_RATIO, "x"))
        aims.append(bounds.at_most(f"{what}: size", 100 / shares[1], 100.0, "%"))
    columns = ("", "s", "Calotype is faster by (spread)", "MB", "times Calotype's size", "PSNR, dB")
    return report.Table(f"Writing {format.upper()}: {words}", columns, tuple(rows))


def check(format: ImageFormat, name: str, work: Encode, group: Sequence[Pixels]) -> Written:
    """Read what was written by both; PSNR is that of what Pillow reads."""
    size_bytes, squares, count = 0, 0.0, 0
    for pixels in group:
        data = work(pixels)
        size_bytes += len(data)
        for read in (decode_ours, pictures.pixels_of):
            found = read(data)
            if found.shape != pixels.shape or (
                format == "png" and not np.array_equal(found, pixels)
            ):
                raise SystemExit(f"{name} wrote a {format} file with another picture")
        squares += float(np.square(found.astype(np.float32) - pixels).sum(dtype=np.float64))
        count += pixels.size
    psnr_db = float(10 * np.log10(255**2 * count / squares)) if squares else float("inf")
    return Written(name, size_bytes, psnr_db)


def reading(
    format: ImageFormat, groups: Mapping[str, Sequence[Pixels]], rounds: int
) -> report.Table:
    """Time the reading of what Pillow wrote with the options it is compared by."""
    rows = []
    for words, group in groups.items():
        print(f"reading {format}: {words}", flush=True)
        write = list(encoders(format, group[0]).values())[1]
        files = [write(pixels) for pixels in group]
        works = {name: partial(_each, read, files) for name, read in DECODERS.items()}
        ours, theirs = measure.side_by_side(works, rounds, time.process_time)
        ratio = report.paired(theirs.seconds, ours.seconds)
        rows.append((words, ours.median_s, theirs.median_s, ratio, largest_difference(files)))
    columns = (
        "",
        "Calotype, s",
        "Pillow, s",
        "Calotype is faster by (spread)",
        "differ by, of 255",
    )
    return report.Table(f"Reading {format.upper()}", columns, tuple(rows))


def largest_difference(files: Sequence[bytes]) -> int:
    """Return how far what both read is apart."""
    apart = [decode_ours(data).astype(np.int16) - pictures.pixels_of(data) for data in files]
    return max(int(np.abs(one).max()) for one in apart)


def _each(work: Callable[..., object], group: Sequence[object]) -> None:
    for one in group:
        work(one)


def versions() -> dict[str, str]:
    """Return those of both, and of the libraries inside."""
    inside = {
        f"Pillow's {name}": str(features.version(name))
        for name in ("libjpeg_turbo", "zlib", "webp")
    }
    vips = ".".join(str(pyvips.version(part)) for part in range(3))
    return report.versions("calotype", "pyvips", "pillow") | inside | {"libvips": vips}


if __name__ == "__main__":
    main()
