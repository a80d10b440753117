"""Install what tests run beside Python's packages: old clients, JavaScript, a browser, servers.

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
    """Return the folder that has the packages of npm, installing them if need be."""
    folder = ENVIRONMENTS / "node"
    lock = (HERE / "node" / "package-lock.json").read_text(encoding="utf-8")
    if not _is_done(folder, lock):
        if shutil.which("npm") is None:
            _install("nodejs", "npm")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(HERE / "node", folder)
        quiet = ["--no-audit", "--no-fund", "--loglevel=error"]
        subprocess.run(["npm", "ci", *quiet], cwd=folder, check=True)
        _mark_done(folder, lock)
    return folder


def chromium() -> str:
    """Return the path of a Chromium, installing Debian's if need be."""
    names = ("chromium", "chromium-browser", "google-chrome")
    if not any(map(shutil.which, names)):
        _install("chromium", "fonts-dejavu-core")
    return next(path for path in map(shutil.which, names) if path)


def valgrind() -> str | None:
    """Return the path of valgrind, installing Debian's if need be; None where that fails.

    What it is for, `tests/guard`, skips without it.
    """
    if shutil.which("valgrind") is None and shutil.which("apt-get") is not None:
        try:
            _install("valgrind")
        except subprocess.CalledProcessError as error:
            sys.stderr.write(f"no valgrind, so instructions are not counted: {error}\n")
    return shutil.which("valgrind")


def redis_server() -> str | None:
    """Return the path of redis-server, installing Debian's if need be; None where that fails.

    The tests of the shared store skip without it.
    """
    if shutil.which("redis-server") is None and shutil.which("apt-get") is not None:
        try:
            _install("redis-server")
            _end_service("redis-server")
        except subprocess.CalledProcessError as error:
            sys.stderr.write(f"no redis-server, so no store is shared: {error}\n")
    return shutil.which("redis-server")


def _install(*packages: str) -> None:
    """Install packages of Debian's."""
    subprocess.run(["apt-get", "update", "--quiet"], check=True)
    subprocess.run(["apt-get", "install", "--yes", "--quiet", *packages], check=True)


def _end_service(name: str) -> None:
    """Stop what a package of Debian's has started, now and at the next boot."""
    if Path("/run/systemd/system").is_dir():
        subprocess.run(["systemctl", "disable", "--now", name], check=True)
    else:
        subprocess.run(["service", name, "stop"], check=False)  # it may not have started at all


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
    chromium()
    valgrind()
    redis_server()
