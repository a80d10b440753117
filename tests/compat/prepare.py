"""Install the clients that tests/compat runs: an old huggingface_hub, and the JavaScript client.

Run once by `make test`; does nothing when all is there.
"""

import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).parent
ENVIRONMENTS = HERE / ".environments"
OLD_HUB = ["huggingface_hub==0.27.1", "pillow>=11", "aiohttp>=3.11"]


def old_hub() -> Path:
    """Return the Python that has huggingface_hub 0.27.1, installing it if need be."""
    folder = ENVIRONMENTS / "hub-0.27.1"
    python = folder / "bin" / "python"
    if not _is_done(folder, "\n".join(OLD_HUB)):
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *OLD_HUB], check=True)
        _mark_done(folder, "\n".join(OLD_HUB))
    return python


def node_client() -> Path:
    """Return the folder that has @huggingface/inference, installing it if need be."""
    folder = ENVIRONMENTS / "node"
    lock = (HERE / "node" / "package-lock.json").read_text(encoding="utf-8")
    if not _is_done(folder, lock):
        if shutil.which("npm") is None:
            install = ["apt-get", "install", "--yes", "--quiet", "nodejs", "npm"]
            subprocess.run(["apt-get", "update", "--quiet"], check=True)
            subprocess.run(install, check=True)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(HERE / "node", folder)
        quiet = ["--no-audit", "--no-fund", "--loglevel=error"]
        subprocess.run(["npm", "ci", *quiet], cwd=folder, check=True)
        _mark_done(folder, lock)
    return folder


def _is_done(folder: Path, content: str) -> bool:
    """Tell whether the folder was installed from this very content."""
    stamp = folder / ".installed"
    return stamp.exists() and stamp.read_text(encoding="utf-8") == _digest(content)


def _mark_done(folder: Path, content: str) -> None:
    (folder / ".installed").write_text(_digest(content), encoding="utf-8")


def _digest(content: str) -> str:
    return hashlib.sha256(f"{sys.version}\n{content}".encode()).hexdigest()


if __name__ == "__main__":
    old_hub()
    node_client()
