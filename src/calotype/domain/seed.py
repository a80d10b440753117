"""Seeds: what a request that names none starts from."""

import secrets
from collections.abc import Mapping

from calotype.domain.model import ModelSpec
from calotype.domain.request import ParamValue

SEED_BITS = 63
"""Seeds are 0..2^63-1, which every client's integers hold."""


def seeded(
    model: ModelSpec, values: Mapping[str, ParamValue]
) -> tuple[int | None, Mapping[str, ParamValue]]:
    """Draw a seed where the model takes one and the request named none.

    Returns:
        The seed that the run starts from, None if the model takes none, and the parameters with it.
    """
    if model.param("seed") is None:
        return None, values
    given = values.get("seed")
    seed = given if isinstance(given, int) else secrets.randbits(SEED_BITS)
    return seed, {**values, "seed": seed}
