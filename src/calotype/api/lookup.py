"""What models there are: the catalog, in our words and in those of the Hub."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from calotype.api.auth import Caller, require
from calotype.api.document import json_response
from calotype.api.inference import model_name
from calotype.api.openai import model_list, model_object
from calotype.domain.chain import Chain, joint_status
from calotype.domain.model import AUTO, ModelSpec, ModelStatus
from calotype.domain.schema import chain_schema, json_schema
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
        """Describe a model, or a chain."""
        name = model_name(request.scope)
        try:
            chain = self.pipeline.catalog.chain(name)
        except UnknownModelError:
            # `/info` may be the end of the path, or of the model's name.
            if not name.endswith(_INFO):
                raise
            chain = self.pipeline.catalog.chain(name.removesuffix(_INFO))
        return json_response(_chain_details(chain, self._statuses(chain, caller)))

    def status(self, request: Request, caller: Caller) -> Response:
        """Tell whether a model is loaded, as the API's clients ask."""
        spec, status = self._whole(request, caller)
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
        return json_response(_hub(*self._whole(request, caller)))

    def hub_tasks(self, request: Request, caller: Caller) -> Response:
        """Name the default model, as the Hub names its recommended ones."""
        del request, caller
        return json_response({TASK: {"widgetModels": [self.pipeline.catalog.default.id]}})

    def openai_models(self, request: Request, caller: Caller) -> Response:
        """List the models as OpenAI does."""
        del request
        return json_response(model_list(self.specs(caller)))

    def openai_model(self, request: Request, caller: Caller) -> Response:
        """Describe a model, or a chain, as OpenAI does."""
        spec, _ = self._whole(request, caller)
        return json_response(model_object(spec))

    def specs(self, caller: Caller) -> list[ModelSpec]:
        """Return the models that a caller sees."""
        return [spec for spec, _ in self._visible(caller)]

    def _whole(self, request: Request, caller: Caller) -> _Found:
        """Return the model that a path names, or what stands for the chain."""
        chain = self.pipeline.catalog.chain(model_name(request.scope))
        return chain.spec, joint_status(chain, self._statuses(chain, caller))

    def _statuses(self, chain: Chain, caller: Caller) -> list[ModelStatus]:
        """Return the state of each model, all of which the caller must be allowed to see."""
        for spec in chain.models:
            _require_sight(caller, spec)
        return [self.pipeline.runner.status(spec) for spec in chain.models]

    def _visible(self, caller: Caller) -> Iterator[_Found]:
        for spec in self.pipeline.catalog.all():
            try:
                _require_sight(caller, spec)
            except ForbiddenError:
                continue
            yield spec, self.pipeline.runner.status(spec)


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
        "tile_px": None if spec.tile == AUTO else spec.tile,
        "overlap_px": None if spec.overlap == AUTO else spec.overlap,
        "size_bytes": spec.size_bytes,
        "device": status.device,
        "precision": status.precision or None,
    }


def _chain_details(chain: Chain, statuses: Sequence[ModelStatus]) -> dict[str, object]:
    """Describe a chain as if it were a model, and each of its models."""
    whole = _details(chain.spec, joint_status(chain, statuses))
    if chain.is_single:
        return whole
    stages = zip(chain.models, chain.labels, statuses, strict=True)
    return whole | {
        "parameters": chain_schema(chain),
        "stages": [{"stage": label, **_details(spec, status)} for spec, label, status in stages],
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
