"""Huge pictures run strip by strip: the same pixels, and nothing left behind."""

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from calotype import Calotype, SavedPicture, strips
from calotype.assembly import assemble
from calotype.backends import fake, ladder
from calotype.backends.tiled import Network, TiledBackend
from calotype.codec.decode import Header
from calotype.codec.strip import RowReader, RowWriter
from calotype.domain.hooks import Hooks
from calotype.domain.image import Image as Made
from calotype.domain.image import Size
from calotype.domain.model import AUTO, ModelSpec, ParamSpec
from calotype.domain.params import apply_params
from calotype.domain.request import ImageFormat, ImageRequest, Job, Stage
from calotype.domain.stage import strip_hooks
from calotype.domain.tiling import TILE, Joiner
from calotype.errors import (
    BadImageError,
    BadOutputError,
    InvalidParameterError,
    ModelCrashedError,
    OutOfMemoryError,
    PayloadTooLargeError,
    ShuttingDownError,
)
from calotype.local import LOCAL
from calotype.settings import load_settings
from calotype.strips import Strips, Written
from models import photo
from unit.interrupt import interrupted

CATALOG = """
[[model]]
id = "test/echo"
alias = "echo"
backend = "fake"
scale = 2
tile = 64
[model.parameters.invert]
type = "boolean"
default = false

[[model]]
id = "test/undeclared"
backend = "fake"
tile = 64

[[model]]
id = "test/slow"
backend = "fake"
tile = 64
[model.options]
steps = 1000
step_s = 0.01

[[model]]
id = "test/large"
backend = "fake"
tile = 64
[model.options]
fail = "large"
bad = 7

[[model]]
id = "test/failing"
backend = "fake"
tile = 64
[model.options]
fail = "crash"
bad = 7
"""

Pixels = NDArray[np.uint8]
Save = Callable[..., Path]
RUN = Strips.run
FDS = Path("/proc/self/fd")


@pytest.fixture(autouse=True)
def every_picture_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strips, "LARGE_PIXELS", 1)
    monkeypatch.setattr(ladder, "LARGE_PIXELS", 0)


@pytest.fixture(autouse=True)
def every_file_is_run_in_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or else ``run_file`` would be compared with the path that it fell back to."""

    async def run(self: Strips, request: ImageRequest, source: Path, target: Path) -> Written:
        written = await RUN(self, request, source, target)
        assert written is not None, "it was not run in strips"
        return written

    monkeypatch.setattr(Strips, "run", run)


@pytest.fixture
def may_be_whole(every_file_is_run_in_strips: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What doesn't go in strips is the matter of the test."""
    monkeypatch.setattr(Strips, "run", RUN)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("rows-")]


