"""What a checkpoint is, told by its tensors' names, without PyTorch; nothing in it runs."""

import json
import logging
import pickle
import sys
import zipfile
from pathlib import Path

import pytest

from calotype.catalog.network import describe_checkpoint
from calotype.catalog.scan import describe_file, scan_models_dir
from calotype.catalog.tensors import tensor_names
from calotype.domain.model import AUTO
from calotype.errors import InvalidCatalogError

LAMA = ("model.model.1.ffc.convl2l.weight", "model.model.1.bn_l.running_mean")
MAT = ("synthesis.first_stage.conv_first.conv.resample_filter",)
UPSCALER = ("conv_first.weight", "upsample.0.weight")


def safetensors(path: Path, *names: str) -> Path:
    header = json.dumps({"__metadata__": {"a": "b"}} | {name: {} for name in names}).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    return path


def zipped(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", pickle.dumps(dict.fromkeys(names, 1), 2))
        archive.writestr("net/data/0", b"1234")
    return path


def legacy(path: Path, *names: str) -> Path:
    parts: list[object] = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    parts += [dict.fromkeys(names, 1), ["0"]]
    path.write_bytes(b"".join(pickle.dumps(part, 2) for part in parts) + b"\xff\x00")
    return path


@pytest.mark.parametrize(
    ("write", "suffix"), [(safetensors, ".safetensors"), (zipped, ".pth"), (legacy, ".pt")]
)
def test_names_of_every_form(tmp_path: Path, write: object, suffix: str) -> None:
    assert callable(write)
    assert tensor_names(write(tmp_path / f"net{suffix}", *LAMA)) >= set(LAMA)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04junk", b"\x80\x02junk", b"x" * 5000])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_damaged_file_has_no_names(tmp_path: Path, content: bytes, suffix: str) -> None:
    file = tmp_path / f"net{suffix}"
    file.write_bytes(content)
    assert not tensor_names(file) & {"weight"}
    assert describe_checkpoint(file) == {"backend": "spandrel"}


def test_nothing_of_a_pickle_runs(tmp_path: Path) -> None:
    class Mischief:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "victim",)

    file = tmp_path / "net.pth"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("net/data.pkl", pickle.dumps({LAMA[0]: Mischief()}, 2))
    assert LAMA[0] in tensor_names(file)
    assert not (tmp_path / "victim").exists()


def test_a_huge_pickle_is_looked_at_in_part(tmp_path: Path) -> None:
    file = tmp_path / "net.pth"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        state = {"a.weight": bytes(10**8), "b.weight": 1}
        archive.writestr("net/data.pkl", pickle.dumps(state, 4))
    assert tensor_names(file) == {"a.weight"}


@pytest.mark.parametrize("names", [LAMA, MAT, tuple(f"generator.{name}" for name in LAMA)])
def test_inpainting_takes_a_mask(tmp_path: Path, names: tuple[str, ...]) -> None:
    spec = describe_file(safetensors(tmp_path / "net.safetensors", *names))
    assert (spec.backend, spec.task, spec.scale) == ("spandrel", "inpainting", None)
    assert [(p.name, p.type, p.default) for p in spec.params] == [
        ("mask_image", "image", None),
        ("mask_blur", "integer", 8),
    ]


@pytest.mark.parametrize(
    ("names", "task"),
    [
        (UPSCALER, "super-resolution"),
        (("intro.weight", "ending.weight"), "restoration"),
        (("refine_net.0.0.weight_orig", "decoder.color_decoder.x"), "colorization"),
        (("body.0.weight",), "image-to-image"),
    ],
)
def test_the_task(tmp_path: Path, names: tuple[str, ...], task: str) -> None:
    spec = describe_file(safetensors(tmp_path / "net.safetensors", *names))
    assert (spec.task, spec.params) == (task, ())
    assert (spec.tile, spec.overlap, spec.blend) == (AUTO, AUTO, AUTO)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lora_unet_down.lora_down.weight", "it is an adapter"),
        ("unet.down_blocks.0.attn.to_q.lora_A.weight", "it is an adapter"),
        ("model.diffusion_model.input_blocks.0.0.weight", "a whole diffusion model in one file"),
        ("text_model.encoder.layers.0.mlp.fc1.weight", "an encoder of text"),
        ("encoder.down.0.block.0.conv1.weight", "an autoencoder"),
    ],
)
def test_something_else_is_left_out_with_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, message: str
) -> None:
    safetensors(tmp_path / "me/net.safetensors", name)
    with caplog.at_level(logging.WARNING):
        assert scan_models_dir(tmp_path) == []
    (line,) = caplog.messages
    assert "net.safetensors is not served: it is" in line
    assert message in line
    with pytest.raises(InvalidCatalogError, match=r"net\.safetensors can't be run: it is"):
        describe_file(tmp_path / "me/net.safetensors")


def test_a_folder_of_checkpoints(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Adapters and the parts of pipelines are none; of one stem the safer file is served."""
    safetensors(tmp_path / "a/net.safetensors", *UPSCALER)
    zipped(tmp_path / "a/net.ckpt", *UPSCALER)
    zipped(tmp_path / "a/old.pth", *UPSCALER)
    safetensors(tmp_path / "loras/a/ink.safetensors", "x.lora_up.weight")
    safetensors(tmp_path / "a/pipe/unet/model.safetensors", *UPSCALER)
    (tmp_path / "a/pipe/model_index.json").write_text("{}")
    specs = {spec.id: spec for spec in scan_models_dir(tmp_path)}
    assert sorted(specs) == ["a/net", "a/old"]
    assert [file.role for file in specs["a/old"].files] == ["checkpoint"]
    assert specs["a/net"].files[0].path.endswith(".safetensors")
    assert not any("ink" in line for line in caplog.messages)


def test_a_toml_file_beats_what_is_found(tmp_path: Path) -> None:
    file = safetensors(tmp_path / "net.safetensors", *LAMA)
    (tmp_path / "net.toml").write_text(
        "alias = 'fill'\ntask = 'restoration'\noverlap = 24\nscale = 1\n"
        "[parameters.mask_blur]\ndefault = 2\n"
    )
    spec = describe_file(file)
    assert (spec.id, spec.alias, spec.task, spec.scale) == ("net", "", "restoration", 1)
    assert (spec.tile, spec.overlap, spec.blend) == (AUTO, 24, AUTO)
    assert [(p.name, p.default) for p in spec.params] == [("mask_image", None), ("mask_blur", 2)]


@pytest.mark.parametrize(
    ("name", "id"), [("4x net (v2).pth", "4x-net-v2-"), ("_x+y.pth", "x-y"), ("é.pth", "model")]
)
def test_any_file_name_makes_an_id(tmp_path: Path, name: str, id: str) -> None:
    assert describe_file(zipped(tmp_path / name, *UPSCALER)).id == id


def test_the_server_needs_no_pytorch(tmp_path: Path) -> None:
    before = set(sys.modules)
    describe_file(zipped(tmp_path / "net.pth", *LAMA))
    assert not {name for name in set(sys.modules) - before if name.startswith("torch")}


def test_public_checkpoints(shared: Path) -> None:
    folder = shared / "weights"
    if not (folder / "DCTLSA_X4.pt").is_file():
        pytest.skip("../shared/weights, with public checkpoints, is absent")
    assert describe_file(folder / "DCTLSA_X4.pt").task == "super-resolution"
    assert describe_file(folder / "CRAFT_team34.pth").task == "super-resolution"
    assert "model.0.weight" in tensor_names(folder / "dncnn_25.pth")
