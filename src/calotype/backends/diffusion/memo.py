"""What was encoded once is not encoded again: prompts, and pictures before they are changed."""

import copy
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from torch import nn

from calotype.backends.diffusion.forward import Forward, read_call, take_apart


class Memo:
    """Answers of networks by everything that they depend on, the least recently used forgotten.

    What is found is what would be computed, bit for bit: the key is a digest of all inputs.

    Args:
        max_bytes: bound on what is kept; 0 keeps nothing.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes, self._used_bytes = max_bytes, 0
        self._kept: OrderedDict[tuple[str, str, bytes], tuple[Any, int]] = OrderedDict()
        self.hits = 0
        self.weights = ""
        """Which adapters the networks have: equal only for equal weights."""

    @property
    def used_bytes(self) -> int:
        """What is kept."""
        return self._used_bytes

    def remember(self, name: str, module: nn.Module) -> None:
        """Answer calls of a module from memory where that is possible."""
        original: Forward = module.forward
        # What describes the arguments is the module's own code, whoever stands in for it.
        described: Forward = getattr(original, "original", original)
        module.forward = self._wrapped(name, original, described)

    def _wrapped(self, name: str, original: Forward, described: Forward) -> Callable[..., Any]:
        def forward(*args: Any, **kwargs: Any) -> Any:
            key = (name, self.weights, read_call(described, args, kwargs).digest)
            if (found := self._kept.get(key)) is not None:
                self._kept.move_to_end(key)
                self.hits += 1
                return copy.deepcopy(found[0])  # whoever gets it may write on it
            answer = original(*args, **kwargs)
            self._keep(key, answer)
            return answer

        return forward

    def _keep(self, key: tuple[str, str, bytes], answer: Any) -> None:
        """Keep an answer, and forget others until it fits."""
        try:
            size = sum(t.numel() * t.element_size() for t in take_apart(answer)[0])
        except TypeError:  # a language model with eyes also gives what these saw, in its own form
            return
        if size > self._max_bytes:
            return
        while self._used_bytes + size > self._max_bytes:
            _, (_, freed) = self._kept.popitem(last=False)
            self._used_bytes -= freed
        self._kept[key] = (copy.deepcopy(answer), size)
        self._used_bytes += size
