"""A pipeline in a process of its own: what it says crosses, and a request can be stopped."""

import base64
import io
import json
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

pytest.importorskip("diffusers", reason="needs the extra diffusers")

import diffusers
import PIL.Image
import torch

import pipelines
from diffusion.conftest import encoded, png, shown
from e2e.server import serving
from models import photo

pytestmark = pytest.mark.filterwarnings("ignore")
OPTIONS = ("--diffusion-engine", "torch", "--precision", "f32")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    checker, extractor = pipelines.checker()
    checker.concept_embeds_weights.data.fill_(10.0)
    checker.special_care_embeds_weights.data.fill_(10.0)
    pipe = pipelines.pix2pix(safety_checker=checker, feature_extractor=extractor)
    pipelines.save(folder, "edit", pipe)
    return folder


def body(pixels: Any, **parameters: Any) -> dict[str, Any]:
    parameters = {"prompt": "make it snow", "seed": 3, "output_format": "png", **parameters}
    return {"inputs": encoded(pixels), "parameters": parameters}


def test_what_a_pipeline_says_crosses_from_its_process(models: Path, tmp_path: Path) -> None:
    pixels = photo(64, 64)
    pipe = diffusers.StableDiffusionInstructPix2PixPipeline.from_pretrained(
        models / "acme" / "edit"
    )
    pipe.set_progress_bar_config(disable=True)
    with torch.inference_mode():
        expected = pipe(
            "make it snow",
            image=PIL.Image.fromarray(pixels),
            num_inference_steps=4,
            generator=torch.Generator().manual_seed(3),
        ).images[0]
    with serving(tmp_path, "--models-dir", str(models), *OPTIONS) as server:
        url = f"{server.url}/models/acme/edit"
        headers = {"x-wait-for-model": "true"}
        answer = httpx.post(
            url, json=body(pixels, num_inference_steps=4), headers=headers, timeout=90
        )
        assert np.array_equal(shown(answer), np.array(expected))
        assert answer.headers["x-safety"] == "passed"
        assert answer.headers["x-compute-type"] == "cpu"
        size = {"width": 100, "height": 75}
        answer = httpx.post(
            url,
            json=body(pixels, num_inference_steps=2, target_size=size),
            headers=headers,
            timeout=90,
        )
        assert shown(answer).shape == (75, 100, 3)
        assert "computed at" in answer.headers["x-hf-warning"]
        # A request that nobody waits for is over within a step.
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(url, json=body(pixels, num_inference_steps=500), timeout=1.0)
        started_s = time.monotonic()
        raw = httpx.post(url, content=png(pixels), headers={"x-wait-for-model": "true"}, timeout=60)
        assert raw.status_code == 422, "a prompt is required, and no worker was needed to say so"
        again = httpx.post(url, json=body(pixels, num_inference_steps=1, seed=9), timeout=60)
        assert again.status_code == 200
        assert time.monotonic() - started_s < 30
        told = httpx.get(url).json()
        assert told["state"] == "loaded"
        assert told["precision"].startswith("f32")


def test_who_follows_a_request_is_shown_previews(models: Path, tmp_path: Path) -> None:
    with serving(tmp_path, "--models-dir", str(models), *OPTIONS) as server:
        told: list[tuple[str, dict[str, Any]]] = []

        def follow() -> None:
            kind, url = "", f"{server.url}/requests/mine/events"
            with httpx.stream("GET", url, timeout=90) as stream:
                for line in stream.iter_lines():
                    name, _, value = line.partition(": ")
                    if name == "event":
                        kind = value
                    elif name == "data":
                        told.append((kind, json.loads(value)))

        following = threading.Thread(target=follow)
        following.start()
        answer = httpx.post(
            f"{server.url}/models/acme/edit",
            json=body(photo(64, 96), num_inference_steps=20),
            headers={"x-wait-for-model": "true", "x-request-id": "mine"},
            timeout=90,
        )
        assert answer.status_code == 200, answer.text
        following.join(30)
    shown = [document["preview"] for kind, document in told if kind == "preview"]
    assert shown, [kind for kind, _ in told]
    for uri in shown:
        head, _, data = uri.partition(",")
        assert head == "data:image/png;base64"
        picture = PIL.Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
        assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (48, 32))
    assert all(document["state"] == "running" for kind, document in told if kind == "preview")
    assert told[-1][0] == "done"
    assert told[-1][1]["preview"] is None
