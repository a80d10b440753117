"""What was encoded once: found when it is exactly the same, and bounded."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from calotype.backends.base import Diffusion, Machine
from calotype.backends.diffusers import DiffusersBackend, load
from calotype.backends.diffusion.forward import Record
from calotype.backends.diffusion.memo import Memo
from calotype.domain.image import Pixels
from diffusion.conftest import Family
from models import job, photo


def test_encoded_prompts_and_pictures_are_used_again(
    families: dict[str, Family], exact: Callable[[str], DiffusersBackend], pixels: Pixels
) -> None:
    family = families["pix2pix"]
    backend = load(
        family.spec,
        lambda _: b"",
        Machine(precision="f32", diffusion=Diffusion(engine="torch")),
    )
    first = job(family.spec, pixels, family.parameters)
    backend.run([first])
    hits = backend.memo.hits  # the empty prompt of both unguided rows may be one already
    changed = job(family.spec, pixels, family.parameters | {"seed": 8, "guidance_scale": 3.0})
    (found,) = backend.run([changed])
    assert backend.memo.hits == hits + 3, "the picture, the prompt and the empty prompt"
    (fresh,) = exact("pix2pix").run([changed])
    assert np.array_equal(found.pixels, fresh.pixels)
    other = job(family.spec, photo(64, 64, 9), family.parameters)
    (found,), (fresh,) = backend.run([other]), exact("pix2pix").run([other])
    assert backend.memo.hits == hits + 5, "another picture is encoded"
    assert np.array_equal(found.pixels, fresh.pixels)


def test_nothing_is_kept_where_nothing_may_be(families: dict[str, Family], pixels: Pixels) -> None:
    family, options = families["pix2pix"], Diffusion(engine="torch", stage_bytes=0)
    backend = load(family.spec, lambda _: b"", Machine(precision="f32", diffusion=options))
    for _ in range(2):
        backend.run([job(family.spec, pixels, family.parameters)])
    assert (backend.memo.hits, backend.memo.used_bytes) == (0, 0)


class Double(nn.Module):
    """Returns twice its input, and counts."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: torch.Tensor, *, offset: float = 0.0) -> tuple[torch.Tensor]:
        self.calls += 1
        return (2 * x + offset,)


def test_the_key_is_everything_that_the_answer_depends_on() -> None:
    module, memo = Double(), Memo(10_000)
    memo.remember("double", module)
    x = torch.arange(4.0)
    calls: tuple[tuple[torch.Tensor, dict[str, float]], ...] = (
        (x, {}),
        (x + 1e-6, {}),
        (x.reshape(2, 2), {}),
        (x, {"offset": 1.0}),
        (x.to(torch.float64), {}),
    )
    for tensor, options in calls:
        before = module.calls
        (first,), (second,) = (module(tensor, **options) for _ in range(2))
        assert module.calls == before + 1
        assert torch.equal(first, second)
    memo.weights = "an adapter"
    before = module.calls
    module(x)
    assert module.calls == before + 1


def test_whoever_gets_an_answer_may_write_on_it() -> None:
    module, memo = Double(), Memo(10_000)
    memo.remember("double", module)
    x = torch.ones(3)
    (first,) = module(x)
    first.zero_()
    (second,) = module(x)
    second.zero_()
    assert torch.equal(module(x)[0], 2 * x)


def test_what_is_kept_stays_within_its_bound() -> None:
    module, memo = Double(), Memo(1000)
    memo.remember("double", module)
    for number in range(20):
        module(torch.full((50,), float(number)))  # 200 bytes each
        assert memo.used_bytes <= 1000
    assert memo.used_bytes == 1000
    module(torch.ones(1000))  # would never fit
    assert memo.used_bytes == 1000
    before = module.calls
    module(torch.full((50,), 19.0))
    assert module.calls == before, "the last ones are kept"


def test_a_record_is_what_the_libraries_answer() -> None:
    import copy

    record = copy.deepcopy(Record({"last": torch.ones(2), "hidden_states": (torch.zeros(1),)}))
    assert torch.equal(record[0], record["last"])
    assert torch.equal(record.last, record[0])
    assert record.hidden_states[-1].shape == (1,)
    assert record.attentions is None


class Nested(nn.Module):
    """Returns something that is no flat list of tensors, as language models with eyes do."""

    def forward(self, x: torch.Tensor) -> dict[str, object]:
        return {"hidden": x, "seen": {"inner": 2 * x}}


def test_what_cannot_be_taken_apart_is_answered_and_not_kept() -> None:
    module, memo = Nested(), Memo(1000)
    memo.remember("nested", module)
    answers = [module(torch.ones(2)) for _ in range(2)]
    assert all(torch.equal(answer["seen"]["inner"], 2 * torch.ones(2)) for answer in answers)
    assert (memo.hits, memo.used_bytes) == (0, 0)
