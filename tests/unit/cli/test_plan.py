import os
from pathlib import Path

import click
import pytest

from calotype.cli.plan import make_plan
from calotype.domain.request import ImageFormat


@pytest.fixture(autouse=True)
def files() -> None:
    for name in ("a.jpg", "in/b.PNG", "in/deep/c.gif", "in/notes.txt", "in/.hidden.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"x")


def _plan(
    *inputs: str, output: str | None = None, format: ImageFormat | None = None, model: str = "m"
) -> list[tuple[str, str, str | None]]:
    return [
        (str(errand.source or "-"), str(errand.target or "-"), errand.format)
        for errand in make_plan(inputs, output, format, model)
    ]


@pytest.mark.parametrize(
    ("inputs", "output", "expected"),
    [
        (["a.jpg"], None, [("a.jpg", "a_m.jpg", "jpeg")]),
        (["a.jpg"], "out.webp", [("a.jpg", "out.webp", "webp")]),
        (["a.jpg"], "in", [("a.jpg", "in/a.jpg", "jpeg")]),
        (["a.jpg"], "out/", [("a.jpg", "out/a.jpg", "jpeg")]),
        (["a.jpg"], "out", [("a.jpg", "out/a.jpg", "jpeg")]),
        (["a.jpg"], "-", [("a.jpg", "-", None)]),
        (["-"], None, [("-", "-", None)]),
        (["-"], "out.png", [("-", "out.png", "png")]),
        (
            ["in"],
            "out",
            [("in/b.PNG", "out/b.PNG", "png"), ("in/deep/c.gif", "out/deep/c.png", "png")],
        ),
        (
            ["in"],
            None,
            [("in/b.PNG", "in_m/b.PNG", "png"), ("in/deep/c.gif", "in_m/deep/c.png", "png")],
        ),
        (["in/**/*.gif"], "out", [("in/deep/c.gif", "out/deep/c.png", "png")]),
        (["in/d*/c.*"], "out", [("in/deep/c.gif", "out/deep/c.png", "png")]),
        (["*.jpg"], "out", [("a.jpg", "out/a.jpg", "jpeg")]),
        (["a.jpg", "./a.jpg", "*.jpg"], "out", [("a.jpg", "out/a.jpg", "jpeg")]),
        (
            ["a.jpg", "in/b.PNG"],
            None,
            [("a.jpg", "a_m.jpg", "jpeg"), ("in/b.PNG", "in/b_m.PNG", "png")],
        ),
    ],
)
def test_what_becomes_what(
    inputs: list[str], output: str | None, expected: list[tuple[str, str, str | None]]
) -> None:
    assert _plan(*inputs, output=output) == expected


def test_the_format_chooses_the_suffix() -> None:
    assert _plan("a.jpg", format="webp") == [("a.jpg", "a_m.webp", "webp")]
    assert _plan("in", output="out", format="jpeg")[0] == ("in/b.PNG", "out/b.jpg", "jpeg")
    assert _plan("a.jpg", output="-", format="png") == [("a.jpg", "-", "png")]


def test_slashes_of_a_model_stay_out_of_names() -> None:
    assert _plan("a.jpg", model="acme/net") == [("a.jpg", "a_acme-net.jpg", "jpeg")]


def test_a_second_run_does_not_take_the_results_of_the_first() -> None:
    Path("a_m.jpg").write_bytes(b"x")
    assert _plan("*.jpg") == [("a.jpg", "a_m.jpg", "jpeg")]


def test_results_inside_the_input_folder_are_no_inputs() -> None:
    Path("in/out").mkdir()
    Path("in/out/b.PNG").write_bytes(b"x")
    assert [source for source, _, _ in _plan("in", output="in/out")] == [
        "in/b.PNG",
        "in/deep/c.gif",
    ]


@pytest.mark.parametrize(
    ("inputs", "output", "format", "message"),
    [
        (["gone.png"], None, None, "no file or folder gone.png"),
        (["x*.png"], None, None, "no file matches"),
        (["a.jpg"], "out.bmp", None, "suffix must be one of .png, .jpg, .jpeg, .webp, got .bmp"),
        (["a.jpg"], "out.png", "webp", "disagree"),
        (["a.jpg", "in"], "a.jpg", None, "is a file; several pictures need a folder"),
        (["a.jpg", "in"], "-", None, "take one picture"),
        (["a.jpg", "-"], "out", None, "take one picture"),
        (["-"], "out/", None, "name a file"),
        (["a.jpg"], "a.jpg", None, "would be written over"),
        (["a.jpg"], ".", None, "would be written over"),
        (["in"], "in", None, "would be written over"),
    ],
)
def test_what_is_refused_before_anything_runs(
    inputs: list[str], output: str | None, format: ImageFormat | None, message: str
) -> None:
    with pytest.raises(click.UsageError, match=message):
        _plan(*inputs, output=output, format=format)


def test_two_pictures_that_would_become_one_file() -> None:
    Path("in/deep/c.png").write_bytes(b"x")
    with pytest.raises(click.UsageError, match=r"would both become out/deep/c\.png"):
        _plan("in", output="out")


def test_a_link_to_an_input_is_that_input() -> None:
    Path("link.jpg").symlink_to("a.jpg")
    with pytest.raises(click.UsageError, match="would be written over"):
        _plan("a.jpg", output="link.jpg")


def test_an_empty_folder() -> None:
    Path("empty").mkdir()
    with pytest.raises(click.UsageError, match="no pictures in empty"):
        _plan("empty", output="out")


def test_done_is_what_is_newer_than_its_input() -> None:
    errand = make_plan(("a.jpg",), "out.png", None, "m")[0]
    assert not errand.is_done
    Path("out.png").write_bytes(b"x")
    os.utime("out.png", (2_000_000_000, 2_000_000_000))
    assert errand.is_done
    os.utime("a.jpg", (2_000_000_001, 2_000_000_001))
    assert not errand.is_done
