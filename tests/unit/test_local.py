import gc
import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import calotype
from calotype import Calotype, Picture
from calotype.atomic import write_atomically
from calotype.domain.image import Size
from calotype.errors import (
    BadImageError,
    InvalidParameterError,
    InvalidSettingError,
    MissingWeightsError,
    ShuttingDownError,
    UnknownModelError,
)
from unit.interrupt import interrupted

CATALOG = """
[[model]]
id = "test/echo"
alias = "echo"
backend = "fake"
[model.parameters.invert]
type = "boolean"
default = false

[[model]]
id = "test/pair"
backend = "fake"
[model.parameters.style_image]
type = "image"
required = true

[[model]]
id = "test/seeded"
backend = "fake"
[model.parameters.seed]
type = "integer"

[[model]]
id = "test/slow"
backend = "fake"
[model.options]
steps = 1000
step_s = 0.01

[[model]]
id = "test/unloadable"
backend = "fake"
[model.options]
fail = "load"
"""

Pixels = NDArray[np.uint8]


@pytest.fixture
def options(tmp_path: Path) -> dict[str, object]:
    (tmp_path / "catalog.toml").write_text(CATALOG)
    return {
        "data_dir": tmp_path / "data",
        "cache_dir": tmp_path / "cache",
        "catalog_file": tmp_path / "catalog.toml",
    }


@pytest.fixture
def local(options: dict[str, object]) -> Iterator[Calotype]:
    with Calotype(**options) as made:
        yield made


@pytest.fixture
def pixels() -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)


def test_an_array_goes_in_and_comes_out(local: Calotype, pixels: Pixels) -> None:
    picture = local.run("echo", pixels)
    assert (picture.format, picture.model_id, picture.seed) == ("png", "test/echo", None)
    assert picture.size == Size(height_px=6, width_px=8)
    assert np.array_equal(picture.pixels, pixels)
    assert np.array_equal(local.run("echo", pixels, invert=True).pixels, 255 - pixels)


def test_transparency_is_kept(local: Calotype) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 4), dtype=np.uint8)
    assert np.array_equal(local.run("echo", pixels).pixels, pixels)


def test_a_view_with_odd_strides(local: Calotype, pixels: Pixels) -> None:
    assert np.array_equal(local.run("echo", pixels[::-2, ::2]).pixels, pixels[::-2, ::2])


def test_files_and_bytes(local: Calotype, pixels: Pixels, tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    Image.fromarray(pixels).save(file)
    for source in (file, str(file), file.read_bytes(), bytearray(file.read_bytes())):
        picture = local.run("echo", source)  # type: ignore[arg-type]
        assert picture.format == "jpeg"
    assert local.run("echo", file, format="webp").format == "webp"
    assert local.run("echo", file, format="jpg").format == "jpeg"


def test_pictures_as_parameters(local: Calotype, pixels: Pixels, tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    Image.fromarray(pixels).save(file)
    for style in (file, str(file), file.read_bytes(), pixels):
        local.run("test/pair", pixels, style_image=style)
    with pytest.raises(FileNotFoundError):
        local.run("test/pair", pixels, style_image="gone.png")


def test_the_size_asked_for(local: Calotype, pixels: Pixels) -> None:
    picture = local.run("echo", pixels, target_size={"width": 5, "height": 7})
    assert picture.pixels.shape == (7, 5, 3)
    assert picture.applied["target_size"] == Size(height_px=7, width_px=5)


def test_what_was_applied_is_the_caller_s_own(local: Calotype, pixels: Pixels) -> None:
    """Requests without parameters share what they run with."""
    first = local.run("echo", pixels, format="png")
    assert isinstance(first.applied, dict)
    first.applied["invert"] = True
    second = local.run("echo", pixels, format="png")
    assert second.applied["invert"] is False
    assert np.array_equal(second.pixels, first.pixels)


def test_what_is_ignored_is_told_or_refused(local: Calotype, pixels: Pixels) -> None:
    assert local.run("echo", pixels, style="x", prompt=None).warnings == (
        "style was ignored: echo takes no style",
    )
    with pytest.raises(InvalidParameterError, match="style is refused"):
        local.run("echo", pixels, style="x", strict=True)


def test_a_chain(local: Calotype, pixels: Pixels) -> None:
    steps: list[tuple[int, int]] = []
    picture = local.run_with(
        "echo+test/pair+test/echo",
        pixels,
        {"style_image": pixels, "echo#2": {"invert": True}},
        on_progress=lambda *step: steps.append(step),
    )
    assert np.array_equal(picture.pixels, 255 - pixels)
    assert picture.model_id == "test/echo+test/pair+test/echo"
    assert list(picture.applied) == ["echo#1", "test/pair", "echo#2"]
    assert steps == sorted(steps)
    assert steps[-1] == (3000, 3000)


def test_a_picture_for_one_stage_of_a_chain(local: Calotype, pixels: Pixels) -> None:
    table = {"test/pair": {"style_image": pixels}}
    picture = local.run_with("echo+test/pair", pixels, table, strict=True)
    assert picture.warnings == ()
    with pytest.raises(InvalidParameterError, match=r"^test/pair\.style_image is required"):
        local.run("echo+test/pair", pixels)


def test_the_seed_is_told(local: Calotype, pixels: Pixels) -> None:
    assert local.run("test/seeded", pixels, seed=7).seed == 7
    assert local.run("test/seeded", pixels).seed is not None


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        None,
        [[1, 2]],
    ],
)
def test_what_is_no_picture(local: Calotype, image: object) -> None:
    with pytest.raises(InvalidParameterError, match="image must be bytes, a path, or an array"):
        local.run("echo", image)  # type: ignore[arg-type]


