"""The path of one request, top to bottom. Read this file first."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from calotype.cache.flight import Flights, SingleFlight
from calotype.cache.key import name_answer
from calotype.cache.memory import Entry, ResponseCache
from calotype.catalog.catalog import Catalog
from calotype.codec.service import Codec, Made, Upload
from calotype.domain.deadline import on_loop
from calotype.domain.hooks import Hooks
from calotype.domain.model import ModelSpec, ModelStatus
from calotype.domain.plan import Planner, plan_stages
from calotype.domain.request import CacheStatus, ImageRequest, ImageResponse, Job, Outcome, Stage
from calotype.domain.seed import choose_seed, seeded
from calotype.domain.stage import Run, naming, skip, stage_hooks, summed
from calotype.errors import DeadlineExceededError
from calotype.observe import metrics, trace


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
    stamp: Callable[[Stage], str] = lambda _: ""
    """Which version of the files that parameters name."""
    planner: Planner = field(default_factory=Planner)
    flights: Flights[tuple[Entry, Outcome | None]] = field(default_factory=SingleFlight)

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

    def check(self, request: ImageRequest) -> None:
        """Raise what ``run`` would raise now, before anything is decoded or looked for."""
        plan_stages(self.catalog.chain(request.model_id), request.parameters, strict=request.strict)
        self.runner.check()

    async def _run(self, request: ImageRequest) -> ImageResponse:
        started_s, chain = time.monotonic(), self.catalog.chain(request.model_id)
        plan = self.planner.plan(chain, request.parameters, strict=request.strict)
        formats = self.codec.choose_formats(request.upload, request.formats, plan.last.values)
        if formats != request.formats:
            request = replace(request, formats=formats)
        kind = " ".join((",".join(formats), self.kind, *map(self.stamp, plan.stages)))
        key = await name_answer(request.upload, chain.spec, plan.text, kind)
        outcome: Outcome | None = None
        status: CacheStatus = "hit"
        entry = await trace.timed("cache.get", self.cache.get(key)) if request.use_cache else None
        if entry is None:
            entry, outcome, status = await self._compute(request, plan.stages, key)
        metrics.CACHE.labels(status).inc()
        return ImageResponse(
            body=entry.body,
            format=entry.format,
            etag=entry.etag,
            model=chain.spec,
            cache=status,
            stages=seeded(plan.stages, entry.seed),
            warnings=plan.warnings + entry.notes,
            seed=entry.seed,
            outcome=outcome,
            facts=entry.facts,
            compute_s=time.monotonic() - started_s if outcome else 0.0,
        )

    async def _compute(
        self, request: ImageRequest, stages: tuple[Stage, ...], key: str
    ) -> tuple[Entry, Outcome | None, CacheStatus]:
        """Make the answer, or wait for the same one that is being made."""
        # The seed is no part of the key: a request that names none may be answered by any.
        seed = choose_seed(stages)

        async def compute(hooks: Hooks) -> tuple[Entry, Outcome]:
            self.runner.check()
            decoding = self.codec.decode(request.upload, stages, request.formats)
            upload = await trace.timed("decode", decoding)
            made, run = await self._run_stages(request, hooks, seeded(stages, seed), upload)
            file = await trace.timed("encode", self.codec.encode(made, upload, request.formats))
            entry = Entry(
                body=file.body,
                format=file.format,
                etag=file.etag,
                seed=seed,
                notes=(*run.notes, *file.notes),
                facts=run.facts,
            )
            await trace.timed("cache.put", self.cache.put(key, entry))
            return entry, replace(run.outcome, trace=trace.current())

        if not request.use_cache:
            return *await compute(request.hooks), "bypass"
        # Who waits for a model and who doesn't can't share an answer that says that it loads.
        flight = f"{key} {request.wait_for_model}"
        (entry, outcome), shared = await self.flights.run(flight, compute, request.hooks)
        trace.link(outcome.trace if outcome else "")
        return entry, outcome, "coalesced" if shared else "miss"

    async def _run_stages(
        self, request: ImageRequest, hooks: Hooks, stages: tuple[Stage, ...], upload: Upload
    ) -> tuple[Made, Run]:
        """Run one model after the other, each on what the one before made; most often only one."""
        made, runs = Made(image=upload.image), []
        for i, stage in enumerate(stages):
            with naming(stage), stage_hooks(hooks, stage.label, i, len(stages)) as own:
                inputs = await self.codec.prepare(stages[i:], made.image, upload.images[i])
                job = request.job(stage.model, inputs.params, inputs.image, inputs.images)
                job = replace(job, hooks=own, admitted=i > 0, trace=trace.current())
                outcome = skip(job) if inputs.is_done else await self.runner.submit(job)
                made = await self.codec.finish(stage, inputs, outcome.image)
            facts = {**own.facts, **made.facts}
            runs.append(Run(outcome=outcome, notes=own.notes, facts=facts))
        return made, summed(stages, runs)
