"""A pipeline that came from another node, file by file."""

from pathlib import Path

import numpy as np

from calotype.backends.base import Diffusion, Machine
from calotype.domain.model import ModelSpec
from calotype.execution.load import load_model
from calotype.scale.weights import NodeWeights
from diffusion.conftest import Family
from models import job, photo
from nodes import Near, depot_of, elsewhere


def test_a_pipeline_of_links_makes_the_same_picture(
    families: dict[str, Family], tmp_path: Path
) -> None:
    family = families["pix2pix"]
    models = family.folder.parents[1]
    there = elsewhere(family.spec, models, tmp_path / "nowhere")
    spec = NodeWeights(tmp_path / "here", Near(depot_of(models), tmp_path)).localize(there)
    assert all(Path(file.path).is_symlink() for file in spec.files)

    def make(spec: ModelSpec) -> np.ndarray:
        machine = Machine(precision="f32", diffusion=Diffusion(engine="torch", device="cpu"))
        request = job(spec, photo(32, 32), family.parameters)
        pixels: np.ndarray = load_model(spec, machine).run([request])[0].pixels
        return pixels

    assert np.array_equal(make(spec), make(family.spec))
