"""Progress and cancellation at every denoising step."""

from collections.abc import Callable

import pytest

from calotype.backends.diffusers import DiffusersBackend
from calotype.domain.hooks import Hooks, JobCancelledError
from calotype.domain.image import Pixels
from diffusion.conftest import Family
from models import job
from pipelines import FAMILIES

STEPS = 6


@pytest.mark.parametrize("name", FAMILIES)
def test_progress_rises_to_its_end(
    name: str, families: dict[str, Family], exact: Callable[[str], DiffusersBackend], pixels: Pixels
) -> None:
    family = families[name]
    seen: list[tuple[int, int]] = []
    hooks = Hooks(lambda done, total: seen.append((done, total)))
    parameters = family.parameters | {"num_inference_steps": STEPS}
    exact(name).run([job(family.spec, pixels, parameters, family.images, hooks)])
    (total,) = {total for _, total in seen}
    assert [done for done, _ in seen] == list(range(total + 1))
    assert total == STEPS or (STEPS * 3 // 4 <= total < STEPS and "strength" in parameters)


@pytest.mark.parametrize("stop_at", [0, 2, 5])
@pytest.mark.parametrize("name", ["pix2pix", "img2img", "kontext"])
def test_a_cancelled_run_stops_within_a_step(
    name: str,
    stop_at: int,
    families: dict[str, Family],
    exact: Callable[[str], DiffusersBackend],
    pixels: Pixels,
) -> None:
    family, backend = families[name], exact(name)
    seen: list[int] = []

    def look(done: int, _: int) -> None:
        seen.append(done)
        if done == stop_at:
            hooks.cancel()

    hooks = Hooks(look)
    parameters = family.parameters | {"num_inference_steps": 12}
    stopped = job(family.spec, pixels, parameters, family.images, hooks)
    with pytest.raises(JobCancelledError):
        backend.run([stopped])
    assert seen == list(range(stop_at + 1))
    # Nothing of it is left for the next one.
    again = job(family.spec, pixels, family.parameters, family.images)
    (first,), (second,) = backend.run([again]), backend.run([again])
    assert (first.pixels == second.pixels).all()


def test_one_of_a_batch_leaves_the_others_alone(
    families: dict[str, Family], exact: Callable[[str], DiffusersBackend], pixels: Pixels
) -> None:
    family, backend = families["pix2pix"], exact("pix2pix")
    leaver = Hooks(lambda done, _: leaver.cancel() if done == 1 else None)
    jobs = [
        job(family.spec, pixels, family.parameters, hooks=leaver),
        job(family.spec, pixels, family.parameters | {"seed": 8}),
    ]
    _, kept = backend.run(jobs)
    (alone,) = backend.run([jobs[1]])
    assert abs(kept.pixels.astype(int) - alone.pixels).max() <= 1
