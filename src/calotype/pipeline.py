"""The path of one request, top to bottom. Read this file first."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Protocol

from calotype.cache.flight import SingleFlight
from calotype.cache.key import cache_key
from calotype.cache.memory import Entry, ResponseCache
from calotype.catalog.catalog import Catalog
from calotype.codec.service import Codec
from calotype.domain.model import ModelSpec, ModelStatus
from calotype.domain.params import Applied, apply_params, canonical
from calotype.domain.request import (
    CacheStatus,
    ImageFormat,
    ImageRequest,
    ImageResponse,
    Job,
    Outcome,
)
from calotype.domain.seed import seeded
from calotype.errors import DeadlineExceededError, ModelLoadingError
from calotype.observe import metrics

HASHED_INLINE_BYTES = 1024 * 1024
"""Larger uploads are hashed on a thread, so that nobody else waits; it takes 1 ms or more."""


class Runner(Protocol):
    """Something that runs jobs: ``execution.pool`` here, ``scale.remote`` on a cluster."""

    async def submit(self, job: Job) -> Outcome:
        """Run one job, alone or in company; stop it when the caller is cancelled."""
        ...

    def status(self, model: ModelSpec) -> ModelStatus:
        """Tell what is known about a model at run time."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Computed:
    """A fresh answer, and what it cost."""

    entry: Entry
    outcome: Outcome
    compute_s: float


@dataclass(slots=True, kw_only=True)
class Pipeline:
    """One request: look up, check, cache, decode, run, encode, cache."""

    catalog: Catalog
    cache: ResponseCache
    runner: Runner
    codec: Codec
    flights: SingleFlight[Computed] = field(
        default_factory=lambda: SingleFlight((DeadlineExceededError, ModelLoadingError))
    )

    async def run(self, request: ImageRequest) -> ImageResponse:
        """Answer one request.

        Raises:
            RequestError: the request cannot be served as asked.
            CapacityError: it could be served later.
            BackendError: the model failed on it.
        """
        model = self.catalog.get(request.model_id)
        applied = apply_params(model, request.parameters, strict=request.strict)
        file_format = self.codec.choose_format(request.upload, request.formats, applied.values)
        key = await self._key(request.upload, model, canonical(applied.values), file_format)
        if request.use_cache and (entry := await self.cache.get(key)):
            return _response(model, applied, entry, "hit")
        # The seed is drawn after the key is made: a request without one may be answered by any.
        seed, values = seeded(model, applied.values)

        async def compute() -> Computed:
            started_s = time.monotonic()
            inputs = await self.codec.decode(model, request.upload, values)
            job = Job(
                model=model,
                image=inputs.image,
                params=values,
                images=inputs.images,
                deadline_s=request.deadline_s,
                wait_for_model=request.wait_for_model,
                caller=request.caller,
                hooks=request.hooks,
            )
            outcome = await self.runner.submit(job)
            file = await self.codec.encode(inputs, model, outcome.image, values, file_format)
            entry = Entry(
                body=file.body, format=file_format, etag=file.etag, seed=seed, notes=file.notes
            )
            await self.cache.put(key, entry)
            return Computed(entry=entry, outcome=outcome, compute_s=time.monotonic() - started_s)

        status: CacheStatus = "miss"
        try:
            async with asyncio.timeout(_seconds_left(request.deadline_s)):
                if request.use_cache:
                    computed, shared = await self.flights.run(key, compute)
                    status = "coalesced" if shared else "miss"
                else:
                    computed, status = await compute(), "bypass"
        except TimeoutError:
            raise DeadlineExceededError("the deadline passed before the picture was done") from None
        return _response(model, applied, computed.entry, status, computed)

    async def _key(
        self, upload: bytes, model: ModelSpec, parameters: str, file_format: ImageFormat
    ) -> str:
        """Name the answer, off the event loop where hashing takes long."""
        if len(upload) <= HASHED_INLINE_BYTES:
            return cache_key(upload, model, parameters, file_format)
        return await asyncio.to_thread(cache_key, upload, model, parameters, file_format)

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


def _seconds_left(deadline_s: float) -> float | None:
    """Return seconds until a deadline, None when there is none."""
    return None if deadline_s == float("inf") else max(0.0, deadline_s - time.monotonic())


def _response(
    model: ModelSpec,
    applied: Applied,
    entry: Entry,
    cache: CacheStatus,
    computed: Computed | None = None,
) -> ImageResponse:
    """Join the answer with what is known about its making."""
    metrics.CACHE.labels(cache).inc()
    outcome = computed.outcome if computed else None
    return ImageResponse(
        body=entry.body,
        format=entry.format,
        etag=entry.etag,
        model=model,
        cache=cache,
        applied=applied.values,
        warnings=applied.warnings + entry.notes,
        seed=entry.seed,
        compute_type=outcome.device if outcome and cache != "coalesced" else "cache",
        queue_s=outcome.queue_s if outcome else 0.0,
        inference_s=outcome.inference_s if outcome else 0.0,
        compute_s=computed.compute_s if computed else 0.0,
        batch_size=outcome.batch_size if outcome else 1,
    )
