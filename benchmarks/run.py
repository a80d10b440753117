"""Run benchmarks and collect what they find in results/MACHINE.json and results/MACHINE.md.

    .venv/bin/python benchmarks/run.py              all that fit into a quarter of an hour
    .venv/bin/python benchmarks/run.py page soak    these, whatever they take

Each runs in a process of its own, so that none inherits another's memory or threads. What other
runs on the same machine found stays in the file.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import measure
import report

HERE = Path(__file__).parent
RESULTS = HERE / "results"
BENCHMARKS: dict[str, tuple[str, ...]] = {
    "engines-upscale": ("engines.py",),
    "engines-upscale-fast": (
        "engines.py",
        *("--models", "upscale-fast", "--sizes", "128x128", "512x512"),
    ),
    "engines-12mp": (
        "engines.py",
        *("--models", "upscale-fast", "upscale", "--sizes", "512x512", "4000x3000"),
        *("--rounds", "3", "--budget", "180"),
    ),
    "styles": ("style_engines.py",),
    "styles-12mp": ("style_engines.py", "--sizes", "4000x3000", "--rounds", "3", "--budget", "180"),
    "folder": ("folder.py",),
    "folder-all": (
        "folder.py",
        *("--pictures", "24", "--best-pictures", "24", "--best-width", "384", "--everyone"),
    ),
    "startup": ("startup.py",),
    "cache_hits": ("cache_hits.py",),
    "memory": ("memory.py",),
    "memory-full": ("memory.py", "--models", "upscale-fast", "--result", "png"),
    "serving": ("serving.py",),
    "overload": ("overload.py", "--seconds", "30"),
    "soak": ("soak.py",),
    "diffusion": ("diffusion.py",),
    "inpaint": ("inpaint.py",),
    "page": ("page.py",),
    "codecs": ("formats.py", "--rounds", "2"),
    "fidelity": ("fidelity.py",),
    "quality": ("quality.py",),
    "quality-full": ("quality.py", "--full"),
    "scale-hop": ("scale.py", "hop"),
    "scale-growth": ("scale.py", "growth"),
    "scale-sizing": ("scale.py", "sizing"),
}
"""Every benchmark by name: its program and options."""
LONG = frozenset(
    {
        "engines-12mp",
        "styles-12mp",
        "folder",
        "folder-all",
        "memory-full",
        "soak",
        "diffusion",
        "inpaint",
        "page",
        "quality",
        "quality-full",
        "scale-hop",
        "scale-growth",
        "scale-sizing",
    }
)
"""What ``make bench`` leaves out: it takes too long, or needs more than pip installs."""


def main() -> None:
    """Run, collect, and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    names = parser.parse_args().names or [name for name in BENCHMARKS if name not in LONG]
    if unknown := [name for name in names if name not in BENCHMARKS]:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    failed = [name for name in names if not run(name)]
    print(f"\nwritten: {results_file()} and .md")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def run(name: str) -> bool:
    """Run one benchmark and keep what it found; False if it didn't get to its end."""
    print(f"\n## {name}\n", flush=True)
    program, *options = BENCHMARKS[name]
    started_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "found.json")
        environ = {**os.environ, report.FILE_VARIABLE: str(file)}
        subprocess.run([sys.executable, HERE / program, *options], env=environ, check=False)
        if not file.exists():
            return False
        found = json.loads(file.read_bytes())
    keep(found | {"name": name, "took_s": round(time.monotonic() - started_s)})
    return True


def results_file() -> Path:
    """Return the file of this machine."""
    slug = re.sub(r"[^a-z0-9_]+", "-", measure.machine().lower()).strip("-")
    return RESULTS / f"{slug}.json"


def keep(found: dict[str, Any]) -> None:
    """Put one report among those of this machine."""
    RESULTS.mkdir(exist_ok=True)
    file = results_file()
    kept = json.loads(file.read_bytes()) if file.exists() else {}
    kept[found["name"]] = found
    in_order = {name: kept[name] for name in BENCHMARKS if name in kept}
    file.write_text(json.dumps(in_order, indent=1) + "\n", encoding="utf-8")
    parts = [f"# {measure.machine()}", *map(section, in_order.values())]
    file.with_suffix(".md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def section(found: dict[str, Any]) -> str:
    """Write one report as a section."""
    when = f"{found['date']}, {found['took_s']} s, `make bench-one NAME={found['name']}`"
    return f"## {found['name']}\n\n{when}\n\n{report.read(found)}"


if __name__ == "__main__":
    main()
