"""What is read and written row by row is what is read and written whole."""

import errno
import gc
import io
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import pyvips
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageCms

from calotype.codec.decode import decode
from calotype.codec.encode import EncodeOptions, encode
from calotype.codec.metadata import Metadata
from calotype.codec.strip import RowReader, RowWriter
from calotype.domain.image import Image, Size
from calotype.domain.request import ImageFormat
from calotype.errors import BadImageError, PayloadTooLargeError
from models import photo

LIMIT = 10_000_000
ORIENTATION, MAKE = 0x0112, 0x010F
PHOTO = Pillow.fromarray(photo(211, 173))


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("rows-")]


def turned(orientation: int) -> Pillow.Exif:
    exif = Pillow.Exif()
    exif[ORIENTATION] = orientation
    return exif


def deep() -> Pillow.Image:
    return Pillow.fromarray(np.arange(211 * 173, dtype=np.uint16).reshape(211, 173))


FILES: dict[str, tuple[Pillow.Image, str, dict[str, object]]] = {
    "jpeg": (PHOTO, "JPEG", {}),
    "small colours": (PHOTO, "JPEG", {"subsampling": "4:2:0", "quality": 70}),
    "progressive": (PHOTO, "JPEG", {"progressive": True}),
    "gray": (PHOTO.convert("L"), "JPEG", {}),
    "cmyk": (PHOTO.convert("CMYK"), "JPEG", {}),
    "turned": (PHOTO, "JPEG", {"exif": turned(6)}),
    "mirrored": (PHOTO, "JPEG", {"exif": turned(2)}),
    "png": (PHOTO, "PNG", {}),
    "palette": (PHOTO.quantize(50), "PNG", {}),
    "16 bits": (deep(), "PNG", {}),
    "tiff": (PHOTO, "TIFF", {}),
    "packed": (PHOTO, "TIFF", {"compression": "tiff_lzw"}),
    "webp": (PHOTO, "WEBP", {}),
    "gif": (PHOTO.quantize(50), "GIF", {}),
    "avif": (PHOTO, "AVIF", {}),
}


def written(name: str, path: Path) -> bytes:
    picture, kind, options = FILES[name]
    picture.save(path, kind, **options)
    return path.read_bytes()


def read(path: Path, step: int) -> NDArray[np.uint8]:
    with path.open("rb", buffering=0) as file, RowReader(file, LIMIT) as reader:
        height = reader.header.size.height_px
        rows = [reader.take(min(step, height - top)) for top in range(0, height, step)]
    return np.concatenate(rows)


@pytest.mark.parametrize("step", [1, 64, 1000])
@pytest.mark.parametrize("name", FILES)
def test_rows_are_those_of_the_whole_picture(name: str, step: int, tmp_path: Path) -> None:
    body = written(name, tmp_path / "a")
    assert np.array_equal(read(tmp_path / "a", step), decode(body, LIMIT).image.pixels)


def test_a_profile_is_applied(tmp_path: Path) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = srgb.replace(b"rXYZ", b"....", 1).replace(b"bXYZ", b"rXYZ", 1)
    PHOTO.save(tmp_path / "a", "PNG", icc_profile=swapped.replace(b"....", b"bXYZ", 1))
    whole = decode((tmp_path / "a").read_bytes(), LIMIT).image.pixels
    assert not np.array_equal(whole, np.asarray(PHOTO))
    assert np.array_equal(read(tmp_path / "a", 50), whole)


