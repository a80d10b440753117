"""Models of the user's own: ONNX files of all the shapes that people export."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from calotype.backends.base import Machine
from calotype.catalog.catalog import build_catalog
from calotype.domain.image import Pixels
from calotype.domain.model import ModelSpec
from calotype.errors import MissingWeightsError, PayloadTooLargeError
from calotype.running import backend_loader
from models import job, load, photo

Shape = list[int | str]


def save(
    path: Path, shape: Shape, out: Shape, nodes: list[object], tensors: list[object] | None = None
) -> None:
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, out)],
        tensors or [],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.save(model, str(path))


def invert(path: Path, shape: Shape) -> None:
    """1 - x."""
    one = numpy_helper.from_array(np.array(1, np.float32), "one")
    save(path, shape, shape, [helper.make_node("Sub", ["one", "x"], ["y"])], [one])


def spec_of(folder: Path, name: str = "net", toml: str = "") -> ModelSpec:
    if toml:
        (folder / f"{name}.toml").write_text(toml)
    return build_catalog(models_dir=folder).get(name)


def answer(spec: ModelSpec, pixels: Pixels, **parameters: object) -> Pixels:
    (found,) = load(spec, None).run([job(spec, pixels, parameters)])
    return found.pixels


@pytest.mark.parametrize(
    "shape",
    [
        [1, 3, "h", "w"],
        ["n", 3, "h", "w"],
        [1, 3, 64, 64],
        [1, "h", "w", 3],
        [1, 64, 64, 3],
    ],
    ids=str,
)
def test_layouts_and_fixed_sizes(tmp_path: Path, shape: Shape) -> None:
    invert(tmp_path / "net.onnx", shape)
    pixels = photo(150, 200)
    assert np.array_equal(answer(spec_of(tmp_path), pixels), 255 - pixels)


def test_gray_network_gets_luma_and_gives_gray(tmp_path: Path) -> None:
    invert(tmp_path / "net.onnx", [1, 1, "h", "w"])
    pixels = photo(70, 90)
    found = answer(spec_of(tmp_path), pixels)
    luma = pixels @ np.array([0.299, 0.587, 0.114])
    assert np.abs(found - (255 - luma)[..., None]).max() <= 0.51


def test_scale_is_measured(tmp_path: Path) -> None:
    scales = numpy_helper.from_array(np.array([1, 1, 3, 3], np.float32), "scales")
    node = helper.make_node(
        "Resize",
        ["x", "", "scales"],
        ["y"],
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    save(tmp_path / "net.onnx", [1, 3, "h", "w"], [1, 3, "H", "W"], [node], [scales])
    pixels = photo(300, 120)
    found = answer(spec_of(tmp_path, toml="tile = 64\noverlap = 16\n"), pixels)
    assert np.array_equal(found, pixels.repeat(3, axis=0).repeat(3, axis=1))


def test_a_result_over_the_limit_is_refused_once_the_scale_is_known(tmp_path: Path) -> None:
    scales = numpy_helper.from_array(np.array([1, 1, 4, 4], np.float32), "scales")
    node = helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="nearest")
    save(tmp_path / "net.onnx", [1, 3, "h", "w"], [1, 3, "H", "W"], [node], [scales])
    spec = spec_of(tmp_path)
    backend = backend_loader(spec, Machine(precision="f32", max_output_pixels=16_000))()
    assert backend.run([job(spec, photo(10, 100))])[0].pixels.shape == (40, 400, 3)
    with pytest.raises(PayloadTooLargeError, match="the result would be 404x40, 16160 pixels"):
        backend.run([job(spec, photo(10, 101))])


def test_a_network_that_takes_no_smaller_tile_takes_the_whole_one(tmp_path: Path) -> None:
    """Seven halvings take 256 px and 128 px, and not the 192 px between."""
    nodes, name = [], "x"
    for depth in range(7):
        nodes.append(
            helper.make_node("MaxPool", [name], [f"d{depth}"], kernel_shape=[2, 2], strides=[2, 2])
        )
        name = f"d{depth}"
    scales = numpy_helper.from_array(np.array([1, 1, 128, 128], np.float32), "scales")
    nodes.append(helper.make_node("Resize", [name, "", "scales"], ["up"], mode="nearest"))
    nodes.append(helper.make_node("Max", ["up", "x"], ["y"]))
    save(tmp_path / "net.onnx", [1, 3, "h", "w"], [1, 3, "h", "w"], nodes, [scales])
    spec = spec_of(tmp_path)
    for side in (100, 150, 150, 200):
        assert answer(spec, photo(side, 20)).shape == (side, 20, 3)


def test_an_alias_beside_the_file(tmp_path: Path) -> None:
    invert(tmp_path / "net.onnx", [1, 3, "h", "w"])
    spec_of(tmp_path, toml='alias = "negative"\nlicence = "MIT"\n')
    assert build_catalog(models_dir=tmp_path).get("negative").licence == "MIT"


def two_inputs(path: Path) -> None:
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 3, 8, 8]) for n in "xz"]
    end = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 8, 8])
    graph = helper.make_graph([helper.make_node("Add", ["x", "z"], ["y"])], "net", infos, [end])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.save(model, str(path))


def five_channels(path: Path) -> None:
    invert(path, [1, 5, "h", "w"])


def vector(path: Path) -> None:
    invert(path, [1, 3])


def halves(path: Path) -> None:
    """A network whose picture gets smaller."""
    node = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], strides=[2, 2])
    save(path, [1, 3, "h", "w"], [1, 3, "H", "W"], [node])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (two_inputs, "2 inputs and 1 outputs"),
        (five_channels, "5 channels"),
        (vector, "expected a batch of pictures"),
        (halves, "expected a whole multiple"),
        (lambda path: path.write_bytes(b"not onnx"), "not a readable ONNX network"),
    ],
)
def test_what_cannot_be_served_is_said(
    tmp_path: Path, make: Callable[[Path], object], says: str
) -> None:
    make(tmp_path / "net.onnx")
    with pytest.raises(MissingWeightsError, match=says):
        load(spec_of(tmp_path), None)


def test_public_ncnn_checkpoint_from_a_folder(shared: Path, tmp_path: Path) -> None:
    for suffix in ("param", "bin"):
        name = f"RealESRGAN_General_x4_v3.{suffix}"
        (tmp_path / name).symlink_to(shared / "weights" / name)
    pixels = photo(60, 80)
    catalog_file = tmp_path / "my.toml"
    catalog_file.write_text(
        '[[model]]\nid = "me/general"\nalias = "general"\nbackend = "openvino"\n'
        'task = "super-resolution"\nscale = 4\n'
        '[[model.files]]\nrole = "param"\npath = "RealESRGAN_General_x4_v3.param"\n'
        '[[model.files]]\nrole = "bin"\npath = "RealESRGAN_General_x4_v3.bin"\n'
    )
    spec = build_catalog(catalog_file=catalog_file).get("general")
    assert answer(spec, pixels).shape == (240, 320, 3)
