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

import peer
import report
from server import serving_all

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
    count: int, browser: Browser, gradio: peer.Peer
) -> Iterator[tuple[Visit, Visit, list[float]]]:
    """Yield what was measured of Calotype, of Gradio, and of Calotype's first and second result."""
    for _ in range(count):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            with serving_all(folder) as server:
                ours, page = visit(browser, f"http://127.0.0.1:{server.port}/", "input[name=model]")
                results = [first_result_s(page, "upscale-fast"), first_result_s(page, "style")]
            with peer.serving(folder, gradio) as port:
                theirs, _ = visit(browser, f"http://127.0.0.1:{port}/", "button:has-text('Submit')")
            yield ours, theirs, results


def main() -> None:
    """Measure, and publish."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    count = parser.parse_args().rounds
    gradio = peer.install("gradio")
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        found = list(rounds(count, browser, gradio))
    report.publish(
        report.Report(
            name="page",
            method=f"Each of {count} rounds starts both servers anew and visits them in a browser "
            "that has seen nothing. Weight is what went over the wire; usable is when the button "
            "to run is there, for Calotype with all its models.",
            tables=(compare(found), first_results(found)),
            versions=gradio.versions(),
        )
    )


def compare(found: list[tuple[Visit, Visit, list[float]]]) -> report.Table:
    """Set both pages side by side."""
    ours, theirs = ([one[side] for one in found] for side in (0, 1))
    rows = []
    for words, attribute, factor in (
        ("weight, kB", "weight_bytes", 1e-3),
        ("files", "files", 1),
        ("usable after, s", "usable_s", 1),
    ):
        a, b = ([getattr(one, attribute) * factor for one in side] for side in (ours, theirs))
        rows.append((words, statistics.median(a), statistics.median(b), report.paired(b, a)))
    columns = ("", "Calotype", "Gradio", "Gradio needs (spread)")
    return report.Table("The page", columns, tuple(rows))


def first_results(found: list[tuple[Visit, Visit, list[float]]]) -> report.Table:
    """Sum up how long the first results took."""
    rows = [
        (f"`{name}`", statistics.median(one[2][number] for one in found))
        for number, name in enumerate(("upscale-fast", "style"))
    ]
    return report.Table("First result, with loading", ("model", "seconds"), tuple(rows))


if __name__ == "__main__":
    main()
