"""Seeds: what a request that names none starts from."""

import secrets
from collections.abc import Iterable
from dataclasses import replace

from calotype.domain.request import Stage

SEED_BITS = 63
"""Seeds are 0..2^63-1, which every client's integers hold."""


def choose_seed(stages: Iterable[Stage]) -> int | None:
    """Draw one seed for all stages that take one and were given none.

    Returns:
        That seed; the first that was given where each has its own; None if no model takes any.
    """
    seeds = [stage.values.get("seed") for stage in stages if stage.model.param("seed")]
    given = [seed for seed in seeds if isinstance(seed, int)]
    if not seeds:
        return None
    return given[0] if len(given) == len(seeds) else secrets.randbits(SEED_BITS)


def seeded(stages: Iterable[Stage], seed: int | None) -> tuple[Stage, ...]:
    """Return the stages with a seed where they take one and were given none."""
    return tuple(
        replace(stage, values={**stage.values, "seed": seed})
        if stage.model.param("seed") and stage.values.get("seed") is None
        else stage
        for stage in stages
    )