def network(path: Path, shape: list[int | str], scale: int = 1) -> None:
    """Write a network of two convolutions with random weights, whose values depend on places."""
    rng, kernels = np.random.default_rng(0), []
    for name, size in (("a", (8, 3, 5, 5)), ("b", (3, 8, 3, 3))):
        kernels.append(numpy_helper.from_array(rng.normal(0, 0.1, size).astype(np.float32), name))
    scales = np.array([1, 1, scale, scale], np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["m"], pads=[2] * 4),
        helper.make_node("Resize", ["m", "", "scales"], ["large"], mode="nearest"),
        helper.make_node("Conv", ["large", "b"], ["y"], pads=[1] * 4),
    ]
    out = [1, 3, "oh", "ow"]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, out)],
        [*kernels, numpy_helper.from_array(scales, "scales")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.save(model, str(path))


@pytest.fixture
def options(tmp_path: Path) -> dict[str, object]:
    (tmp_path / "catalog.toml").write_text(CATALOG)
    models = tmp_path / "models"
    models.mkdir()
    network(models / "net.onnx", [1, 3, "h", "w"], scale=2)
    (models / "net.toml").write_text("tile = 64\noverlap = 16\nblend = 8\nalign = 4\n")
    return {
        "data_dir": str(tmp_path / "data"),
        "cache_dir": str(tmp_path / "cache"),
        "models_dir": str(models),
        "catalog_file": str(tmp_path / "catalog.toml"),
        "precision": "f32",
    }


@pytest.fixture
def local(options: dict[str, object]) -> Iterator[Calotype]:
    with Calotype(**options) as made:
        yield made


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Write a picture to a file."""

    def write(height: int, width: int, name: str = "in.png", **how: object) -> Path:
        Image.fromarray(photo(height, width)).save(tmp_path / name, **how)  # type: ignore[arg-type]
        return tmp_path / name

    return write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder for results."""
    (tmp_path / "results").mkdir()
    return tmp_path / "results"


def opened(path: Path) -> Pixels:
    with Image.open(path) as image:
        return np.asarray(image)


def in_strips(options: dict[str, object], source: Path, target: Path, **named: object) -> bool:
    """Tell whether a picture is run strip by strip, by asking for just that."""
    named = {"model_id": "echo", "formats": ("png",), "wait_for_model": True, **named}

    async def run() -> bool:
        services = assemble(load_settings({**LOCAL, **options}))
        await services.start()
        try:
            request = ImageRequest(upload=b"", use_cache=False, **named)  # type: ignore[arg-type]
            return await RUN(services.strips, request, source, target) is not None
        finally:
            await services.stop()

    return asyncio.run(run())


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize(
    "size",
    [
        (1, 1), (40, 30), (64, 64), (65, 64), (66, 200), (112, 70), (113, 70), (160, 20),
        (161, 100), (255, 65), (300, 141),
    ],
)  # fmt: skip
def test_the_pixels_are_those_of_the_ordinary_path(
    local: Calotype, save: Save, tmp_path: Path, size: tuple[int, int], suffix: str
) -> None:
    source, target = save(*size), tmp_path / f"out.{suffix}"
    told: list[tuple[int, int]] = []
    expected_told: list[tuple[int, int]] = []
    saved = local.run_file("net", source, target, on_progress=lambda *step: told.append(step))
    picture = local.run(
        "net", source, format=suffix, on_progress=lambda *step: expected_told.append(step)
    )
    picture.save(tmp_path / f"expected.{suffix}")
    assert np.array_equal(opened(target), opened(tmp_path / f"expected.{suffix}"))
    assert told == sorted(told)
    assert sorted(set(told)) == expected_told
    assert saved == SavedPicture(
        path=target,
        size=picture.size,
        format=picture.format,
        applied=picture.applied,
        warnings=picture.warnings,
        seed=picture.seed,
        model_id=picture.model_id,
        inference_s=saved.inference_s,
    )


def test_a_model_that_comes_along(local: Calotype, save: Save, tmp_path: Path) -> None:
    source = save(300, 270, "in.jpg")
    local.run_file("upscale-fast", source, tmp_path / "out.png", {"scale": 2})
    picture = local.run("upscale-fast", source, scale=2, format="png")
    assert np.array_equal(opened(tmp_path / "out.png"), picture.pixels)


def test_in_the_models_own_process(options: dict[str, object], save: Save, tmp_path: Path) -> None:
    source = save(200, 100)
    with Calotype(**options, isolation="process") as local:
        local.run_file("net", source, tmp_path / "out.png")
        expected = local.run("net", source).pixels
    assert np.array_equal(opened(tmp_path / "out.png"), expected)
    assert in_strips(
        {**options, "isolation": "process"}, source, tmp_path / "out.png", model_id="net"
    )


def test_what_is_told_of_the_picture(local: Calotype, tmp_path: Path) -> None:
    deep = np.arange(200 * 100, dtype=np.uint16).reshape(200, 100)
    Image.fromarray(deep).save(tmp_path / "in.png")
    saved = local.run_file("echo", tmp_path / "in.png", tmp_path / "out.png", {"prompt": "x"})
    picture = local.run("echo", tmp_path / "in.png", prompt="x")
    assert saved.warnings == picture.warnings
    assert len(saved.warnings) == 2
    assert np.array_equal(opened(tmp_path / "out.png"), picture.pixels)


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_metadata(
    options: dict[str, object], save: Save, tmp_path: Path, suffix: str, *, keep: bool
) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Calotype", 6
    source, target = save(200, 100, "in.jpg", exif=exif), tmp_path / f"out.{suffix}"
    with Calotype(**options, keep_metadata=keep) as local:
        local.run_file("echo", source, target)
        picture = local.run("echo", source, format=suffix)
        picture.save(tmp_path / f"expected.{suffix}")
    with Image.open(target) as one, Image.open(tmp_path / f"expected.{suffix}") as other:
        assert dict(one.getexif()) == dict(other.getexif())
        assert (one.getexif().get(0x010F) == "Calotype") == keep
        assert one.size == (400, 200)
        assert np.array_equal(np.asarray(one), np.asarray(other))


def test_folders_are_made_and_an_old_file_is_replaced(
    local: Calotype, save: Save, tmp_path: Path
) -> None:
    target = tmp_path / "x" / "y" / "out.png"
    local.run_file("echo", save(100, 70), target)
    local.run_file("echo", save(130, 70), target, {"invert": True})
    assert np.array_equal(opened(target)[::2, ::2], 255 - photo(130, 70))
    assert list(target.parent.iterdir()) == [target]


def test_the_suffix_names_the_format(local: Calotype, save: Save, tmp_path: Path) -> None:
    source = save(100, 70)
    assert local.run_file("echo", source, tmp_path / "a.JPG").format == "jpeg"
    assert local.run_file("echo", source, tmp_path / "a.bin", format="png").format == "png"
    for name in ("a.tif", "a"):
        with pytest.raises(InvalidParameterError, match="format must be one of png, jpeg, webp"):
            local.run_file("echo", source, tmp_path / name)


@pytest.mark.usefixtures("may_be_whole")
def test_webp_is_written_whole(local: Calotype, save: Save, tmp_path: Path) -> None:
    assert local.run_file("echo", save(100, 70), tmp_path / "a.webp").format == "webp"


@pytest.mark.parametrize("name", ["in.jpg", "in.png", "in.tif"])
def test_a_file_that_is_cut_off_leaves_no_result(
    local: Calotype, save: Save, folder: Path, name: str
) -> None:
    source = save(400, 300, name)
    source.write_bytes(source.read_bytes()[: source.stat().st_size * 3 // 4])
    with pytest.raises(BadImageError, match="is cut off or damaged"):
        local.run_file("echo", source, folder / "out.png")
    assert not list(folder.iterdir())


@pytest.mark.usefixtures("may_be_whole")
def test_wrong_requests_leave_no_result(local: Calotype, save: Save, tmp_path: Path) -> None:
    source, target = save(200, 100), tmp_path / "out" / "a.png"
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(BadImageError):
        local.run_file("echo", tmp_path / "text.png", target)
    with pytest.raises(InvalidParameterError, match="invert must be"):
        local.run_file("echo", source, target, {"invert": "blue"})
    with pytest.raises(InvalidParameterError, match="style is refused"):
        local.run_file("echo", source, target, {"style": 1}, strict=True)
    with pytest.raises(FileNotFoundError):
        local.run_file("echo", tmp_path / "gone.png", target)
    with pytest.raises(IsADirectoryError):
        local.run_file("echo", tmp_path, target)
    assert not target.parent.exists()


def test_the_limits_hold(options: dict[str, object], save: Save, tmp_path: Path) -> None:
    source, target = save(200, 100), tmp_path / "out.png"
    with (
        Calotype(**options, max_pixels=19_999) as local,
        pytest.raises(PayloadTooLargeError, match="image has 20000 pixels"),
    ):
        local.run_file("echo", source, target)
    with Calotype(**options, max_output_pixels=79_999) as local:
        for model in ("echo", "net"):  # the scale of one is known before, of the other after
            with pytest.raises(PayloadTooLargeError, match="the result would be 200x400"):
                local.run_file(model, source, target)
    assert not target.exists()


def test_a_model_that_fails_midway_leaves_no_result(
    local: Calotype, folder: Path, tmp_path: Path
) -> None:
    pixels = photo(200, 100)
    pixels[:, 0, 0] = 0
    pixels[136, 0, 0] = 7  # the first value of the last strip
    Image.fromarray(pixels).save(tmp_path / "in.png")
    with pytest.raises(ModelCrashedError):
        local.run_file("test/failing", tmp_path / "in.png", folder / "out.png")
    assert not list(folder.iterdir())


def test_an_interrupt_stops_everything(
    local: Calotype, save: Save, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if Ctrl-C came while the third strip is run."""
    source, steps = save(500, 100), list[int]()
    reached = threading.Event()

    def step(done: int, total: int) -> None:
        steps.append(done)
        if done > 2 * total // 10:
            reached.set()

    with interrupted(monkeypatch, reached, 60):
        local.run_file("test/slow", source, folder / "out.png", on_progress=step)
    stopped_at = steps[-1]
    local.run_file("echo", source, folder / "other.png")  # once the slow job has stopped
    assert steps[-1] - stopped_at < 100
    assert list(folder.iterdir()) == [folder / "other.png"]


def rows_of(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that fills with how often each strip's tile is halved, failures included."""
    run, seen = fake.FakeBackend.run, list[int]()

    def spied(self: fake.FakeBackend, jobs: Sequence[Job]) -> list[Made]:
        seen.extend(job.shrink for job in jobs if job.is_strip)
        return run(self, jobs)

    monkeypatch.setattr(fake.FakeBackend, "run", spied)
    return seen


def with_first_value(tmp_path: Path, row: int) -> Path:
    """Save a picture, of whose strips only the one that starts at a row begins with a 7."""
    pixels = photo(300, 70)
    pixels[:, 0, 0] = 0
    pixels[row, 0, 0] = 7
    Image.fromarray(pixels).save(tmp_path / "in.png")
    return tmp_path / "in.png"


@pytest.mark.parametrize(
    ("row", "shrinks"), [(0, [0, 1, 1, 1, 1, 1, 1]), (96, [0, 0, 0, 1, 1, 1, 1])]
)
def test_for_want_of_memory_it_goes_on_in_strips_with_smaller_tiles(
    local: Calotype,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    row: int,
    shrinks: list[int],
) -> None:
    """It went whole through the pipeline, which takes more; or on without a word."""
    seen, source = rows_of(monkeypatch), with_first_value(tmp_path, row)
    saved = local.run_file("test/large", source, tmp_path / "out.png")
    assert seen == shrinks
    assert saved.warnings == (
        f"there was none for tiles of 64 px: from row {row} of the input on they are 32 px, "
        "so pixels may differ and seams may show",
    )
    assert np.array_equal(opened(tmp_path / "out.png"), opened(source))


def test_memory_runs_out_in_the_models_own_process(
    options: dict[str, object], tmp_path: Path
) -> None:
    source = with_first_value(tmp_path, 96)
    with Calotype(**options, isolation="process") as local:
        saved = local.run_file("test/large", source, tmp_path / "out.png")
    assert "from row 96 of the input on they are 32 px" in saved.warnings[0]
    assert np.array_equal(opened(tmp_path / "out.png"), opened(source))


@pytest.mark.parametrize("first", [1, 3])
def test_smaller_tiles_of_a_network_fit_together(
    options: dict[str, object],
    save: Save,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    first: int,
) -> None:
    folder, network, calls = Path(str(options["models_dir"])), TiledBackend.network, list[int]()
    (folder / "net.toml").write_text("tile = 128\noverlap = 16\nblend = 8\nalign = 4\n")
    source = save(500, 300)

    def scarce(self: TiledBackend, scale: int, tile_px: int) -> Network:
        calls.append(tile_px)
        if len(calls) > first and tile_px == 128:  # the first call loads it
            raise OutOfMemoryError("told to run out of memory")
        return network(self, scale, tile_px)

    with Calotype(**options) as local:
        expected = local.run("net", source).pixels
    with Calotype(**options) as local:
        monkeypatch.setattr(TiledBackend, "network", scarce)
        saved = local.run_file("net", source, tmp_path / "out.png")
    assert calls == [128] * first + [128] + [64] * (6 - first)
    assert "there was none for tiles of 128 px" in saved.warnings[0]
    assert np.array_equal(opened(tmp_path / "out.png"), expected)


@pytest.mark.parametrize("what", ["size", "tile"])
def test_a_later_strip_that_is_not_as_the_first_is_an_error(
    local: Calotype, save: Save, folder: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    run, calls = fake.FakeBackend.run, list[int]()

    def odd(self: fake.FakeBackend, jobs: Sequence[Job]) -> list[Made]:
        (image,) = run(self, jobs)
        calls.append(1)
        if len(calls) == 3 and what == "tile":
            jobs[0].hooks.tell(TILE, "48")
        return [Made(image.pixels[1:]) if len(calls) == 3 and what == "size" else image]

    monkeypatch.setattr(fake.FakeBackend, "run", odd)
    for model in ("echo", "test/undeclared"):
        calls.clear()
        with pytest.raises(BadOutputError, match="in strips"):
            local.run_file(model, save(300, 70), folder / "out.png")
    assert not list(folder.iterdir())


class Gate:
    """Lets whoever comes first stand, until it is opened."""

    def __init__(self) -> None:
        self.reached, self.open = threading.Event(), threading.Event()

    def before(self, work: Callable[..., None]) -> Callable[..., None]:
        def gated(*args: object) -> None:
            self.reached.set()
            self.open.wait(60)
            work(*args)

        return gated


class Call(threading.Thread):
    """A call from another thread."""

    def __init__(self, work: Callable[[], object]) -> None:
        super().__init__()
        self._work = work
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self.error = error


@pytest.mark.parametrize("part", ["put", "finish"])
def test_closing_lets_a_running_picture_finish(
    local: Calotype, save: Save, folder: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """Between strips nothing is in the pool, so it was closed under it."""
    gate, source = Gate(), save(300, 70)
    monkeypatch.setattr(RowWriter, part, gate.before(getattr(RowWriter, part)))
    running = Call(lambda: local.run_file("echo", source, folder / "out.png"))
    gate.reached.wait(60)
    closing = Call(local.close)
    closing.join(0.3)
    with pytest.raises(ShuttingDownError):
        local.load("echo")
    gate.open.set()
    running.join()
    closing.join()
    assert (running.error, closing.error) == (None, None)
    assert np.array_equal(opened(folder / "out.png")[::2, ::2], photo(300, 70))


def test_what_has_no_time_to_finish_ends_tidily(
    options: dict[str, object], save: Save, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, local = Gate(), Calotype(**options, drain_s=0)
    monkeypatch.setattr(RowWriter, "put", gate.before(RowWriter.put))
    running = Call(lambda: local.run_file("echo", save(300, 70), folder / "out.png"))
    gate.reached.wait(60)
    closing = Call(local.close)
    running.join()
    gate.open.set()
    closing.join()
    assert isinstance(running.error, ShuttingDownError)
    assert closing.error is None
    assert not list(folder.iterdir())


def test_what_may_take_long_is_not_done_on_the_event_loop(
    local: Calotype, save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: dict[str, str] = {}

    def spy(owner: type, name: str) -> None:
        work = getattr(owner, name)

        def spied(*args: object, **named: object) -> object:
            threads[f"{owner.__name__}.{name}"] = threading.current_thread().name
            return work(*args, **named)

        monkeypatch.setattr(owner, name, spied)

    spy(RowReader, "__init__")
    spy(RowReader, "close")
    spy(RowWriter, "close")
    spy(Joiner, "add")
    local.run_file("echo", save(300, 70), tmp_path / "out.png")
    assert len(threads) == 4
    assert "calotype" not in threads.values()


@pytest.mark.usefixtures("may_be_whole")
@pytest.mark.skipif(not FDS.is_dir(), reason="nothing tells which files are open")
def test_no_file_stays_open(
    local: Calotype, save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cycles held them until the garbage collector ran."""
    source, target = save(200, 100, "in.jpg"), tmp_path / "out.png"
    damaged = save(200, 100, "damaged.png")
    damaged.write_bytes(damaged.read_bytes()[:-300])

    def several(count: int) -> int:
        for _ in range(count):
            local.run_file("echo", source, target)
            local.run_file("echo", source, tmp_path / "out.webp")  # opened, and then run whole
            with pytest.raises(BadImageError):
                local.run_file("echo", damaged, target)
        return len(list(FDS.iterdir()))

    gc.collect()
    gc.disable()
    try:
        before = several(2)
        assert several(8) < before + 8  # threads come and go with some of their own
        with monkeypatch.context() as patch:
            patch.setattr(strips, "is_fit", lambda *_: False)
            assert several(8) < before + 8
    finally:
        gc.enable()


@pytest.mark.usefixtures("may_be_whole")
def test_a_small_picture_is_not_opened_twice(
    local: Calotype, save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened_by: list[object] = []
    monkeypatch.setattr(strips, "LARGE_PIXELS", 64_000_000)
    monkeypatch.setattr(strips, "RowReader", lambda file, *_, **__: opened_by.append(file))
    for name in ("in.jpg", "in.png", "in.webp"):
        local.run_file("echo", save(200, 100, name), tmp_path / "out.png")
    assert not opened_by


@pytest.mark.usefixtures("may_be_whole")
def test_a_network_with_a_tile_of_its_own(
    options: dict[str, object], save: Save, tmp_path: Path
) -> None:
    """It can't be reshaped, so it is found out when the first strip is run."""
    folder = Path(str(options["models_dir"]))
    scales = numpy_helper.from_array(np.array([1, 3, 48, 48], np.int64), "shape")
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["m"]),
        helper.make_node("Identity", ["m"], ["y"]),
    ]
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 3, 48, 48]) for n in "xy"]
    graph = helper.make_graph(nodes, "net", info[:1], info[1:], [scales])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.save(model, str(folder / "own.onnx"))
    (folder / "own.toml").write_text("tile = 64\n")
    source, target = save(200, 100), tmp_path / "out.png"
    assert not in_strips(options, source, target, model_id="own")
    assert not target.exists()
    with Calotype(**options) as local:
        local.run_file("own", source, target)
    assert np.array_equal(opened(target), photo(200, 100))


def test_what_is_run_in_strips(options: dict[str, object], save: Save, tmp_path: Path) -> None:
    source, target = save(200, 100), tmp_path / "out.png"
    size = {"target_size": {"width": 200, "height": 400}}
    assert in_strips(options, source, target)
    assert in_strips(options, source, target, parameters=size)
    assert in_strips(options, source, target, model_id="test/undeclared")
    assert not in_strips(options, source, target, model_id="echo+echo")
    Image.new("RGBA", (100, 200)).save(tmp_path / "alpha.png")
    assert not in_strips(options, tmp_path / "alpha.png", target)
    assert not in_strips(options, source, tmp_path / "out.webp", formats=("webp",))


SPEC = ModelSpec(id="a/b", backend="openvino", revision="1", scale=2)
SCALES = ParamSpec(name="scale", type="integer", help="", default=2, choices=(2, 4))


def stage(spec: ModelSpec = SPEC, **raw: object) -> Stage:
    return Stage(model=spec, values=apply_params(spec, raw).values)


def header(side_px: int, *, alpha: bool = False) -> Header:
    size = Size(height_px=side_px, width_px=side_px)
    return Header(format="jpeg", size=size, has_alpha=alpha, frames=1, bits=8)


def spec(**named: object) -> ModelSpec:
    return replace(SPEC, **named)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("stages", "head", "formats", "fits"),
    [
        ((stage(),), header(4000), ("png",), True),
        ((stage(),), header(3999), ("png",), False),
        ((stage(spec(scale=1)),), header(8000), ("png",), True),
        ((stage(spec(scale=None)),), header(7999), ("png",), False),
        ((stage(spec(params=(SCALES,)), scale=4),), header(2001), ("png",), True),
        ((stage(spec(params=(SCALES,)), scale=4),), header(2000), ("png",), False),
        ((stage(), stage()), header(8000), ("png",), False),
        ((stage(),), header(8000, alpha=True), ("png",), False),
        ((stage(),), header(8000), ("webp",), False),
        ((stage(),), header(9000), ("webp", "png"), True),
        ((stage(),), header(8000), ("jpeg", "png"), True),
        ((stage(target_size={"width": 16000, "height": 16000}),), header(8000), ("png",), True),
        ((stage(target_size={"width": 16000, "height": 15999}),), header(8000), ("png",), False),
        ((stage(spec(tile=AUTO)),), header(8000), ("png",), False),
        ((stage(spec(backend="style")),), header(8000), ("png",), False),
        ((stage(spec(backend="spandrel")),), header(8000), ("png",), False),
    ],
)
def test_which_pictures_fit(
    monkeypatch: pytest.MonkeyPatch,
    stages: tuple[Stage, ...],
    head: Header,
    formats: tuple[ImageFormat, ...],
    *,
    fits: bool,
) -> None:
    monkeypatch.setattr(strips, "LARGE_PIXELS", 64_000_000)
    monkeypatch.setattr(ladder, "LARGE_PIXELS", 4_000_000)
    assert strips.is_fit(stages, head, formats) == fits


def test_a_format_that_holds_no_such_picture() -> None:
    with pytest.raises(InvalidParameterError, match="output_format must be png"):
        strips.is_fit((stage(),), header(33_000), ("jpeg",))


def test_the_progress_of_a_strip_is_a_part_of_the_whole() -> None:
    steps: list[tuple[int, int]] = []
    hooks = Hooks(lambda done, total: steps.append((done, total)))
    with strip_hooks(hooks, 2, 5) as own:
        own.step(0, 4)
        own.step(3, 4)
        own.note("run; odd")
        hooks.cancel()
        assert own.cancelled
    assert steps == [(8, 20), (11, 20)]
    assert hooks.notes == ("run; odd",)
