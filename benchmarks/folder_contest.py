"""Commands that run a model over a folder: what comes out is compared, then they are timed."""

import math
import shutil
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import command
import peer
import report
import testset
from folder_contestants import CALOTYPE, FAST, SPANDREL, Contestant, Entrants

LIMIT_S = 4 * 3600.0
FAST_TOO = f"{CALOTYPE}, {FAST}"
"""Us with the fast model, where the others run the best."""


@dataclass(frozen=True, slots=True)
class Work:
    """A model over a folder."""

    model: str
    source: Path
    scratch: Path

    @property
    def count(self) -> int:
        """How many pictures there are."""
        return len(list(self.source.iterdir()))


@dataclass(frozen=True, slots=True)
class Run:
    """One command, from its start to its end."""

    seconds: float
    first_s: float
    """Until the first result was on disk."""
    next_s: float
    """From result to result, after the first."""
    cpu_s: float
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class Alike:
    """How like the reference a result is, PSNR."""

    whole_db: float
    middle_db: float
    """Without the edges, beyond which everybody continues the picture in another way."""


def go(contestant: Contestant, work: Work) -> Run:
    """Run one contestant over all.

    Raises:
        PeerMissingError: it fails, or leaves a picture out.
    """
    target = work.scratch / "out"
    shutil.rmtree(target, ignore_errors=True)
    words = contestant.command(work.model, work.source, target)
    usage = command.run(words, contestant.environ, work.scratch / "log", LIMIT_S)
    done = sorted(file.stat().st_mtime for file in target.glob("*.png"))
    if usage.status or len(done) != work.count:
        ended = usage.how_it_ended() or "it ended"
        why = f"{ended} after {len(done)} of {work.count} pictures: {usage.last_line()}"
        raise peer.PeerMissingError(why)
    next_s = (done[-1] - done[0]) / (len(done) - 1) if len(done) > 1 else float("nan")
    first_s = done[0] - usage.began_s
    return Run(usage.seconds, first_s, next_s, usage.cpu_s, usage.peak_bytes)


def compare(field: dict[str, Contestant], work: Work, entrants: Entrants) -> dict[str, Alike]:
    """Run all once, as a warm-up; return how alike what came out is, PSNR in dB.

    It is compared with what spandrel makes of the whole picture in f32, or else with ours. Those
    that can't do it leave the field.
    """
    found: dict[str, list[testset.Pixels]] = {}
    for name, contestant in list(field.items()):
        try:
            run = go(contestant, work)
        except peer.PeerMissingError as error:
            _drop(name, work, error, entrants)
            del field[name]
            continue
        print(f"  {name}: {run.seconds:.1f} s to warm up", flush=True)
        results = sorted((work.scratch / "out").glob("*.png"))
        found[name] = [testset.pixels_of(file) for file in results]
    exact = found.get(SPANDREL, found[CALOTYPE])
    return {
        name: Alike(
            statistics.mean(map(testset.psnr, made, exact)),
            statistics.mean(map(testset.psnr, map(_middle, made), map(_middle, exact))),
        )
        for name, made in found.items()
        if made is not exact
    }


def hold(
    field: Mapping[str, tuple[Contestant, Work]], rounds: int, entrants: Entrants
) -> dict[str, list[Run]]:
    """Run all in turn, round after round; one that fails leaves, and what it did doesn't count."""
    found: dict[str, list[Run]] = {name: [] for name in field}
    for number in range(rounds):
        for name in list(found):
            contestant, work = field[name]
            try:
                found[name].append(go(contestant, work))
            except peer.PeerMissingError as error:
                _drop(name, work, error, entrants)
                del found[name]
                continue
            print(f"  round {number + 1}: {name}: {found[name][-1].seconds:.1f} s", flush=True)
    return found


def _drop(name: str, work: Work, error: peer.PeerMissingError, entrants: Entrants) -> None:
    """Note why somebody leaves; without us there is no contest."""
    if name in (CALOTYPE, FAST_TOO):
        raise SystemExit(f"calotype run: {error}") from error
    entrants.missing[f"{name}, {work.model}"] = str(error)
    print(f"  {name} drops out: {error}", flush=True)


COLUMNS = (
    "run by",
    "pictures a minute",
    "Calotype is faster by (spread)",
    "start to first result, s",
    "from result to result, s",
    "Calotype is faster by, after the first (spread)",
    "processor seconds a picture",
    "peak memory, MB",
    "PSNR, dB",
    "PSNR of the middle, dB",
)


def table(
    title: str, found: Mapping[str, list[Run]], alike: Mapping[str, Alike], count: int
) -> report.Table:
    """Write what a contest found."""
    ours = found[CALOTYPE]
    rows = []
    for name, runs in found.items():
        whole, after = (
            None if name == CALOTYPE else report.paired(of(runs, what), of(ours, what))
            for what in ("seconds", "next_s")
        )
        row = (
            name,
            statistics.median(60 * count / run.seconds for run in runs),
            whole,
            statistics.median(of(runs, "first_s")),
            statistics.median(of(runs, "next_s")),
            after,
            statistics.median(run.cpu_s / count for run in runs),
            max(run.peak_bytes for run in runs) / 1e6,
            *_alike(alike.get(name)),
        )
        rows.append(row)
    return report.Table(title, COLUMNS, tuple(rows))


def _alike(found: Alike | None) -> tuple[report.Cell, report.Cell]:
    """Write how alike results are; the one that others are compared with has no number."""
    if found is None:
        return "compared with", None
    whole, middle = (
        "equal" if math.isinf(psnr) else psnr for psnr in (found.whole_db, found.middle_db)
    )
    return whole, middle


def _middle(pixels: testset.Pixels) -> testset.Pixels:
    """Return the middle half each way, which the edges hardly reach."""
    return testset.crop(pixels, pixels.shape[0] // 2, pixels.shape[1] // 2)


def of(runs: Sequence[Run], what: str) -> list[float]:
    """Return one thing that was measured, round by round."""
    return [getattr(run, what) for run in runs]


def contest(
    work: Work, entrants: Entrants, rounds: int, extra: Mapping[str, tuple[Contestant, Work]]
) -> tuple[dict[str, list[Run]], dict[str, Alike]]:
    """Compare, then time; what is extra is timed in the same rounds."""
    print(f"{work.model}, {work.count} pictures", flush=True)
    field = {contestant.name: contestant for contestant in entrants.all}
    sample = Work(work.model, work.scratch / "sample", work.scratch)
    shutil.rmtree(sample.source, ignore_errors=True)
    sample.source.mkdir()
    shutil.copy(min(work.source.iterdir()), sample.source)
    alike = compare(field, sample, entrants)
    timed = {name: (contestant, work) for name, contestant in field.items()}
    return hold({**timed, **extra}, rounds, entrants), alike
