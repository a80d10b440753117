"""All benchmarks that fit into a quarter of an hour: not soak.py, diffusion.py and page.py."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ALL = (
    ["engines.py"],
    ["engines.py", "--model", "upscale-fast", "--side", "256"],
    ["startup.py"],
    ["cache_hits.py"],
    ["memory.py"],
    ["overhead.py"],
    ["overload.py"],
)


def main() -> None:
    """Run each in a process of its own, so that none inherits another's memory or threads."""
    failed = []
    for command in ALL:
        print(f"\n## {' '.join(command)}\n", flush=True)
        done = subprocess.run([sys.executable, HERE / command[0], *command[1:]], check=False)
        if done.returncode:
            failed.append(command[0])
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
