"""Put what the benchmarks found into the pages with them, so that nobody copies numbers by hand.

    .venv/bin/python benchmarks/docs.py [benchmarks/results/MACHINE.json]

In docs/benchmarks.md and docs/scale-out.md, what stands between ``<!-- found: NAME -->`` and
``<!-- end -->`` is replaced by the tables of that benchmark. Default is the results of this
machine.
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any

import report
from run import results_file

AIMS = "aims"
"""The block of all aims, which is no benchmark's."""
FEW_AIMS = 6
"""Of a benchmark with more, only those that are missed are listed one by one."""
DOCS = Path(__file__).parent.parent / "docs"
PAGES = (DOCS / "benchmarks.md", DOCS / "scale-out.md")
BLOCK = re.compile(r"(<!-- found: (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> None:
    """Fill all blocks."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", nargs="?", type=Path, default=results_file())
    found = json.loads(parser.parse_args().results.read_bytes())
    for page in PAGES:
        page.write_text(filled(page.read_text(encoding="utf-8"), found), encoding="utf-8")


def filled(page: str, found: dict[str, Any]) -> str:
    """Return the page with the results of a machine in its blocks.

    Args:
        page: Markdown.
        found: reports by name, as ``run.py`` keeps them.

    Raises:
        LookupError: a block asks for a benchmark that wasn't run.
    """

    def block(match: "re.Match[str]") -> str:
        if match["name"] == AIMS:
            return f"{match[1]}\n{aims(found)}\n\n{match[3]}"
        one = found[match["name"]]
        command = f"make bench-one NAME={one['name']}"
        when = f"Measured on {one['date']} by `{command}`, in {one['took_s']} s."
        return f"{match[1]}\n{when}\n\n{report.read(one)}\n\n{match[3]}"

    return BLOCK.sub(block, page)


def aims(found: dict[str, Any]) -> report.Table:
    """List what was aimed at, and what was found."""
    rows: list[tuple[report.Cell, ...]] = []
    for name, one in found.items():
        promised = [aim for aim in report.read(one).aims if aim.limit]
        missed = [aim for aim in promised if not aim.holds]
        shown = promised if len(promised) <= FEW_AIMS else missed
        rows += [
            (f"`{name}`", aim.what, aim.found, aim.limit, "met" if aim.holds else "**missed**")
            for aim in shown
        ]
        if met := len(promised) - len(missed) if shown is missed else 0:
            rows.append((f"`{name}`", f"{met} of {len(promised)} aims", None, None, "met"))
    return report.Table("All aims", ("benchmark", "aim", "found", "bound", ""), tuple(rows))


if __name__ == "__main__":
    main()
