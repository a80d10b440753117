"""What models there are: the catalog, in our words and in those of the Hub."""

from collections.abc import Iterator
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from calotype.api.auth import Caller, require
from calotype.api.document import json_response
from calotype.api.inference import model_name
from calotype.domain.model import ModelSpec, ModelStatus
from calotype.domain.schema import json_schema
from calotype.errors import ForbiddenError, UnknownModelError
from calotype.pipeline import Pipeline

TASK = "image-to-image"
"""The one task of the API that this server has; a model's own is narrower."""

_INFO = "/info"
_STATES = {"loaded": "Loaded", "too_large": "TooBig"}
"""As the API's clients know them; any other is ``Loadable``."""
_Found = tuple[ModelSpec, ModelStatus]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """Endpoints that read the catalog; a caller sees the models that it may run."""

    pipeline: Pipeline

    def models(self, request: Request, caller: Caller) -> Response:
        """List the models."""
        del request
        return json_response([_summary(*found) for found in self._visible(caller)])

    def model(self, request: Request, caller: Caller) -> Response:
        """Describe a model."""
        name = model_name(request.scope)
        try:
            found = self.pipeline.model(name)
        except UnknownModelError:
            # `/info` may be the end of the path, or of the model's name.
            if not name.endswith(_INFO):
                raise
            found = self.pipeline.model(name.removesuffix(_INFO))
        _require_sight(caller, found[0])
        return json_response(_details(*found))

    def status(self, request: Request, caller: Caller) -> Response:
        """Tell whether a model is loaded, as the API's clients ask."""
        spec, status = self._one(request, caller)
        on_gpu = {"gpu": {"gpu": "gpu", "count": 1}}
        answer = {
            "loaded": status.state == "loaded",
            "state": _STATES.get(status.state, "Loadable"),
            "compute_type": "cpu" if status.device == "cpu" else on_gpu,
            "framework": spec.backend,
        }
        return json_response(answer)

    def framework(self, request: Request, caller: Caller) -> Response:
        """List the models of a framework; none for one that isn't here."""
        name = request.path_params["name"]
        found = [spec for spec, _ in self._visible(caller) if spec.backend == name]
        return json_response([{"model_id": spec.id, "task": TASK} for spec in found])

    def hub_model(self, request: Request, caller: Caller) -> Response:
        """Describe a model as the Hub would."""
        return json_response(_hub(*self._one(request, caller)))

    def hub_tasks(self, request: Request, caller: Caller) -> Response:
        """Name the default model, as the Hub names its recommended ones."""
        del request, caller
        spec, _ = self.pipeline.model("")
        return json_response({TASK: {"widgetModels": [spec.id]}})

    def specs(self, caller: Caller) -> list[ModelSpec]:
        """Return the models that a caller sees."""
        return [spec for spec, _ in self._visible(caller)]

    def _one(self, request: Request, caller: Caller) -> _Found:
        found = self.pipeline.model(model_name(request.scope))
        _require_sight(caller, found[0])
        return found

    def _visible(self, caller: Caller) -> Iterator[_Found]:
        for spec, status in self.pipeline.models():
            try:
                _require_sight(caller, spec)
            except ForbiddenError:
                continue
            yield spec, status


def _require_sight(caller: Caller, spec: ModelSpec) -> None:
    """Refuse a caller that may neither run the model nor operate the server."""
    if not caller.has_scope("admin"):
        require(caller, spec.id, spec.alias)


def _summary(spec: ModelSpec, status: ModelStatus) -> dict[str, object]:
    return {
        "id": spec.id,
        "alias": spec.alias or None,
        "task": spec.task,
        "pipeline_tag": TASK,
        "description": spec.description,
        "license": spec.licence,
        "state": status.state,
        "resident_bytes": status.resident_bytes,
        "estimated_load_s": _seconds(status.estimated_load_s),
        "retry_after_s": _seconds(status.retry_after_s),
        "parameters": json_schema(spec),
    }


def _details(spec: ModelSpec, status: ModelStatus) -> dict[str, object]:
    return _summary(spec, status) | {
        "backend": spec.backend,
        "revision": spec.revision,
        "source": spec.source or None,
        "scale": spec.scale,
        "tile_px": spec.tile,
        "overlap_px": spec.overlap,
        "size_bytes": spec.size_bytes,
        "device": status.device,
        "precision": status.precision or None,
    }


def _seconds(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _hub(spec: ModelSpec, status: ModelStatus) -> dict[str, object]:
    """Write the part of a Hub record that its clients need.

    Source:
        https://huggingface.co/docs/hub/api#get-apimodelsrepoid
    """
    provider = {"status": "live", "providerId": spec.id, "task": TASK}
    return {
        "id": spec.id,
        "modelId": spec.id,
        "author": spec.id.partition("/")[0] if "/" in spec.id else None,
        "sha": spec.revision,
        "pipeline_tag": TASK,
        "library_name": spec.backend,
        "tags": [*dict.fromkeys((TASK, spec.task, spec.backend, f"license:{spec.licence}"))],
        "private": False,
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "siblings": [],
        "inference": "warm" if status.state == "loaded" else "cold",
        "inferenceProviderMapping": {"hf-inference": provider},
    }
