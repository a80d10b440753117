"""Somebody at the page, who does what people do and sees what they see."""

import io
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import BrowserContext, ConsoleMessage, Locator, Page, expect

from compat import prepare

SOON_MS = 60_000
"""For what takes a model."""
SERIOUS = ("serious", "critical")


class Visitor:
    """One browser with nothing in its memory.

    Args:
        context: of the browser.
        url: of the server.
        shots: folder for pictures of the page.
        expected: what the console may say: Chromium reports every answer of 400 and more there.
    """

    def __init__(
        self, context: BrowserContext, url: str, shots: Path, expected: tuple[str, ...] = ()
    ) -> None:
        self.context, self.url, self._shots = context, url, shots
        self._expected = expected
        context.set_default_timeout(SOON_MS)
        context.set_default_navigation_timeout(SOON_MS)
        expect.set_options(timeout=SOON_MS)
        self.page: Page = context.new_page()
        self.troubles: list[str] = []
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.troubles.append(f"uncaught: {error}"))
        self.page.goto(url)

    def leave(self) -> None:
        """Close the browser; whatever went wrong in it fails the test."""
        self.context.close()
        assert self.troubles == []

    def see(self, selector: str) -> Locator:
        """Return an element, once it is to be seen."""
        found = self.page.locator(selector)
        expect(found).to_be_visible()
        return found

    def choose_model(self, name: str) -> None:
        self.page.locator(f"input[name=model][value='{name}']").check()

    def choose_picture(self, path: Path) -> None:
        self.page.locator("#file").set_input_files(path)
        expect(self.page.locator("#picture-facts")).to_contain_text(path.name)

    def run(self) -> None:
        self.see("#run").click()

    def finished(self) -> None:
        """Wait for the end of a run that goes well."""
        expect(self.page.locator("#status")).to_contain_text("Done")
        expect(self.page.locator("#problem")).to_be_hidden()

    def problem(self) -> str:
        """Return what the page says is wrong."""
        return self.see("#problem-text").inner_text()

    def download(self) -> tuple[str, bytes]:
        """Return the name and the content of the result's file."""
        with self.page.expect_download() as begun:
            self.see("#download").click()
        return begun.value.suggested_filename, Path(begun.value.path()).read_bytes()

    def result(self) -> Image.Image:
        return Image.open(io.BytesIO(self.download()[1]))

    def shot(self, name: str, *, full: bool = False) -> None:
        """Keep a picture of the page."""
        self._shots.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=self._shots / f"{name}.png", full_page=full)

    def check_access(self) -> None:
        """Check what axe-core finds of this state of the page."""
        source = prepare.node_client() / "node_modules" / "axe-core" / "axe.min.js"
        self.page.evaluate(source.read_text(encoding="utf-8"))
        found: dict[str, Any] = self.page.evaluate("() => axe.run()")
        assert found["passes"], "nothing was looked at"
        bad = [
            f"{one['id']}: {node['html'][:200]} {node['failureSummary'][:300]}"
            for one in found["violations"]
            if one["impact"] in SERIOUS
            for node in one["nodes"]
        ]
        assert not bad, "\n".join(bad)

    def check_fits(self) -> None:
        """Check that nothing sticks out at the side."""
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert self.page.evaluate(wide) <= 0

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            text = f"{message.type}: {message.text}"
            if not any(part in text for part in self._expected):
                self.troubles.append(text)
