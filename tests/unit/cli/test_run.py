import errno
import io
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import Result
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from calotype.local import Calotype

Invoke = Callable[..., Result]
MakePicture = Callable[..., Path]
Pixels = Callable[[Path], NDArray[np.uint8]]
SizeOf = Callable[[Path], tuple[int, int]]


def _tree(folder: str = ".") -> list[str]:
    root = Path(folder)
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_one_picture(invoke: Invoke, picture: MakePicture, size: SizeOf) -> None:
    picture("a.png")
    result = invoke("run", "double", "a.png")
    assert result.exit_code == 0
    assert "a.png -> a_double.png  16x12" in result.stderr
    assert result.stdout == ""
    assert size(Path("a_double.png")) == (16, 12)


def test_the_suffix_decides_the_format(invoke: Invoke, picture: MakePicture) -> None:
    picture("a.png")
    assert invoke("run", "echo", "a.png", "-o", "b.webp").exit_code == 0
    with Image.open("b.webp") as image:
        assert image.format == "WEBP"


def test_a_folder_keeps_its_tree(invoke: Invoke, picture: MakePicture) -> None:
    for name in ("in/a.png", "in/x/b.jpg", "in/x/y/c.gif"):
        picture(name)
    result = invoke("run", "echo", "in", "-o", "out")
    assert result.exit_code == 0
    assert _tree("out") == ["a.png", "x/b.jpg", "x/y/c.png"]
    assert "3 done, in" in result.stderr


def _negative(path: Path) -> Path:
    """Write a network that gives the negative of a picture."""
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 3, "h", "w"]) for n in "xy"]
    one = numpy_helper.from_array(np.array(1, np.float32), "one")
    node = helper.make_node("Sub", ["one", "x"], ["y"])
    graph = helper.make_graph([node], "net", infos[:1], infos[1:], [one])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
    return path


@pytest.mark.parametrize("name", ["nets/negative.onnx", "echo.onnx"])
def test_the_path_of_a_network(
    invoke: Invoke, picture: MakePicture, pixels: Pixels, name: str
) -> None:
    """Another model may be called like its file."""
    _negative(Path(name))
    picture("a.png")
    result = invoke("run", name, "a.png", "-o", "b.png", "--precision", "f32")
    assert result.exit_code == 0, result.stderr
    assert np.array_equal(pixels(Path("b.png")), 255 - pixels(Path("a.png")))


