from hypothesis import given
from hypothesis import strategies as st

from calotype.execution.policy import BatchLimits, Run, Wait, Waiting, next_batch

jobs = st.builds(
    Waiting,
    key=st.sampled_from("ab"),
    pixels=st.integers(1, 100),
    arrived_s=st.floats(0, 10),
)
limits = st.builds(
    BatchLimits,
    max_jobs=st.integers(1, 6),
    max_pixels=st.integers(1, 200),
    max_wait_s=st.floats(0, 1),
)


@given(st.lists(jobs, max_size=12), limits, st.floats(10, 20))
def test_a_batch_has_the_oldest_job_one_key_and_fits(
    queue: list[Waiting], limits: BatchLimits, now_s: float
) -> None:
    match next_batch(queue, limits, now_s):
        case Run(indices):
            chosen = [queue[i] for i in indices]
            assert indices[0] == 0
            assert list(indices) == sorted(set(indices))
            assert {job.key for job in chosen} == {queue[0].key}
            assert len(chosen) <= limits.max_jobs
            assert len(chosen) == 1 or sum(j.pixels for j in chosen) <= limits.max_pixels
        case Wait(seconds):
            assert seconds > 0
            assert not queue or now_s < queue[0].arrived_s + limits.max_wait_s


@given(st.lists(jobs, min_size=1, max_size=12), limits)
def test_a_job_never_waits_longer_than_max_wait(queue: list[Waiting], limits: BatchLimits) -> None:
    late_s = queue[0].arrived_s + limits.max_wait_s + 1e-6
    assert isinstance(next_batch(queue, limits, late_s), Run)


def test_full_batch_leaves_at_once() -> None:
    queue = [Waiting(key="a", pixels=1, arrived_s=0.0), Waiting(key="a", pixels=1, arrived_s=0.0)]
    assert next_batch(
        queue, BatchLimits(max_jobs=2, max_pixels=99, max_wait_s=9.0), now_s=0.0
    ) == Run((0, 1))
