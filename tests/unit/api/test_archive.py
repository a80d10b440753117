import asyncio
import gc
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from calotype.api.archive import MAX_RECORDS, Archive
from calotype.api.record import Answer, Record
from calotype.domain.event import Event, Progress, Queued, Started

KEEP_S = 60.0


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def over(name: str, owner: str = "", size: int = 0, clock: Clock | None = None) -> Record:
    """Return a job that is done, after all that happens to one."""
    record = Record(name, owner, "m", is_kept=True, is_job=True, clock=clock or Clock())
    told: list[Event] = [Queued(1), Started(), *(Progress(step, 9) for step in range(10))]
    for event in told:
        record.hooks.happened(event)
    record.answer = Answer(headers=[(b"etag", b'"x"')], body=bytes(size), etag="x")
    record.end("done")
    return record


def archive_of(max_bytes: int = 10**9, clock: Clock | None = None) -> Archive:
    return Archive(max_bytes, KEEP_S, clock or Clock())


async def test_a_record_is_its_owner_s() -> None:
    archive, record = archive_of(), over("one", "a")
    archive.add(record)
    assert archive.find("a", "one") is record
    assert archive.find("b", "one") is None
    archive.remove("a", "one")
    assert archive.find("a", "one") is None
    assert (len(archive), archive.used_bytes) == (0, 0)


async def test_a_new_record_takes_the_place_of_its_namesake() -> None:
    archive, new = archive_of(), over("one", size=5)
    archive.add(over("one", size=7))
    archive.add(new)
    assert archive.find("", "one") is new
    assert (len(archive), archive.used_bytes) == (1, 5)


async def test_records_are_forgotten_in_time() -> None:
    clock = Clock()
    archive = archive_of(clock=clock)
    archive.add(over("old", size=3, clock=clock))
    clock.now_s += KEEP_S / 2
    archive.add(over("new", size=4, clock=clock))
    record = archive.find("", "new")
    assert record is not None
    assert archive.expires_in_s(record.ended_s) == KEEP_S
    clock.now_s += KEEP_S / 2
    assert archive.find("", "old") is None
    assert archive.find("", "new") is record
    assert archive.used_bytes == 4


async def test_records_go_by_themselves_when_nobody_asks() -> None:
    archive = Archive(100, 0.01)
    archive.add(over("one", clock=None))
    record = Record("two", is_kept=True)
    record.end("done")
    archive.add(record)
    await asyncio.sleep(0.05)
    assert len(archive._records) == 0


async def test_who_fills_the_room_pushes_out_their_own_only() -> None:
    archive = archive_of(max_bytes=10)
    archive.add(over("mine", "a", size=4))
    for number in range(5):
        archive.add(over(f"yours-{number}", "b", size=5))
    mine, first, last = (
        archive.find(*key) for key in (("a", "mine"), ("b", "yours-0"), ("b", "yours-4"))
    )
    assert mine is not None
    assert first is not None
    assert last is not None
    assert mine.answer is not None
    assert first.answer is None
    assert first.document["result"] is None
    assert last.answer is not None
    assert archive.used_bytes == 9


async def test_an_answer_over_the_bound_is_not_kept() -> None:
    archive = archive_of(max_bytes=10)
    archive.add(over("huge", size=11))
    record = archive.find("", "huge")
    assert record is not None
    assert (record.state, record.answer, archive.used_bytes) == ("done", None, 0)


async def test_ten_thousand_jobs_take_bounded_memory() -> None:
    """The records of twice as many jobs as are kept, with 100 kB of picture each."""
    archive = archive_of(max_bytes=10_000_000)
    over("warm", size=10)
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(2 * MAX_RECORDS):
            archive.add(over(f"job-{number}", f"owner-{number % 3}", size=100_000))
        gc.collect()
        taken, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(archive) == MAX_RECORDS
    assert archive.used_bytes <= 10_000_000
    assert taken < 10_000_000 + MAX_RECORDS * 6000
    assert peak < taken + 5_000_000


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 4), st.integers(0, 12)), max_size=30)
)
def test_the_sum_is_right_whatever_comes(found: list[tuple[str, int, int]]) -> None:
    async def fill() -> None:
        archive = archive_of(max_bytes=20)
        for owner, number, size in found:
            archive.add(over(str(number), owner, size))
            kept = [record.answer for record in archive._records.values()]
            assert archive.used_bytes == sum(len(one.body) for one in kept if one) <= 20

    asyncio.run(fill())


async def test_who_sends_many_requests_pushes_out_their_own_only() -> None:
    archive = archive_of()
    archive.add(over("mine", "a", size=4))
    for number in range(MAX_RECORDS + 10):
        archive.add(over(f"yours-{number}", "b"))
    assert len(archive) == MAX_RECORDS
    assert archive.find("a", "mine") is not None
    assert archive.find("b", "yours-0") is None


async def test_a_request_that_is_no_job_takes_no_job_s_place() -> None:
    archive, job = archive_of(), over("one", size=3)
    archive.add(job)
    plain = Record("one", "", "m", is_kept=True, clock=Clock())
    plain.end("done")
    archive.add(plain)
    assert archive.find("", "one") is job