def test_the_path_of_a_network_that_takes_a_models_id(
    invoke: Invoke, picture: MakePicture, pixels: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    _negative(Path("models/net.onnx"))
    Path("other").mkdir()
    Path("other/net.toml").write_text("tile = 64\n")
    _negative(Path("other/net.onnx"))
    monkeypatch.setenv("CALOTYPE_MODELS_DIR", "models")
    picture("a.png")
    result = invoke("run", "other/net.onnx", "a.png", "-o", "b.png", "--precision", "f32")
    assert result.exit_code == 0, result.stderr
    assert np.array_equal(pixels(Path("b.png")), 255 - pixels(Path("a.png")))


def test_a_path_without_a_file(invoke: Invoke, picture: MakePicture) -> None:
    picture("a.png")
    result = invoke("run", "gone.pth", "a.png")
    assert result.exit_code == 1
    assert "Model gone.pth does not exist" in result.stderr


def test_a_bad_file_does_not_stop_the_rest(invoke: Invoke, picture: MakePicture) -> None:
    picture("in/a.png")
    picture("in/c.png")
    Path("in/b.png").write_bytes(b"nonsense")
    result = invoke("run", "echo", "in", "-o", "out")
    assert result.exit_code == 1
    assert _tree("out") == ["a.png", "c.png"]
    assert "failed: in/b.png: cannot identify image file" in result.stderr
    assert "2 done, 1 failed" in result.stderr


def test_a_second_run_takes_up_where_the_first_stopped(
    invoke: Invoke, picture: MakePicture
) -> None:
    picture("in/a.png")
    invoke("run", "echo", "in", "-o", "out")
    before = Path("out/a.png").stat().st_mtime_ns
    picture("in/b.png")
    result = invoke("run", "echo", "in", "-o", "out")
    assert result.exit_code == 0
    assert "1 done, 1 skipped" in result.stderr
    assert Path("out/a.png").stat().st_mtime_ns == before
    assert "2 done, in" in invoke("run", "echo", "in", "-o", "out", "--overwrite").stderr
    assert Path("out/a.png").stat().st_mtime_ns > before


def test_one_picture_that_is_there_is_skipped_with_a_word(
    invoke: Invoke, picture: MakePicture
) -> None:
    picture("a.png")
    invoke("run", "echo", "a.png")
    assert "1 skipped, for the result is there (--overwrite" in (
        invoke("run", "echo", "a.png").stderr
    )


def test_streams(invoke: Invoke, picture: MakePicture) -> None:
    body = picture("a.png").read_bytes()
    result = invoke("run", "double", "-", "-o", "-", "--format", "jpeg", input=body)
    assert result.exit_code == 0
    with Image.open(io.BytesIO(result.stdout_bytes)) as image:
        assert (image.size, image.format) == ((16, 12), "JPEG")
    invoke("run", "echo", "-", "-o", "b.png", input=body)
    assert _tree() == ["a.png", "b.png"]


def test_a_terminal_gets_no_picture(
    invoke: Invoke, picture: MakePicture, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture("a.png")
    tty = "click.testing._NamedTextIOWrapper.isatty"
    monkeypatch.setattr(tty, lambda _: True, raising=False)
    result = invoke("run", "echo", "a.png", "-o", "-")
    assert result.exit_code == 2
    assert "is a terminal" in result.stderr


def test_parameters(invoke: Invoke, picture: MakePicture, pixels: Pixels) -> None:
    picture("a.png")
    plain = pixels(Path("a.png"))
    result = invoke(
        "run", "echo", "a.png", "-o", "b.png", "-p", "invert=true", "--target-size", "8x6"
    )
    assert result.exit_code == 0
    assert np.array_equal(pixels(Path("b.png")), 255 - plain)


def test_a_chain(invoke: Invoke, picture: MakePicture, pixels: Pixels) -> None:
    picture("a.png")
    plain = pixels(Path("a.png"))
    result = invoke("run", "echo+test/double", "a.png", "-p", "echo.invert=true")
    assert result.exit_code == 0
    large = plain.repeat(2, axis=0).repeat(2, axis=1)
    assert np.array_equal(pixels(Path("a_echo+double.png")), 255 - large)


def test_one_of_the_same_models_in_a_chain(
    invoke: Invoke, picture: MakePicture, pixels: Pixels
) -> None:
    picture("a.png")
    plain = pixels(Path("a.png"))
    told = ("-p", "echo#1.invert=false", "-p", "echo.invert=true")
    result = invoke("run", "echo+test/echo", "a.png", "-o", "b.png", *told)
    assert result.exit_code == 0
    assert np.array_equal(pixels(Path("b.png")), 255 - plain)


def test_a_chain_names_what_is_wrong(invoke: Invoke, picture: MakePicture) -> None:
    picture("a.png")
    wrong = invoke("run", "echo+double", "a.png", "-p", "echo.strength=2")
    assert wrong.exit_code == 1
    assert "echo.strength must be in [0, 1], got 2" in wrong.stderr
    assert "Model nope does not exist" in invoke("run", "echo+nope", "a.png").stderr
    broken = invoke("run", "test/double+test/broken", "a.png")
    assert "failed: a.png: test/broken: " in broken.stderr
    ignored = invoke("run", "echo+double", "a.png", "-p", "double.prompt=x")
    assert "double.prompt was ignored: double takes no prompt" in ignored.stderr


def test_the_size_asked_for(invoke: Invoke, picture: MakePicture, size: SizeOf) -> None:
    picture("a.png")
    invoke("run", "double", "a.png", "-o", "b.png", "--target-size", "5x7")
    assert size(Path("b.png")) == (5, 7)


def test_the_seed_is_told(invoke: Invoke, picture: MakePicture) -> None:
    picture("a.png")
    assert "seed 7" in invoke("run", "test/seeded", "a.png", "--seed", "7").stderr


def test_a_picture_as_parameter(invoke: Invoke, picture: MakePicture) -> None:
    picture("a.png")
    picture("b.png")
    assert invoke("run", "pair", "a.png", "--style-image", "b.png").exit_code == 0
    result = invoke("run", "pair", "a.png", "--style-image", "gone.png")
    assert result.exit_code == 1
    assert result.stderr == "error: gone.png: No such file or directory\n"
    assert "style_image is required by pair" in invoke("run", "pair", "a.png").stderr


def test_what_is_ignored_is_said_once(invoke: Invoke, picture: MakePicture) -> None:
    for name in ("in/a.png", "in/b.png"):
        picture(name)
    result = invoke("run", "echo", "in", "-o", "out", "--prompt", "x", "-p", "strict=1", "-q")
    assert result.exit_code == 0
    assert result.stderr.splitlines() == [
        "warning: prompt was ignored: echo takes no prompt",
        "warning: strict was ignored: not a parameter of Calotype",
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--strength", "1.5"], 1, "error: strength must be in [0, 1], got 1.5"),
        (["--strength", "much"], 1, 'error: strength must be a number, got "much"'),
        (["--target-size", "big"], 1, 'error: target_size must be WxH such as 800x600, got "big"'),
        (["-p", "invert"], 2, "-p takes NAME=VALUE, got invert"),
        (["--jpeg-quality", "0"], 2, "error: jpeg_quality must be in [1, 100], got 0"),
    ],
)
def test_what_is_wrong_for_all_is_said_before_the_first(
    invoke: Invoke, picture: MakePicture, arguments: list[str], code: int, message: str
) -> None:
    picture("a.png")
    result = invoke("run", "echo", "a.png", *arguments)
    assert result.exit_code == code
    assert message in result.stderr
    assert _tree() == ["a.png"]


def test_a_model_that_fails(invoke: Invoke, picture: MakePicture) -> None:
    picture("a.png")
    result = invoke("run", "test/broken", "a.png")
    assert result.exit_code == 1
    assert result.stderr.startswith("failed: a.png: ")
    assert "Traceback" not in result.stderr


def test_a_model_that_cannot_be_loaded_stops_all(invoke: Invoke, picture: MakePicture) -> None:
    picture("a.png")
    picture("b.png")
    result = invoke("run", "test/unloadable", "a.png", "b.png")
    assert result.exit_code == 2
    assert result.stderr == "error: test/unloadable: told to fail at load\n"


def test_a_dry_run_writes_nothing(invoke: Invoke, picture: MakePicture) -> None:
    picture("a.png")
    picture("b.png")
    invoke("run", "echo", "a.png", "-o", "out")
    result = invoke("run", "echo", "a.png", "b.png", "-o", "out", "--dry-run")
    assert result.stdout.splitlines() == [
        "a.png -> out/a.png  (skipped: it is there)",
        "b.png -> out/b.png",
    ]
    assert _tree("out") == ["a.png"]


def test_metadata_is_kept_if_asked_for(invoke: Invoke) -> None:
    exif = Image.Exif()
    exif[0x8298] = "Copyright someone"
    Image.new("RGB", (8, 6)).save("a.jpg", exif=exif)
    for option, kept in (("--keep-metadata", True), ("--no-keep-metadata", False)):
        invoke("run", "echo", "a.jpg", "-o", "b.jpg", option, "--overwrite")
        with Image.open("b.jpg") as image:
            assert (0x8298 in image.getexif()) is kept


def test_bars_are_drawn_when_asked_for(invoke: Invoke, picture: MakePicture) -> None:
    for name in ("a.png", "b.png"):
        picture(name)
    result = invoke("run", "echo", "a.png", "b.png", "-o", "out", "--progress", "--prompt", "x")
    assert result.exit_code == 0
    assert "2/2" in result.stderr
    assert "warning: prompt was ignored" in result.stderr
    assert "->" not in result.stderr


def test_a_write_that_fails_leaves_nothing_behind(
    invoke: Invoke, picture: MakePicture, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture("a.png")
    picture("b.png")
    replace = Path.replace

    def fail(self: Path, target: Path) -> Path:
        if target.name == "a.png":
            raise OSError(errno.EIO, "told to fail", str(target))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fail)
    result = invoke("run", "echo", "a.png", "b.png", "-o", "out")
    assert result.exit_code == 1
    assert _tree("out") == ["b.png"]
    assert "failed: a.png: " in result.stderr
    assert "told to fail" in result.stderr


def test_a_full_disk_stops_at_once(
    invoke: Invoke, picture: MakePicture, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture("a.png")
    picture("b.png")

    def fail(self: Path, target: Path) -> Path:
        if "catalog" in str(self) or "loads" in str(self):
            return self
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    monkeypatch.setattr(Path, "replace", fail)
    result = invoke("run", "echo", "a.png", "b.png", "-o", "out")
    assert result.exit_code == 1
    assert result.stderr == "error: out/a.png: No space left on device\n"
    assert _tree("out") == []


def test_an_interrupt_says_how_far_it_got(
    invoke: Invoke, picture: MakePicture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.png", "b.png", "c.png"):
        picture(name)
    run, calls = Calotype.run_file, []

    def interrupted(self: Calotype, *arguments: object, **named: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return run(self, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Calotype, "run_file", interrupted)
    result = invoke("run", "echo", "a.png", "b.png", "c.png", "-o", "out")
    assert result.exit_code == 130
    assert "interrupted: 1 of 3 done; the same command goes on from there" in result.stderr
    assert _tree("out") == ["a.png"]
    assert sys.exc_info() == (None, None, None)
