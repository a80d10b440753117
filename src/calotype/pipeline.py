"""The path of one request, top to bottom. Read this file first."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from calotype.cache.flight import SingleFlight
from calotype.cache.key import name_answer
from calotype.cache.memory import Entry, ResponseCache
from calotype.catalog.catalog import Catalog
from calotype.codec.service import Codec
from calotype.domain.deadline import on_loop
from calotype.domain.model import ModelSpec, ModelStatus
from calotype.domain.params import Applied, apply_params, canonical
from calotype.domain.request import (
    CacheStatus,
    ImageFormat,
    ImageRequest,
    ImageResponse,
    Job,
    Outcome,
    ParamValue,
)
from calotype.domain.seed import seeded
from calotype.errors import DeadlineExceededError
from calotype.observe import metrics


class Runner(Protocol):
    """Something that runs jobs: ``execution.pool`` here, ``scale.remote`` on a cluster."""

    async def submit(self, job: Job) -> Outcome:
        """Run one job, alone or in company; stop it when the caller is cancelled."""
        ...

    def check(self) -> None:
        """Raise what ``submit`` would raise for any job now, before anything is decoded for it."""
        ...

    def status(self, model: ModelSpec) -> ModelStatus:
        """Tell what is known about a model at run time."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """One request: look up, check, cache, decode, run, encode, cache."""

    catalog: Catalog
    cache: ResponseCache
    runner: Runner
    codec: Codec
    kind: str = ""
    """What changes answers beside the requests: precision and how files are written."""
    stamp: Callable[[Mapping[str, ParamValue]], str] = lambda _: ""
    """Which version of the files that parameters name."""
    flights: SingleFlight[tuple[Entry, Outcome]] = field(
        default_factory=lambda: SingleFlight((DeadlineExceededError,))
    )

    async def run(self, request: ImageRequest) -> ImageResponse:
        """Answer one request.

        Raises:
            RequestError: the request cannot be served as asked.
            CapacityError: it could be served later.
            BackendError: the model failed on it.
        """
        try:
            async with asyncio.timeout_at(on_loop(request.deadline_s)):
                return await self._run(request)
        except TimeoutError:
            raise DeadlineExceededError("the deadline passed before the picture was done") from None

    async def _run(self, request: ImageRequest) -> ImageResponse:
        started_s, model = time.monotonic(), self.catalog.get(request.model_id)
        applied = apply_params(model, request.parameters, strict=request.strict)
        formats = self.codec.choose_formats(request.upload, request.formats, applied.values)
        kind = f"{','.join(formats)} {self.kind} {self.stamp(applied.values)}"
        key = await name_answer(request.upload, model, canonical(applied.values), kind)
        outcome: Outcome | None = None
        status: CacheStatus = "hit"
        entry = await self.cache.get(key) if request.use_cache else None
        if entry is None:
            entry, outcome, status = await self._compute(request, model, applied, formats, key)
        metrics.CACHE.labels(status).inc()
        return ImageResponse(
            body=entry.body,
            format=entry.format,
            etag=entry.etag,
            model=model,
            cache=status,
            applied=applied.values,
            warnings=applied.warnings + entry.notes,
            seed=entry.seed,
            outcome=outcome,
            facts=entry.facts,
            compute_s=time.monotonic() - started_s if outcome else 0.0,
        )

    def models(self) -> list[tuple[ModelSpec, ModelStatus]]:
        """Return every model with its state."""
        return [(model, self.runner.status(model)) for model in self.catalog.all()]

    def model(self, name: str) -> tuple[ModelSpec, ModelStatus]:
        """Return one model by id or alias, the default for an empty name, with its state.

        Raises:
            UnknownModelError: there is none.
        """
        model = self.catalog.get(name)
        return model, self.runner.status(model)

    async def _compute(
        self,
        request: ImageRequest,
        model: ModelSpec,
        applied: Applied,
        formats: tuple[ImageFormat, ...],
        key: str,
    ) -> tuple[Entry, Outcome, CacheStatus]:
        """Make the answer, or wait for the same one that is being made."""
        # The seed is no part of the key: a request that names none may be answered by any.
        seed, values = seeded(model, applied.values)

        async def compute() -> tuple[Entry, Outcome]:
            self.runner.check()
            inputs = await self.codec.decode(model, request.upload, values, formats)
            job = request.job(model, inputs.params, inputs.image, inputs.images)
            outcome = Outcome(image=job.image) if inputs.is_done else await self.runner.submit(job)
            file = await self.codec.encode(model, inputs, outcome.image, values, formats)
            entry = Entry(
                body=file.body,
                format=file.format,
                etag=file.etag,
                seed=seed,
                notes=(*request.hooks.notes, *file.notes),
                facts={**request.hooks.facts, **file.facts},
            )
            await self.cache.put(key, entry)
            return entry, outcome

        if not request.use_cache:
            return *await compute(), "bypass"
        # Who waits for a model and who doesn't can't share an answer that says that it loads.
        flight = f"{key} {request.wait_for_model}"
        (entry, outcome), shared = await self.flights.run(flight, compute)
        return entry, outcome, "coalesced" if shared else "miss"
