"""Several pictures for one request: their seeds, their progress, and what is told of them all."""

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any

from calotype.domain.chain import Chain
from calotype.domain.event import Entered, Event, Preview, Progress, Started
from calotype.domain.hooks import Hooks
from calotype.domain.model import ParamSpec
from calotype.domain.params import all_params
from calotype.domain.request import ImageRequest, ImageResponse
from calotype.domain.value import MAX_INTEGER

SEED = "seed"
Run = Callable[[ImageRequest], Coroutine[Any, Any, ImageResponse]]

STEPS = 1000
"""Of each picture in the progress of all."""


def draws(chain: Chain) -> bool:
    """Tell whether any model of a chain draws random numbers, so that pictures may differ."""
    return bool(_seeds(chain))


def with_seeds(
    chain: Chain, parameters: Mapping[str, object], count: int
) -> list[Mapping[str, object]]:
    """Return the parameters of each picture: its seed is one more than that of the one before.

    Args:
        chain: what will run; it draws.
        parameters: as sent. A seed that is no good stays as it is, for the pipeline to refuse.
        count: of the pictures; with only one, a seed is left to be drawn later, or never.
    """
    if count == 1:
        return [parameters]
    seeds = _seeds(chain)
    low = int(max(seed.minimum or 0 for seed in seeds))
    high = int(min(MAX_INTEGER if seed.maximum is None else seed.maximum for seed in seeds))
    allowed = range(low, max(low, high) + 1)
    if parameters.get(SEED) is None:
        span = allowed.stop - allowed.start  # too long for len()
        parameters = {**parameters, SEED: low + secrets.randbelow(span)}
    return [_shifted(parameters, chain, number, allowed) for number in range(count)]


def share_hooks(hooks: Hooks, count: int) -> list[Hooks]:
    """Return hooks for each of some pictures that are made side by side.

    Args:
        hooks: of the request, which is told of all of them; of one picture, they are its own.
        count: of the pictures.
    """
    if count == 1:
        return [hooks]
    together = _Together(hooks, count)
    return [together.hooks_of(number) for number in range(count)]


async def run_all(run: Run, requests: Sequence[ImageRequest]) -> list[ImageResponse]:
    """Run all requests side by side; if one fails, the others are stopped.

    Raises:
        CalotypeError: the first that there was.
    """
    if len(requests) == 1:
        return [await run(requests[0])]
    tasks = [asyncio.create_task(run(request)) for request in requests]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def joined(responses: Sequence[ImageResponse]) -> ImageResponse:
    """Return the first response, with what is to be said of all of them."""
    first = responses[0]
    if len(responses) == 1:
        return first
    facts = {
        name: ", ".join(dict.fromkeys(one.facts.get(name, "") for one in responses))
        for name in first.facts
    }
    return replace(
        first,
        cache=first.cache if len({one.cache for one in responses}) == 1 else "miss",
        warnings=tuple(dict.fromkeys(text for one in responses for text in one.warnings)),
        seed=None,
        facts=facts,
        compute_s=max(one.compute_s for one in responses),
    )


def _seeds(chain: Chain) -> list[ParamSpec]:
    """Return the seed of each model that takes one."""
    params = (param for model in chain.models for param in all_params(model))
    return [param for param in params if param.name == SEED and param.type == "integer"]


def _shifted(
    parameters: Mapping[str, object], chain: Chain, number: int, allowed: range
) -> Mapping[str, object]:
    """Return the parameters of a picture by its number, those of single stages among them."""
    tables = {
        name: {**table, SEED: _later(table[SEED], number, allowed)}
        for name in chain.addresses
        if isinstance(table := parameters.get(name), Mapping) and SEED in table
    }
    return {**parameters, SEED: _later(parameters[SEED], number, allowed), **tables}


def _later(seed: object, number: int, allowed: range) -> object:
    """Return the seed that is so many after one, beginning anew after the last."""
    if isinstance(seed, float) and seed.is_integer():
        seed = int(seed)
    if not isinstance(seed, int) or isinstance(seed, bool) or seed not in allowed:
        return seed
    span = allowed.stop - allowed.start
    return allowed.start + (seed - allowed.start + number) % span


class _Together:
    """Tells of pictures that are made side by side as if they were one."""

    def __init__(self, hooks: Hooks, count: int) -> None:
        self._hooks = hooks
        self._shares = [0] * count
        self._has_started = False

    def hooks_of(self, number: int) -> Hooks:
        """Return what one of the pictures is to be run with."""
        return Hooks(on_event=lambda event: self._heard(number, event))

    def _heard(self, number: int, event: Event) -> None:
        if isinstance(event, Progress):
            self._shares[number] = STEPS * event.done // event.total if event.total else 0
            event = Progress(sum(self._shares), STEPS * len(self._shares))
        elif isinstance(event, Preview | Entered):
            if number:
                return
        elif self._has_started:
            return  # the others wait, but the request is at work
        self._has_started = self._has_started or isinstance(event, Started | Progress)
        self._hooks.happened(event)
