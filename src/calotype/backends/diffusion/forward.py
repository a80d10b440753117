"""Calls of a network: other code in the place of ``forward``, and arguments as flat tensors."""

import contextlib
import hashlib
import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Forward = Callable[..., Any]


@contextlib.contextmanager
def swapped(module: nn.Module, forward: Forward) -> Iterator[None]:
    """Let a module run other code for a while."""
    own = module.__dict__.get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if own is None:
            del module.forward
        else:
            module.forward = own


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """The arguments of one call, tensors apart from the rest."""

    tensors: Mapping[str, Tensor]
    """By name; ``name.key`` for those in dictionaries, ``name.0`` for those in lists."""
    rest: Mapping[str, Any]
    """Everything else that isn't None."""

    @property
    def structure(self) -> str:
        """What a converted network depends on: all but the tensors' values and sizes."""
        dims = {name: tensor.dim() for name, tensor in self.tensors.items()}
        return json.dumps([dims, self.rest], sort_keys=True, default=repr)

    @property
    def digest(self) -> bytes:
        """A digest of all that the result depends on."""
        state = hashlib.blake2b(self.structure.encode(), digest_size=32)
        for name, tensor in sorted(self.tensors.items()):
            state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            plain = tensor.detach().cpu().contiguous()
            state.update(plain.view(-1).view(torch.uint8).numpy().data)
        return state.digest()


def read_call(function: Forward, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    """Take a call's arguments apart.

    Args:
        function: the original ``forward``, bound to its module.
        args: by place.
        kwargs: by name.
    """
    bound = inspect.signature(function).bind(*args, **kwargs)
    tensors: dict[str, Tensor] = {}
    rest: dict[str, Any] = {}
    named = dict(bound.arguments)
    for parameter in bound.signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            named |= named.pop(parameter.name, {})
    for name, value in named.items():
        _take(name, value, tensors, rest)
    return Call(tensors=tensors, rest=rest)


def join_call(tensors: Mapping[str, Tensor], rest: Mapping[str, Any]) -> dict[str, Any]:
    """Put arguments together again, as keywords."""
    kwargs: dict[str, Any] = dict(rest)
    for name, tensor in tensors.items():
        outer, _, inner = name.partition(".")
        if not inner:
            kwargs[outer] = tensor
        elif inner.isdigit():
            kwargs.setdefault(outer, []).append(tensor)
        else:
            kwargs.setdefault(outer, {})[inner] = tensor
    return kwargs


def _take(name: str, value: Any, tensors: dict[str, Tensor], rest: dict[str, Any]) -> None:
    """Sort one argument."""
    match value:
        case None:
            return
        case Tensor():
            tensors[name] = value
        case dict() if value and all(isinstance(v, Tensor) for v in value.values()):
            tensors.update({f"{name}.{key}": tensor for key, tensor in value.items()})
        case list() | tuple() if value and all(isinstance(v, Tensor) for v in value):
            tensors.update({f"{name}.{i}": tensor for i, tensor in enumerate(value)})
        case dict() if not value:
            return
        case _:
            rest[name] = value


class Record(tuple[Any, ...]):
    """A network's answer: by place, by name or as an attribute, as the libraries' own are."""

    names: tuple[str, ...]

    def __new__(cls, fields: Mapping[str, Any]) -> "Record":
        """Make one of its fields, in order."""
        record = super().__new__(cls, fields.values())
        record.names = tuple(fields)
        return record

    def __reduce__(self) -> tuple[object, ...]:
        return Record, (dict(zip(self.names, self, strict=True)),)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self.names:
            return None if name in _OPTIONAL else self._missing(name)
        return self[self.names.index(name)]

    def _missing(self, name: str) -> Any:
        raise AttributeError(name)

    def __getitem__(self, key: Any) -> Any:
        return getattr(self, key) if isinstance(key, str) else super().__getitem__(key)


_OPTIONAL = frozenset({"hidden_states", "attentions", "pooler_output"})
"""Fields that the libraries' answers have even where they are None."""


def take_apart(answer: Any) -> tuple[list[Tensor], list[tuple[str, int]]]:
    """Flatten a network's answer.

    Returns:
        Its tensors, and (name, number of tensors) of each field: 0 is a tensor of its own, any
        other number a tuple; the name is empty in a plain tuple.

    Raises:
        TypeError: it holds something else than tensors.
    """
    if isinstance(answer, Tensor):
        return [answer], [("", -1)]
    fields = list(answer.items()) if hasattr(answer, "items") else [("", v) for v in answer]
    tensors: list[Tensor] = []
    shape: list[tuple[str, int]] = []
    for name, value in fields:
        if value is None:
            continue
        many = isinstance(value, tuple | list)
        parts = list(value) if many else [value]
        if not all(isinstance(part, Tensor) for part in parts):
            raise TypeError(f"an answer of {type(value).__name__}")
        tensors += parts
        shape.append((name, len(parts) if many else 0))
    return tensors, shape


def put_together(tensors: list[Tensor], shape: list[tuple[str, int]]) -> Any:
    """Make a network's answer of its tensors again."""
    if shape == [("", -1)]:
        return tensors[0]
    rest = iter(tensors)
    values = [
        tuple(next(rest) for _ in range(number)) if number else next(rest) for _, number in shape
    ]
    if not shape or not shape[0][0]:
        return tuple(values)
    return Record({name: value for (name, _), value in zip(shape, values, strict=True)})
