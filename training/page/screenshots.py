"""Makes the README's pictures of the page, with a browser at a real server.

    .venv/bin/python -m training.page.screenshots FOLDER [--out docs/images]

FOLDER is the ``data`` folder of scikit-image, as for ``training.page.pictures``. Needs Playwright
and a Chromium, which `make test` installs.

Pictures: "Chelsea" by Stefan van der Walt, CC0; a rocket at Cape Canaveral by SpaceX, CC0.
"""

import argparse
import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

QUALITY = 82
SOON_MS = 60_000


def keep(page: Page, path: Path) -> None:
    """Write what is to be seen as a JPEG."""
    Image.open(io.BytesIO(page.screenshot())).convert("RGB").save(path, quality=QUALITY)


def paint_style(page: Page, photo: Path, out: Path) -> None:
    """Show a cat in a style chosen by its thumbnail."""
    page.locator("#file").set_input_files(photo)
    page.locator("input[name=model][value=style]").check()
    page.locator("input[value=great-wave]").check()
    page.locator("#run").click()
    expect(page.locator("#status")).to_contain_text("Done")
    keep(page, out / "page-style.jpg")


def paint_mask(page: Page, photo: Path, out: Path) -> None:
    """Show a mask that is being painted over two masts."""
    page.locator("#file").set_input_files(photo)
    page.locator("input[name=model][value=inpaint]").check()
    box = page.locator("#mask-box").bounding_box()
    assert box is not None
    page.locator("#brush").fill("44")
    for x, top, bottom in ((0.308, 0.32, 0.91), (0.7, 0.32, 0.91)):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + top * box["height"])
        page.mouse.down()
        page.mouse.move(box["x"] + x * box["width"], box["y"] + bottom * box["height"], steps=20)
        page.mouse.up()
    keep(page, out / "page-mask.jpg")


def main() -> None:
    """Start a server, and visit it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    chosen = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    command = [sys.executable, "-m", "calotype", "serve", "--port", "0"]
    with tempfile.TemporaryDirectory() as data, sync_playwright() as playwright:
        folders = ["--data-dir", f"{data}/data", "--default-model", "style"]
        server = subprocess.Popen([*command, *folders], stdout=subprocess.PIPE, text=True)  # noqa: S603
        try:
            assert server.stdout is not None
            url = server.stdout.readline().split()[3]
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            for scheme, show, name in (
                ("light", paint_style, "chelsea.png"),
                ("dark", paint_mask, "rocket.jpg"),
            ):
                page = browser.new_page(
                    viewport={"width": 1280, "height": 880},
                    color_scheme="dark" if scheme == "dark" else "light",
                )
                page.set_default_timeout(SOON_MS)
                expect.set_options(timeout=SOON_MS)
                page.goto(url)
                show(page, chosen.folder / name, chosen.out)
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