def test_wrong_requests(local: Calotype, pixels: Pixels) -> None:
    with pytest.raises(UnknownModelError):
        local.run("nope", pixels)
    with pytest.raises(BadImageError):
        local.run("echo", b"nonsense")
    with pytest.raises(InvalidParameterError, match="format must be one of png, jpeg, webp"):
        local.run("echo", pixels, format="bmp")
    with pytest.raises(MissingWeightsError):
        local.load("test/unloadable")


def test_wrong_settings(options: dict[str, object]) -> None:
    with pytest.raises(InvalidSettingError, match="unknown setting 'colour'"):
        Calotype(colour="red")
    with pytest.raises(InvalidSettingError):
        Calotype(**options, threads=-1)


def test_the_limits_are_those_of_a_program_not_a_server(
    options: dict[str, object], pixels: Pixels
) -> None:
    with Calotype(**options, max_pixels=10) as small, pytest.raises(Exception, match="48 pixels"):
        small.run("echo", pixels)


def test_progress_is_told(local: Calotype, pixels: Pixels) -> None:
    steps: list[tuple[int, int]] = []
    local.run("echo", pixels, on_progress=lambda done, total: steps.append((done, total)))
    assert steps == [(0, 1), (1, 1)]


def test_an_interrupt_stops_the_model(
    local: Calotype, pixels: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    started = threading.Event()

    def step(done: int, total: int) -> None:
        del total
        steps.append(done)
        started.set()

    with interrupted(monkeypatch, started, 5):
        local.run("test/slow", pixels, on_progress=step)
    local.run("echo", pixels)  # the slow job holds the one device until it has stopped
    assert len(steps) < 100


def test_threads_share_it(local: Calotype, pixels: Pixels) -> None:
    results: dict[int, Pixels] = {}

    def run(number: int) -> None:
        results[number] = local.run("echo", np.full((4, 4, 3), number, np.uint8)).pixels

    threads = [threading.Thread(target=run, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all((results[number] == number).all() for number in range(16))


def test_the_models(local: Calotype) -> None:
    assert "test/echo" in [spec.id for spec in local.models()]
    assert local.model("echo").id == "test/echo"
    assert local.model("").alias == "upscale"


def test_after_the_end_nothing_runs(options: dict[str, object], pixels: Pixels) -> None:
    local = Calotype(**options)
    local.close()
    local.close()
    with pytest.raises(ShuttingDownError):
        local.run("echo", pixels)


def test_one_that_is_forgotten_ends_its_thread(options: dict[str, object], pixels: Pixels) -> None:
    before = threading.active_count()
    local = Calotype(**options)
    local.run("echo", pixels)
    del local
    gc.collect()
    for _ in range(200):
        if threading.active_count() <= before:
            break
        time.sleep(0.01)
    assert not [thread for thread in threading.enumerate() if thread.name == "calotype"]


def test_saving_is_whole_or_not_at_all(
    local: Calotype, pixels: Pixels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = local.run("echo", pixels)
    target = tmp_path / "out" / "a.any"
    target.parent.mkdir()
    picture.save(target)
    assert target.read_bytes() == picture.body
    assert list(target.parent.iterdir()) == [target]

    def fail(self: Path, other: Path) -> Path:
        raise OSError(5, "told to fail", str(other))

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="told to fail"):
        write_atomically(target, b"new")
    assert target.read_bytes() == picture.body
    assert list(target.parent.iterdir()) == [target]


def test_a_saved_file_can_be_read_by_others(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", b"x")
    (tmp_path / "b").write_bytes(b"x")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_what_the_package_exports() -> None:
    assert calotype.__all__ == ["Calotype", "Picture", "SavedPicture", "__version__"]
    assert calotype.__version__.count(".") == 2
    assert calotype.Picture is Picture
    with pytest.raises(AttributeError, match="no attribute 'colour'"):
        calotype.colour  # noqa: B018


def test_another_library_opens_what_is_written(local: Calotype, pixels: Pixels) -> None:
    with Image.open(io.BytesIO(local.run("echo", pixels).body)) as image:
        assert image.size == (8, 6)
