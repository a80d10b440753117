"""The unmodified openai package edits pictures here, as it does at home."""

import base64
import io
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from PIL import Image

from e2e.server import serving

KEY = "calotype"


@pytest.fixture
def client(server: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server}/v1", api_key=KEY, max_retries=0) as client:
        yield client


@pytest.fixture
async def aclient(server: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{server}/v1", api_key=KEY) as client:
        yield client


def opened(text: str | None) -> Image.Image:
    assert text is not None
    return Image.open(io.BytesIO(base64.b64decode(text)))


def shown(answer: Any, number: int = 0) -> Image.Image:  # noqa: ANN401  with further members
    return opened(answer.data[number].b64_json)


def middle(image: Image.Image) -> Any:  # noqa: ANN401  a pixel's type depends on the mode
    return image.convert("RGB").resize((1, 1)).getpixel((0, 0))


def near(image: Image.Image, colour: tuple[int, int, int], most: int = 12) -> bool:
    return bool(max(abs(a - b) for a, b in zip(middle(image), colour, strict=True)) <= most)


def test_a_picture(client: openai.OpenAI, picture: Path) -> None:
    with picture.open("rb") as file:
        answer = client.images.edit(
            image=file, prompt="larger", model="upscale-fast", extra_body={"scale": 2}
        )
    image = shown(answer)
    assert (image.format, image.size, answer.size) == ("PNG", (80, 48), "80x48")
    assert answer.output_format == "png"
    assert near(image, (120, 65, 120))
    assert answer.model_extra is not None
    assert answer.model_extra["warnings"] == [
        "parameters; prompt was ignored: upscale-fast takes no prompt"
    ]


def test_its_own_choices(client: openai.OpenAI, picture: Path) -> None:
    answer = client.images.edit(
        image=picture.read_bytes(),
        prompt="",
        n=2,
        size="100x60",
        output_format="webp",
        response_format="url",
        quality="high",
        background="auto",
        user="me",
    )
    assert answer.data is not None
    urls = [one.url or "" for one in answer.data]
    assert urls[0] == urls[1]
    image = opened(urls[0].removeprefix("data:image/webp;base64,"))
    assert (image.format, image.size) == ("WEBP", (100, 60))
    assert answer.model_extra is not None
    told = answer.model_extra["warnings"]
    assert [text.split(";")[1].split()[0] for text in told] == ["quality", "n:"]


def test_headers(client: openai.OpenAI, picture: Path) -> None:
    raw = client.images.with_raw_response.edit(
        image=picture, prompt="", extra_headers={"x-request-id": "mine"}
    )
    assert raw.headers["x-request-id"] == "mine"
    assert raw.headers["x-model-id"] == "xinntao/realesr-animevideov3"
    assert shown(raw.parse()).size == (160, 96)


def test_a_mask(client: openai.OpenAI, tmp_path: Path) -> None:
    pixels = np.full((64, 64, 3), (40, 160, 90), np.uint8)
    pixels[24:40, 24:40] = (255, 0, 0)
    Image.fromarray(pixels).save(tmp_path / "in.png")
    mask = Image.new("RGBA", (64, 64), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (20, 20, 44, 44))
    mask.save(tmp_path / "mask.png")
    answer = client.images.edit(
        image=tmp_path / "in.png", mask=tmp_path / "mask.png", prompt="", model="inpaint"
    )
    found = np.asarray(shown(answer).convert("RGB"))
    inside = np.asarray(mask)[:, :, 3] == 0
    assert np.array_equal(found[~inside], pixels[~inside]), "outside, each pixel is the input's"
    hole = found[24:40, 24:40].reshape(-1, 3).mean(0)
    assert np.abs(hole - (40, 160, 90)).max() < 30, "the red is gone"


def test_a_second_picture_is_the_style(client: openai.OpenAI, picture: Path) -> None:
    painting = io.BytesIO()
    Image.effect_noise((64, 64), 90).convert("RGB").save(painting, "PNG")
    answer = client.images.edit(
        image=[picture, ("painting.png", painting.getvalue())], prompt="", model="style-image"
    )
    assert shown(answer).size == (40, 24)
    plain = client.images.edit(
        image=[picture, picture], prompt="", model="style-image", extra_body={"strength": 0}
    )
    assert middle(shown(plain)) != middle(shown(answer))


def test_a_chain(client: openai.OpenAI, picture: Path) -> None:
    answer = client.images.edit(
        image=picture,
        prompt="",
        model="upscale-fast+style",
        extra_body={"upscale-fast": {"scale": 2}, "style": {"style": "neon", "strength": 0.5}},
    )
    assert shown(answer).size == (80, 48)
    assert answer.model_extra is not None
    assert answer.model_extra["warnings"] == []


def test_what_is_wrong(client: openai.OpenAI, picture: Path) -> None:
    with pytest.raises(openai.BadRequestError, match="cannot identify image") as bad:
        client.images.edit(image=b"hello", prompt="")
    assert (bad.value.code, bad.value.type) == ("image", "invalid_request_error")
    with pytest.raises(openai.UnprocessableEntityError, match="scale must be one of") as wrong:
        client.images.edit(image=picture, prompt="", extra_body={"scale": 7})
    assert (wrong.value.param, wrong.value.code) == ("scale", "validation")
    with pytest.raises(openai.NotFoundError, match="GET /v1/models lists the models") as unknown:
        client.images.edit(image=picture, prompt="", model="gpt-image-1")
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError, match="stream is not supported"):
        client.images.edit(image=picture, prompt="", stream=True)
    with pytest.raises(openai.NotFoundError, match="/v1/images/generations does not exist"):
        client.images.generate(prompt="a cat")


