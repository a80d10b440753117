"""docs/adding-a-model.md, followed: its backend, installed as a package, behind its catalog."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
from PIL import Image

from models import photo

PAGE = Path(__file__).parents[2] / "docs" / "adding-a-model.md"
MOST_LINES = 40


def blocks(language: str) -> list[str]:
    text = PAGE.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def install(folder: Path, project: str, code: str) -> None:
    """Leave on disk what pip would: the module, and what its package says of itself."""
    said = tomllib.loads(project)["project"]
    info = folder / f"{said['name'].replace('-', '_')}-{said['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {said['name']}\nVersion: {said['version']}\n"
    )
    groups = said["entry-points"]
    lines = [f"[{g}]\n" + "".join(f"{k} = {v}\n" for k, v in groups[g].items()) for g in groups]
    (info / "entry_points.txt").write_text("".join(lines))
    (folder / "acme_sharpen.py").write_text(code)


def test_the_backend_of_the_page_works(tmp_path: Path) -> None:
    (code,) = blocks("python")
    assert len([line for line in code.splitlines() if line.strip()]) <= MOST_LINES
    _, project, catalog = blocks("toml")
    packages = tmp_path / "site-packages"
    install(packages, project, code)
    (tmp_path / "models.toml").write_text(catalog)
    pixels = photo(48, 64)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    command = next(
        line for block in blocks("sh") for line in block.splitlines() if "sharpen" in line
    )
    words = command.replace("photo.jpg", "photo.png").split()
    done = subprocess.run(
        [sys.executable, "-m", *words, "-o", "sharp.png"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(packages), "HOME": str(tmp_path), "CALOTYPE_CACHE_DIR": "cache"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    made = np.asarray(Image.open(tmp_path / "sharp.png").convert("RGB"))
    assert made.shape == pixels.shape
    assert made.astype(int).std() > pixels.astype(int).std() + 1, "edges stand out"


def test_a_backend_that_nobody_offers_is_named_with_those_there_are(tmp_path: Path) -> None:
    _, _, catalog = blocks("toml")
    (tmp_path / "models.toml").write_text(catalog)
    Image.fromarray(photo(8, 8)).save(tmp_path / "photo.png")
    done = subprocess.run(
        [sys.executable, "-m", "calotype", "run", "sharpen", "photo.png",
         "--catalog-file", "models.toml", "-o", "x.png"],
        cwd=tmp_path,
        env={"HOME": str(tmp_path), "CALOTYPE_CACHE_DIR": "cache"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )  # fmt: skip
    assert done.returncode != 0
    assert "backend must be one of colorize, diffusers, fake, inpaint" in done.stderr
    assert "got sharpen" in done.stderr
