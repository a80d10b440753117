"""The page of the server in Chromium: its weight, until it can be used, until the first result.

    .venv/bin/python benchmarks/page.py [--rounds 5]

Beside a Gradio interface that takes a picture and gives it back, the usual page for a model. Each
round starts both servers anew and visits them in browsers that have seen nothing. Weight is what
went over the wire. Usable is when the page shows its button to run, counted from the navigation;
Calotype's has its models by then. Needs Chromium; Gradio gets an environment of its own.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

from peer import environment
from server import clean_environment, free_port, running, serving_all, wait_for

GRADIO = "6.31.0"
SCRIPT = Path(__file__).with_name("gradio_echo.py")
SOON_MS = 60_000


@dataclass(frozen=True, slots=True)
class Visit:
    """What one visitor measured."""

    weight_bytes: int
    files: int
    usable_s: float


def visit(browser: Browser, url: str, button: str) -> tuple[Visit, Page]:
    """Open a page as somebody new, and wait until it can be used."""
    page = browser.new_context().new_page()
    page.set_default_timeout(SOON_MS)
    weights: list[int] = []

    def weigh(params: dict[str, float]) -> None:
        weights.append(int(params["encodedDataLength"]))

    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.on("Network.loadingFinished", weigh)
    began_s = time.perf_counter()
    page.goto(url, wait_until="commit")
    page.locator(button).first.wait_for(state="visible")
    usable_s = time.perf_counter() - began_s
    page.wait_for_load_state("networkidle")
    return Visit(sum(weights), len(weights), usable_s), page


def first_result_s(page: Page, model: str) -> float:
    """Return how long a sample takes from the click on Run to its result."""
    page.locator(".sample").first.click()
    page.locator(f"input[name=model][value='{model}']").check()
    page.locator("#run").click()
    began_s = time.perf_counter()
    expect(page.locator("#status")).to_contain_text("Done", timeout=SOON_MS)
    return time.perf_counter() - began_s


def rounds(
    count: int, browser: Browser, python: Path
) -> Iterator[tuple[Visit, Visit, list[float]]]:
    """Yield what was measured of Calotype, of Gradio, and of Calotype's first and second result."""
    for _ in range(count):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            with serving_all(folder) as server:
                ours, page = visit(browser, f"http://127.0.0.1:{server.port}/", "input[name=model]")
                results = [first_result_s(page, "upscale-fast"), first_result_s(page, "style")]
            port = free_port()
            command = [str(python), str(SCRIPT), "--port", str(port)]
            with running(command, folder / "gradio.log", clean_environment(folder)):
                url = f"http://127.0.0.1:{port}/"
                wait_for(url)
                theirs, _ = visit(browser, url, "button:has-text('Submit')")
            yield ours, theirs, results


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    count = parser.parse_args().rounds
    python = environment("gradio", GRADIO, [f"gradio=={GRADIO}"])
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        found = list(rounds(count, browser, python))
    ours, theirs = [[one[side] for one in found] for side in (0, 1)]
    print("| | Calotype | Gradio | ratio (spread) |\n|---|---|---|---|")
    for words, attribute, factor, unit in (
        ("weight", "weight_bytes", 1e-3, "kB"),
        ("files", "files", 1, ""),
        ("usable after", "usable_s", 1, "s"),
    ):
        a, b = ([getattr(one, attribute) * factor for one in side] for side in (ours, theirs))
        ratios = [y / x for x, y in zip(a, b, strict=True)]
        spread = f"{statistics.median(ratios):.1f}x ({min(ratios):.1f}-{max(ratios):.1f})"
        print(
            f"| {words} | {statistics.median(a):.4g} {unit} | {statistics.median(b):.4g} {unit}"
            f" | {spread} |"
        )
    for number, words in enumerate(("upscale-fast", "style")):
        times = [one[2][number] for one in found]
        print(f"| first result of `{words}` | {statistics.median(times):.2f} s | | |")


if __name__ == "__main__":
    main()
