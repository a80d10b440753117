"""Count the instructions of the guarded paths, and write them to tests/guard/instructions.json.

    make guard-record [ARGS=--dry-run]

Needs valgrind, and takes about half a minute. What is written is for this version of Python, as
built here, on this kind of machine; figures of others stay. Commit the file, and say why a figure
changed. A profile of each path is left in out/guard, for callgrind_annotate.
"""

import argparse
import sys

from guard import figures
from guard.callgrind import PROFILES, CountError, count


def main() -> int:
    """Count, print and write."""
    parser = argparse.ArgumentParser(
        prog=figures.RECORD,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dry-run", action="store_true", help="count and print, write nothing")
    told = parser.parse_args()
    key = figures.key_here()
    try:
        found = count()
    except CountError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    known = figures.read().get(key)
    sys.stdout.write(f"{key}\n{table(found, known)}\nprofiles: {PROFILES}/*.callgrind\n")
    if not told.dry_run:
        figures.write(key, found)
        sys.stdout.write(f"written to {figures.FILE}\n")
    return 0


def table(found: figures.Recording, known: figures.Recording | None) -> str:
    """Return a line for each path: its figure, the committed one, and their ratio."""
    lines = [f"{'path':<12}{'now':>14}{'committed':>14}{'ratio':>8}"]
    for path, now in found.instructions.items():
        before = known.instructions.get(path) if known else None
        beside = f"{before:>14,}{now / before:>8.3f}" if before else f"{'-':>14}{'-':>8}"
        lines.append(f"{path:<12}{now:>14,}{beside}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