@pytest.mark.parametrize("name", ["jpeg", "png", "tiff", "packed", "turned", "webp"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_what_is_cut_off_is_an_error(name: str, share: float, tmp_path: Path) -> None:
    body = written(name, tmp_path / "a")
    (tmp_path / "a").write_bytes(body[: int(len(body) * share)])
    with pytest.raises(BadImageError, match="is cut off or damaged"):
        read(tmp_path / "a", 40)


def test_what_is_no_picture_or_too_large(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"nonsense")
    with (tmp_path / "a").open("rb", buffering=0) as file, pytest.raises(BadImageError):
        RowReader(file, LIMIT)
    written("png", tmp_path / "a")
    with (tmp_path / "a").open("rb", buffering=0) as file, pytest.raises(PayloadTooLargeError):
        RowReader(file, 1000)


@pytest.mark.parametrize("name", ["jpeg", "png", "turned"])
def test_reading_can_end_early(name: str, tmp_path: Path) -> None:
    large = PHOTO.resize((3000, 3000))
    large.save(tmp_path / "a", FILES[name][1])
    with (tmp_path / "a").open("rb", buffering=0) as file, RowReader(file, LIMIT) as reader:
        reader.take(10)


def test_what_is_not_needed_any_more_is_free_without_the_garbage_collector(tmp_path: Path) -> None:
    """A cycle kept the file open."""
    written("jpeg", tmp_path / "a")
    gc.collect()
    gc.disable()
    try:
        with (tmp_path / "a").open("rb", buffering=0) as file:
            reader = RowReader(file, LIMIT)
            ref = weakref.ref(reader)
            del reader
            assert ref() is None
            with RowReader(file, LIMIT) as reader:
                reader.take(10)
            ref = weakref.ref(reader)
            del reader
            assert ref() is None
    finally:
        gc.enable()


def write(
    pixels: NDArray[np.uint8], format: ImageFormat, metadata: Metadata | None = None, step: int = 50
) -> bytes:
    file, (height, width, _) = io.BytesIO(), pixels.shape
    size = Size(height_px=height, width_px=width)
    with RowWriter(file, size, format, EncodeOptions(), metadata) as writer:
        for top in range(0, height, step):
            writer.put(pixels[top : top + step])
        writer.finish()
    return file.getvalue()


@pytest.mark.parametrize("format", ["png", "jpeg"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (700, 3), (211, 173), (1000, 900)])
def test_a_file_is_that_of_the_whole_picture(format: ImageFormat, shape: tuple[int, int]) -> None:
    pixels = photo(*shape)
    body, whole = write(pixels, format), encode(Image(pixels), format, EncodeOptions())
    with Pillow.open(io.BytesIO(body)) as one, Pillow.open(io.BytesIO(whole)) as other:
        assert (one.format, one.mode, one.size) == (other.format, other.mode, other.size)
        assert np.array_equal(np.asarray(one), np.asarray(other))
    assert abs(len(body) - len(whole)) <= 100 + len(whole) // 1000


CAMERA = turned(1)
CAMERA[MAKE] = "Calotype"


@pytest.mark.parametrize("format", ["png", "jpeg"])
@pytest.mark.parametrize(
    "metadata",
    [
        Metadata(exif=CAMERA.tobytes()),
        Metadata(exif=b"rubbish"),
        Metadata(xmp=b"\xff" * 200_000),
        Metadata(iptc=b"\0" * 100_000),
    ],
    ids=["whole", "exif", "xmp", "iptc"],
)
def test_metadata_is_kept_where_it_can_be(format: ImageFormat, metadata: Metadata) -> None:
    pixels = photo(90, 80)
    body = write(pixels, format, metadata)
    assert body == encode(Image(pixels), format, EncodeOptions(), metadata)
    with Pillow.open(io.BytesIO(body)) as image:
        assert (image.getexif().get(MAKE) == "Calotype") == (metadata.exif == CAMERA.tobytes())


@pytest.mark.parametrize("format", ["png", "jpeg"])
def test_a_full_disk_is_the_error_it_is(format: ImageFormat) -> None:
    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    pixels = np.random.default_rng(0).integers(0, 256, (3000, 1000, 3), dtype=np.uint8)
    size = Size(height_px=3000, width_px=1000)

    def run() -> None:
        with RowWriter(Full(), size, format, EncodeOptions()) as writer:
            for top in range(0, 3000, 100):
                writer.put(pixels[top : top + 100])
            writer.finish()

    with pytest.raises(OSError, match="No space left") as caught:
        run()
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize("format", ["png", "jpeg"])
def test_writing_can_end_early(format: ImageFormat) -> None:
    size = Size(height_px=3000, width_px=1000)
    with RowWriter(io.BytesIO(), size, format, EncodeOptions()) as writer:
        writer.put(photo(100, 1000))


def test_rows_that_are_missing_are_an_error() -> None:
    size = Size(height_px=100, width_px=80)

    def run() -> None:
        with RowWriter(io.BytesIO(), size, "png", EncodeOptions()) as writer:
            writer.put(photo(60, 80))
            writer.finish()

    with pytest.raises(pyvips.Error):
        run()
