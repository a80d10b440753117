"""Which version of adapters a request gets, told alike by every server of a cluster."""

import time
from collections.abc import Callable

from calotype.domain.request import Loras, Stage
from calotype.errors import CalotypeError
from calotype.scale.weights import Source

KEPT_S = 1.0
"""How long a version counts: a changed adapter is a new one after that."""
AWAY_S = 10.0
"""How long the source isn't asked again once it did not answer."""
UNKNOWN = "unknown"


class AdapterStamps:
    """The ``stamp`` of a pipeline whose adapters are on another node.

    Args:
        source: asked on the loop, so it has to answer, or to give up, within a moment.
        clock: monotonic seconds.
    """

    def __init__(self, source: Source, clock: Callable[[], float] = time.monotonic) -> None:
        self._source, self._clock = source, clock
        self._known: dict[str, tuple[str, float]] = {}
        self._away_until_s = 0.0

    def __call__(self, stage: Stage) -> str:
        """Return what is equal as long as the files of a request's adapters are the same."""
        loras = stage.values.get("loras")
        if not isinstance(loras, Loras):
            return ""
        return " ".join(self._stamp(adapter) for adapter, _ in loras.scales)

    def _stamp(self, adapter: str) -> str:
        """Return an adapter's digest; the last one known while the source is away."""
        now_s = self._clock()
        stamp, until_s = self._known.get(adapter, (UNKNOWN, 0.0))
        if now_s < max(until_s, self._away_until_s):
            return stamp
        try:
            spec = self._source.adapter(adapter)
        except CalotypeError:
            self._away_until_s = now_s + AWAY_S
            return stamp
        if spec is None:
            self._known.pop(adapter, None)  # requests may name any number of these
            return "absent"
        self._known[adapter] = (spec.revision, now_s + KEPT_S)
        return spec.revision