def test_models(client: openai.OpenAI) -> None:
    found = {model.id: model for model in client.models.list()}
    assert {"upscale-fast", "inpaint", "style"} <= set(found)
    assert found["upscale-fast"].owned_by == "xinntao"
    assert client.models.retrieve("upscale-fast") == found["upscale-fast"]
    assert client.models.retrieve("xinntao/realesr-animevideov3") == found["upscale-fast"]
    with pytest.raises(openai.NotFoundError, match="Model nothing does not exist"):
        client.models.retrieve("nothing")


async def test_the_asynchronous_client(aclient: openai.AsyncOpenAI, picture: Path) -> None:
    answer = await aclient.images.edit(image=picture, prompt="", n=1)
    assert shown(answer).size == (160, 96)
    assert "upscale-fast" in [model.id async for model in aclient.models.list()]


def test_tokens(tmp_path: Path, picture: Path) -> None:
    from calotype.api.door import TOKENS_FILE
    from calotype.api.tokens import TokenStore

    secret = TokenStore(tmp_path / "data" / TOKENS_FILE).create("ci", models=["upscale-fast"])
    with serving(tmp_path) as server:
        base_url = f"{server.url}/v1"
        with (
            openai.OpenAI(base_url=base_url, api_key="wrong", max_retries=0) as stranger,
            pytest.raises(openai.AuthenticationError, match="the token seems invalid") as refused,
        ):
            stranger.images.edit(image=picture, prompt="")
        assert refused.value.code == "invalid_api_key"
        with openai.OpenAI(base_url=base_url, api_key=secret, max_retries=0) as client:
            answer = client.images.edit(image=picture, prompt="", model="upscale-fast")
            assert shown(answer).size == (160, 96)
            with pytest.raises(openai.PermissionDeniedError, match="may not run model"):
                client.images.edit(image=picture, prompt="", model="style")
            assert [model.id for model in client.models.list()] == ["upscale-fast"]


@pytest.mark.filterwarnings("ignore")
def test_several_pictures_of_a_pipeline(tmp_path: Path) -> None:
    pytest.importorskip("diffusers", reason="needs the extra diffusers")
    import pipelines
    from models import photo

    models = tmp_path / "models"
    pipelines.save(models, "edit", pipelines.pix2pix())
    upload = io.BytesIO()
    Image.fromarray(photo(64, 64)).save(upload, "PNG")
    options = ("--diffusion-engine", "torch", "--precision", "f32", "--models-dir", str(models))
    with (
        serving(tmp_path, *options) as server,
        openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0) as client,
    ):
        asked: dict[str, Any] = {"image": upload.getvalue(), "model": "acme/edit"}
        asked |= {"prompt": "make it snow", "extra_body": {"num_inference_steps": 2}}
        drawn: Any = client.images.edit(**asked, n=2)
        seeds = [one.seed for one in drawn.data]
        assert seeds[0] != seeds[1]
        assert shown(drawn, 0).tobytes() != shown(drawn, 1).tobytes()
        again: Any = client.images.edit(
            **asked | {"extra_body": {"num_inference_steps": 2, "seed": seeds[1]}}, n=2
        )
        assert again.data[0].b64_json == drawn.data[1].b64_json, "a seed is a picture"
        assert [one.seed for one in again.data] == [seeds[1], (seeds[1] + 1) % 2**63]
