"""From the Hub to the first edit, as the README says it, with a small Hub on loopback."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

pytest.importorskip("diffusers", reason="needs the extra diffusers")

import PIL.Image
from huggingface_hub import InferenceClient

import pipelines
from diffusion.conftest import encoded
from e2e.server import clean_environment, serving
from loopback import COMMIT, Hub, listening
from models import photo

pytestmark = pytest.mark.filterwarnings("ignore")
REPO = "timbrooks/instruct-pix2pix"
README = Path(__file__).parents[2] / "README.md"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """Serve a small instruct-pix2pix."""
    place = pipelines.save(tmp_path / "origin", "edit", pipelines.pix2pix())
    with listening() as small:
        small.repo = REPO
        small.files = {
            path.relative_to(place).as_posix(): path.read_bytes()
            for path in place.rglob("*")
            if path.is_file()
        }
        yield small


@pytest.fixture
def env(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    for name, value in (("HF_ENDPOINT", hub.url), ("HF_HUB_DISABLE_XET", "1")):
        monkeypatch.setenv(name, value)
    bin_dir = str(Path(sys.executable).parent)
    return clean_environment(tmp_path) | {"PATH": f"{bin_dir}:{os.environ['PATH']}"}


def test_the_readme_from_pull_to_picture(env: dict[str, str], hub: Hub, tmp_path: Path) -> None:
    blocks = README.read_text(encoding="utf-8").split("```sh\n")[1:]
    (commands,) = (b.split("```")[0] for b in blocks if "calotype pull timbrooks" in b)
    PIL.Image.fromarray(photo(61, 80)).save(tmp_path / "photo.jpg")
    done = subprocess.run(
        ["bash", "-euc", commands],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert PIL.Image.open(tmp_path / "snow.png").size == (80, 61)
    assert "is ready" in done.stdout
    assert 'calotype run timbrooks/instruct-pix2pix photo.jpg --prompt "..."' in done.stdout
    told = (tmp_path / "data" / "models" / f"{REPO}.toml").read_text()
    assert COMMIT in told
    assert f"GET /{REPO}/resolve/{COMMIT}/unet/config.json" in hub.asked


def test_a_request_names_a_model_of_the_hub(env: dict[str, str], hub: Hub, tmp_path: Path) -> None:
    del env
    options = ("--allow-pull", "--diffusion-engine", "torch", "--precision", "f32")
    with serving(tmp_path, *options) as server:
        url = f"{server.url}/models/{REPO}"
        client = InferenceClient(model=url, timeout=120, headers={"x-wait-for-model": "true"})
        PIL.Image.fromarray(photo(64, 64)).save(tmp_path / "photo.png")
        picture = client.image_to_image(
            tmp_path / "photo.png", prompt="make it snow", num_inference_steps=2, seed=1
        )
        assert picture.size == (64, 64)
        listed = {one["id"] for one in httpx.get(f"{server.url}/models").json()}
        assert REPO in listed
        body = {"inputs": encoded(photo(8, 8))}
        absent = httpx.post(f"{server.url}/models/acme/absent", json=body, timeout=30)
        assert absent.status_code == 404
        assert absent.json()["error"] == "Model acme/absent does not exist"
    with serving(tmp_path, "--models-dir", str(tmp_path / "none")) as server:
        answer = httpx.post(f"{server.url}/models/{REPO}", content=b"x", timeout=30)
        assert answer.status_code == 404, "nothing is fetched unless it is allowed"
