"""Files of every form, and those that can't be opened; nothing in one ever runs."""

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from calotype.backends.checkpoint.state import read_state
from calotype.domain.model import ModelSpec
from calotype.errors import InvalidCatalogError, MissingWeightsError
from checkpoints import make, save, spec_of
from models import job, load, photo


class Mischief:
    """A pickle that writes a file when it is loaded."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.victim,)


def with_code_in_a_zip(file: Path) -> None:
    torch.save({"state": make("dncnn").state_dict(), "x": Mischief(file.parent / "victim")}, file)


def with_code_in_a_legacy_file(file: Path) -> None:
    state = {"x": Mischief(file.parent / "victim")}
    torch.save(state, file, _use_new_zipfile_serialization=False)


def with_code_in_a_bare_pickle(file: Path) -> None:
    file.write_bytes(pickle.dumps({"x": Mischief(file.parent / "victim")}))


def with_code_in_a_program(file: Path) -> None:
    script(make("dncnn"), file)
    with zipfile.ZipFile(file) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in held.items():
            evil = pickle.dumps({"x": Mischief(file.parent / "victim")}, 2)
            archive.writestr(name, evil if name.endswith("/data.pkl") else content)


def script(module: nn.Module, file: Path) -> None:
    traced = torch.jit.trace(module, torch.rand(1, 3, 16, 16))  # type: ignore[no-untyped-call]
    torch.jit.save(traced, str(file))


def cut(suffix: str) -> Callable[[Path], None]:
    def write(file: Path) -> None:
        whole = save("dncnn", file.with_name(f"whole{suffix}")).read_bytes()
        file.write_bytes(whole[: len(whole) // 2])

    return write


def of_no_architecture(file: Path) -> None:
    torch.save({"mystery.weight": torch.zeros(3)}, file)


def of_tensors_that_do_not_fit(file: Path) -> None:
    state = make("dncnn").state_dict()
    state["model.2.weight"] = state["model.2.weight"][:, :3]
    torch.save(state, file)


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (
            with_code_in_a_zip,
            r"net\.pth holds more than tensors \(.*\), .*never run: save .* as \.",
        ),
        (with_code_in_a_legacy_file, r"net\.pth holds more than tensors .*as \.safetensors"),
        (with_code_in_a_bare_pickle, r"net\.pth .*(as \.safetensors|download it again)"),
        (with_code_in_a_program, r"net\.pth holds more than tensors .*as \.safetensors"),
        (cut(".pth"), r"net\.pth can't be read: .*download it again"),
        (cut(".safetensors"), r"net\.pth can't be read: .*download it again"),
        (lambda file: file.write_bytes(b""), r"net\.pth can't be read: .*download it again"),
        (lambda file: file.write_bytes(b"x" * 99), r"net\.pth can't be read: .*download it again"),
        (lambda file: torch.save([1, 2], file), r"net\.pth holds list and no tensors by name"),
        (of_no_architecture, r"net\.pth is of no architecture .*begin with mystery\.weight"),
        (of_tensors_that_do_not_fit, r"net\.pth looks like .*don't fit together .*download it"),
        (lambda file: save("rgba", file), r"net\.pth takes pictures of 4 channels; expected 1 or"),
    ],
)
def test_what_cannot_be_opened_is_said(
    tmp_path: Path, write: Callable[[Path], object], says: str
) -> None:
    file = tmp_path / "net.pth"
    write(file)
    with pytest.raises(MissingWeightsError, match=says):
        load(spec_of(file), None)
    assert not (tmp_path / "victim").exists(), "code in a checkpoint ran"


@pytest.fixture(scope="module")
def expected() -> dict[str, torch.Tensor]:
    return make("dncnn").state_dict()


def zipped(state: dict[str, torch.Tensor], file: Path) -> None:
    torch.save(state, file)


def legacy(state: dict[str, torch.Tensor], file: Path) -> None:
    torch.save(state, file, _use_new_zipfile_serialization=False)


def program(_: dict[str, torch.Tensor], file: Path) -> None:
    script(make("dncnn"), file)


def tensors(_: dict[str, torch.Tensor], file: Path) -> None:
    save("dncnn", file.with_suffix(".safetensors")).rename(file)


@pytest.mark.parametrize("write", [zipped, legacy, program, tensors])
def test_every_form(
    tmp_path: Path,
    expected: dict[str, torch.Tensor],
    write: Callable[[dict[str, torch.Tensor], Path], None],
) -> None:
    """The first bytes say what a file is; its suffix proves nothing."""
    file = tmp_path / "net.pt"
    write(expected, file)
    found = read_state(file.read_bytes(), file.name)
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        assert torch.equal(torch.as_tensor(found[name]), tensor)


def test_a_program_gives_what_its_weights_give(tmp_path: Path) -> None:
    answers = []
    for write, name in ((zipped, "a"), (program, "b")):
        write(make("dncnn").state_dict(), tmp_path / f"{name}.pt")
        spec = spec_of(tmp_path / f"{name}.pt", "tile = 64\n")
        (answer,) = load(spec, None).run([job(spec, photo(40, 50))])
        answers.append(answer.pixels)
    assert np.array_equal(answers[0], answers[1])


def test_a_catalog_entry_without_the_file() -> None:
    spec = ModelSpec(id="me/net", backend="spandrel", revision="1")
    with pytest.raises(MissingWeightsError, match="me/net: needs a file checkpoint"):
        load(spec, None)


def test_a_catalog_entry_without_the_mask(tmp_path: Path) -> None:
    file = save("lama", tmp_path / "net.safetensors")
    spec = spec_of(file)
    bare = ModelSpec(id=spec.id, backend=spec.backend, revision="1", files=spec.files)
    with pytest.raises(InvalidCatalogError, match="needs the parameter mask_image"):
        load(bare, None)
