"""What a user of huggingface_hub writes; runs in either version's environment.

Arguments: the server's URL, a picture. Prints one JSON object: case -> what came back.
"""

import asyncio
import io
import json
import logging
import sys
from typing import Any

import huggingface_hub
from huggingface_hub import AsyncInferenceClient, InferenceClient

OLD = huggingface_hub.__version__.startswith("0.")
url, path = sys.argv[1:]
data = open(path, "rb").read()  # noqa: SIM115, PTH123
fast = f"{url}/models/upscale-fast"
style = f"{url}/models/style"
size: dict[str, Any] = (
    {"width": 100, "height": 60} if OLD else {"target_size": {"width": 100, "height": 60}}
)
chained: dict[str, Any] = {"upscale-fast": {"scale": 2}, "strength": 0}
log = io.StringIO()
logging.getLogger("huggingface_hub").addHandler(logging.StreamHandler(log))


def seen(image: Any) -> list[Any]:  # noqa: ANN401
    return [*image.size, image.convert("RGB").resize((1, 1)).getpixel((0, 0))]


def run_sync() -> dict[str, Any]:
    by_model, by_base = InferenceClient(model=fast), InferenceClient(base_url=url)
    found = {
        "model": by_model.image_to_image(data),
        "path": by_model.image_to_image(path),
        "scale": by_model.image_to_image(data, scale=2),
        "size": by_model.image_to_image(data, **size),
        "base_url": by_base.image_to_image(data, scale=2),
        "argument": InferenceClient().image_to_image(data, model=fast, scale=3),
        "style": InferenceClient(model=style).image_to_image(
            data, "a painting", style="starry", strength=0.8
        ),
    }
    found["chain"] = InferenceClient(model=f"{fast}+style").image_to_image(data, **chained)
    if OLD:  # it asks HF_INFERENCE_ENDPOINT for any model named by its id
        by_id = InferenceClient(model="xinntao/realesr-animevideov3")
        found["endpoint"] = by_id.image_to_image(data, scale=2)
    return {name: seen(image) for name, image in found.items()}


async def run_async() -> dict[str, Any]:
    client = AsyncInferenceClient(model=fast)
    plain, scaled, sized = await asyncio.gather(
        client.image_to_image(data),
        client.image_to_image(data, scale=2),
        client.image_to_image(data, **size),
    )
    return {
        "async model": seen(plain),
        "async scale": seen(scaled),
        "async size": seen(sized),
    }


def error() -> dict[str, Any]:
    try:
        InferenceClient(model=fast).image_to_image(data, scale=7)
    except Exception as problem:
        response = getattr(problem, "response", None)
        return {"error": [getattr(response, "status_code", None), str(problem)]}
    return {"error": None}


result = {**run_sync(), **asyncio.run(run_async()), **error()}
result["version"] = huggingface_hub.__version__
result["log"] = log.getvalue()
sys.stdout.write(json.dumps(result))
