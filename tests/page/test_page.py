"""What people do at the page."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Dialog, expect
from playwright.sync_api import Error as PlaywrightError

from calotype.api.door import TOKENS_FILE
from calotype.api.tokens import TokenStore
from compat import prepare
from e2e.server import Server, serving
from page.visitor import Visitor

Visit = Callable[..., Visitor]
PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
REFUSED = "Failed to load resource"
"""Chromium's own word on an answer of 400 and more."""


def picture(path: Path, width: int, height: int) -> Path:
    Image.radial_gradient("L").resize((width, height)).convert("RGB").save(path)
    return path


# Running models


def test_a_picture_is_made_larger_with_progress(
    server: Server, visit: Visit, tmp_path: Path
) -> None:
    visitor = visit(server)
    visitor.choose_picture(picture(tmp_path / "photo.png", 480, 320))
    visitor.choose_model("upscale-fast")
    # Every word that the status line ever says.
    visitor.page.evaluate(
        """() => {
            window.said = [];
            const status = document.getElementById("status");
            new MutationObserver(() => window.said.push(status.textContent))
                .observe(status, {childList: true, characterData: true, subtree: true});
        }"""
    )
    visitor.run()
    expect(visitor.page.locator("#progress")).to_be_visible()
    visitor.finished()
    said = visitor.page.evaluate("() => window.said")
    assert any(text.startswith("step ") and " of " in text for text in said), said
    assert said[-1].startswith("Done in ")
    name, body = visitor.download()
    assert name == "photo-upscale-fast.png"
    upload = (tmp_path / "photo.png").read_bytes()
    assert body == httpx.post(f"{server.url}/models/upscale-fast", content=upload).content
    facts = visitor.see("#facts").inner_text()
    assert "1920 \u00d7 1280 px" in facts
    assert "realesr-animevideov3" in facts
    visitor.check_access()
    visitor.shot("upscale")


def test_the_result_is_compared_and_looked_at_closely(
    server: Server, visit: Visit, photo: Path
) -> None:
    visitor = visit(server)
    visitor.choose_picture(photo)
    visitor.choose_model("upscale-fast")
    visitor.run()
    visitor.finished()
    slider = visitor.see("#compare")
    before = slider.get_attribute("aria-valuenow")
    slider.focus()
    for _ in range(5):
        visitor.page.keyboard.press("ArrowRight")
    after = slider.get_attribute("aria-valuenow")
    assert before is not None
    assert after is not None
    assert float(after) > float(before)
    level = visitor.see(".level:visible")
    fitted = level.inner_text()
    for _ in range(6):
        visitor.page.get_by_role("button", name="Zoom in").click()
    assert level.inner_text() != fitted
    rendering = "(image) => getComputedStyle(image).imageRendering"
    assert visitor.page.locator("#result-image").evaluate(rendering) == "pixelated"
    visitor.page.get_by_role("button", name="Fit").click()
    assert level.inner_text() == fitted


def test_a_style_is_chosen_by_its_thumbnail(server: Server, visit: Visit, photo: Path) -> None:
    visitor = visit(server)
    visitor.choose_picture(photo)
    visitor.choose_model("style")
    visitor.page.locator("input[value=neon]").check()
    visitor.shot("styles")
    visitor.check_access()
    visitor.run()
    visitor.finished()
    body = {"inputs": _base64(photo), "parameters": {"style": "neon"}}
    direct = httpx.post(f"{server.url}/models/style", json=body, timeout=60)
    assert visitor.download()[1] == direct.content


def _base64(path: Path) -> str:
    return subprocess.run(
        ["base64", "-w0", path], capture_output=True, text=True, check=True
    ).stdout


def test_the_style_of_another_picture_is_taken(
    server: Server, visit: Visit, photo: Path, tmp_path: Path
) -> None:
    visitor = visit(server)
    visitor.choose_picture(photo)
    visitor.choose_model("style-image")
    visitor.run()
    expect(visitor.page.locator("[data-field=style_image]")).to_contain_text("is needed")
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    visitor.page.locator("[data-field=style_image] input[type=file]").set_input_files(
        tmp_path / "noise.png"
    )
    visitor.run()
    visitor.finished()
    assert visitor.result().size == (96, 64)


def test_a_mask_is_painted_and_what_it_covers_removed(
    server: Server, visit: Visit, tmp_path: Path
) -> None:
    path = picture(tmp_path / "photo.png", 320, 240)
    visitor = visit(server)
    visitor.choose_picture(path)
    visitor.choose_model("inpaint")
    box = visitor.see("#mask-box").bounding_box()
    assert box is not None
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    mouse = visitor.page.mouse
    mouse.move(middle[0] - 30, middle[1])
    mouse.down()
    mouse.move(middle[0] + 30, middle[1], steps=8)
    mouse.up()
    visitor.shot("mask")
    visitor.check_access()
    mask = _mask(visitor, tmp_path)
    painted = mask.mean()
    assert 0.001 < painted < 0.2
    for press, grows in (("#undo", False), ("#redo", True)):
        visitor.see(press).click()
        assert bool(_mask(visitor, tmp_path).any()) is grows
    visitor.run()
    visitor.finished()
    made, source = np.asarray(visitor.result().convert("RGB")), np.asarray(Image.open(path))
    changed = (made != source).any(axis=2)
    assert changed.any()
    from_edge = np.asarray(Image.fromarray(mask).resize((320, 240)))
    assert not (changed & ~_grown(from_edge, 6)).any(), "pixels changed that need not"
    facts = visitor.see("#facts").inner_text()
    assert "%" in facts
    visitor.shot("inpaint")


def _mask(visitor: Visitor, folder: Path) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """Return the mask as the page saves it."""
    with visitor.page.expect_download() as begun:
        visitor.see("#mask-save").click()
    begun.value.save_as(folder / "mask.png")
    saved = Image.open(folder / "mask.png")
    assert saved.size == (320, 240), "a mask has the picture's own size"
    found: np.ndarray[tuple[int, int], np.dtype[np.bool_]] = np.asarray(saved.convert("L")) > 127
    return found


def _grown(
    mask: np.ndarray[tuple[int, int], np.dtype[np.bool_]], reach: int
) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    grown = mask.copy()
    for y in range(-reach, reach + 1):
        for x in range(-reach, reach + 1):
            grown |= np.roll(mask, (y, x), (0, 1))
    return grown


def test_a_mask_is_painted_with_a_finger(server: Server, visit: Visit, tmp_path: Path) -> None:
    visitor = visit(server, **PHONE)
    visitor.choose_picture(picture(tmp_path / "photo.png", 320, 240))
    visitor.choose_model("inpaint")
    place = visitor.see("#mask-box")
    place.scroll_into_view_if_needed()
    box = place.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    touch = visitor.context.new_cdp_session(visitor.page)
    for kind, across in (("Start", -40), ("Move", 0), ("Move", 40)):
        points = [{"x": x + across, "y": y}]
        touch.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": points})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    mask = _mask(visitor, tmp_path)
    wide = np.flatnonzero(mask.any(axis=0))
    assert wide[-1] - wide[0] > 40, "a stroke, not a dot"
    visitor.shot("phone-mask")
    visitor.check_fits()
    visitor.check_access()


def test_a_mask_is_painted_with_the_keyboard(server: Server, visit: Visit, tmp_path: Path) -> None:
    visitor = visit(server)
    visitor.choose_picture(picture(tmp_path / "photo.png", 320, 240))
    visitor.choose_model("inpaint")
    visitor.see("#mask-box").focus()
    for key in ("ArrowRight", "]", "]", "Space", "ArrowRight", "ArrowRight", "Space"):
        visitor.page.keyboard.press(key)
    assert _mask(visitor, tmp_path).any()


def test_a_chain_runs_two_models(server: Server, visit: Visit, photo: Path) -> None:
    visitor = visit(server)
    visitor.choose_picture(photo)
    visitor.choose_model("upscale-fast")
    visitor.page.locator("#then").select_option("style")
    expect(visitor.page.locator(".stage-group")).to_have_count(2)
    visitor.check_access()
    visitor.run()
    visitor.finished()
    assert visitor.result().size == (384, 256)
    assert "upscale-fast+style" in visitor.see("#code-curl").inner_text()


def test_each_model_keeps_its_settings(server: Server, visit: Visit) -> None:
    visitor = visit(server)
    starry = visitor.page.locator("input[value=starry]")
    strength = visitor.page.locator("input[type=number][data-param=strength]")
    visitor.choose_model("style")
    starry.check()
    strength.fill("0.4")
    visitor.choose_model("upscale")
    expect(starry).to_have_count(0)
    visitor.page.locator("#then").select_option("style")
    expect(starry).to_be_checked()
    expect(strength).to_have_value("0.4")
    strength.fill("0.7")
    visitor.page.locator("#then").select_option("")
    visitor.choose_model("style")
    expect(starry).to_be_checked()
    expect(strength).to_have_value("0.4")
    visitor.see("#reset").click()
    expect(starry).not_to_be_checked()
    visitor.choose_model("upscale")
    visitor.choose_model("style")
    expect(strength).not_to_have_value("0.4")


def test_the_mask_is_offered_when_a_result_was_shown(
    server: Server, visit: Visit, photo: Path
) -> None:
    visitor = visit(server)
    visitor.choose_picture(photo)
    visitor.choose_model("upscale-fast")
    visitor.run()
    visitor.finished()
    visitor.choose_model("inpaint")
    visitor.see("#mask-box")
    visitor.choose_model("upscale-fast")
    visitor.see("label:has(#view-result)").click()
    visitor.see("#facts")


def test_who_leaves_in_mid_run_is_asked_first(server: Server, visit: Visit, tmp_path: Path) -> None:
    visitor = visit(server, expected=(REFUSED,))
    asked: list[str] = []

    def stay(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.dismiss()

    visitor.page.on("dialog", stay)
    visitor.choose_picture(picture(tmp_path / "large.png", 1400, 1400))
    visitor.choose_model("upscale")
    visitor.run()
    expect(visitor.page.locator("#status")).to_contain_text("step")
    with contextlib.suppress(PlaywrightError):  # it stays
        visitor.page.reload(timeout=2000)
    assert asked == ["beforeunload"]
    visitor.see("#cancel").click()
    expect(visitor.page.locator("#status")).to_contain_text("Cancelled")
    visitor.page.reload()
    assert asked == ["beforeunload"]


def test_a_run_is_cancelled(server: Server, visit: Visit, tmp_path: Path) -> None:
    visitor = visit(server, expected=(REFUSED,))
    visitor.choose_picture(picture(tmp_path / "large.png", 1400, 1400))
    visitor.choose_model("upscale")
    visitor.run()
    expect(visitor.page.locator("#status")).to_contain_text("step")
    visitor.shot("running")
    visitor.check_access()
    visitor.see("#cancel").click()
    expect(visitor.page.locator("#status")).to_contain_text("Cancelled")
    expect(visitor.page.locator("#problem")).to_be_hidden()
    # The device is free again.
    visitor.choose_picture(picture(tmp_path / "small.png", 48, 48))
    visitor.choose_model("upscale-fast")
    visitor.run()
    visitor.finished()


def test_the_result_is_the_next_input_and_history_remembers(
    server: Server, visit: Visit, photo: Path
) -> None:
    visitor = visit(server)
    visitor.choose_picture(photo)
    visitor.choose_model("style")
    visitor.page.locator("input[value=starry]").check()
    visitor.run()
    visitor.finished()
    first = visitor.download()[1]
    visitor.see("#use-result").click()
    expect(visitor.page.locator("#picture-facts")).to_contain_text("photo-style.png")
    visitor.choose_model("upscale-fast")
    visitor.page.keyboard.press("Control+Enter")
    visitor.finished()
    assert visitor.result().size == (384, 256)
    items = visitor.page.locator(".history-item")
    expect(items).to_have_count(2)
    visitor.page.reload()
    expect(items).to_have_count(2)
    visitor.check_access()
    items.last.locator(".run").click()
    expect(visitor.page.locator("input[name=model][value=style]")).to_be_checked()
    expect(visitor.page.locator("input[value=starry]")).to_be_checked()
    expect(visitor.page.locator("#picture-facts")).to_contain_text("photo.png")
    assert visitor.download()[1] == first
    items.first.locator(".remove").click()
    expect(items).to_have_count(1)
    visitor.page.on("dialog", lambda dialog: dialog.accept())
    visitor.see("#clear-history").click()
    expect(items).to_have_count(0)
    visitor.page.reload()
    expect(items).to_have_count(0)


def test_pictures_are_dropped_pasted_and_sampled(server: Server, visit: Visit, photo: Path) -> None:
    visitor = visit(server)
    facts = visitor.page.locator("#picture-facts")
    for kind in ("drop", "paste"):
        visitor.page.evaluate(
            """([kind, base64, name]) => {
                const bytes = Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
                const data = new DataTransfer();
                data.items.add(new File([bytes], name, {type: "image/png"}));
                const options = {bubbles: true, cancelable: true};
                document.body.dispatchEvent(kind === "drop"
                    ? new DragEvent("drop", {...options, dataTransfer: data})
                    : new ClipboardEvent("paste", {...options, clipboardData: data}));
            }""",
            [kind, _base64(photo), f"{kind}.png"],
        )
        expect(facts).to_contain_text("96 \u00d7 64 px")
        expect(facts).to_contain_text("drop.png" if kind == "drop" else ".png")
    visitor.page.locator(".sample").first.click()
    expect(facts).to_contain_text("160 \u00d7 120 px")


# What the page shows as programs


def test_the_programs_really_run(server: Server, visit: Visit, photo: Path, tmp_path: Path) -> None:
    visitor = visit(server, permissions=["clipboard-read", "clipboard-write"])
    visitor.choose_picture(photo)
    visitor.choose_model("style")
    visitor.page.locator("input[value=neon]").check()
    visitor.run()
    visitor.finished()
    name, wanted = visitor.download()
    runners: dict[str, Callable[[str], list[str]]] = {
        "curl": lambda text: ["bash", "-euo", "pipefail", "-c", text],
        "python": lambda text: [sys.executable, "-c", text],
        "javascript": lambda text: ["node", "--input-type=module", "-e", text],
    }
    for language, runner in runners.items():
        visitor.see(f"#tab-{language}").click()
        visitor.see("#copy-code").click()
        text = visitor.page.evaluate("() => navigator.clipboard.readText()")
        assert text.strip() == visitor.see(f"#code-{language}").inner_text().strip()
        folder = tmp_path / language
        folder.mkdir()
        shutil.copy(photo, folder)
        (folder / "node_modules").symlink_to(prepare.node_client() / "node_modules")
        environ = {**os.environ, "HF_HUB_DISABLE_TELEMETRY": "1"}
        done = subprocess.run(
            runner(text), cwd=folder, env=environ, capture_output=True, text=True,
            check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, f"{language}: {done.stderr}"
        (made,) = set(folder.glob("*.*")) - {folder / photo.name, folder / "node_modules"}
        assert made.name == name
        found = np.asarray(Image.open(made).convert("RGB"))
        assert np.array_equal(found, np.asarray(visitor.result().convert("RGB"))), language
        if language == "curl":
            assert made.read_bytes() == wanted


# What goes wrong


def test_a_file_that_is_no_picture(server: Server, visit: Visit, tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("not a picture")
    visitor = visit(server, expected=(REFUSED,))
    visitor.choose_picture(tmp_path / "notes.png")
    visitor.choose_model("upscale-fast")
    visitor.run()
    assert "cannot identify image file" in visitor.problem()
    visitor.check_access()
    visitor.shot("error")


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, str]]:
    """A server that needs a token, and takes small pictures only."""
    folder = tmp_path_factory.mktemp("closed")
    secret = TokenStore(folder / "data" / TOKENS_FILE).create("page")
    limits = ("--max-pixels", "10000", "--default-model", "upscale-fast")
    with serving(folder, *limits) as started:
        yield started, secret


def test_a_token_is_asked_for_and_kept_in_the_tab_only(
    closed: tuple[Server, str], visit: Visit, photo: Path
) -> None:
    server, secret = closed
    visitor = visit(server, expected=(REFUSED,))
    visitor.see("#token-dialog")
    visitor.check_access()
    visitor.page.locator("#token").fill("calo_wrong")
    visitor.see("#use-token").click()
    expect(visitor.see("#token-dialog")).to_contain_text("token seems invalid")
    visitor.page.locator("#token").fill(secret)
    visitor.page.keyboard.press("Enter")
    expect(visitor.page.locator("#token-dialog")).to_have_count(0)
    visitor.choose_picture(photo)
    visitor.choose_model("upscale-fast")
    visitor.run()
    visitor.finished()
    assert "Bearer $TOKEN" in visitor.see("#code-curl").inner_text()
    assert secret not in visitor.page.content()
    stored = "JSON.stringify([{...localStorage}, {...sessionStorage}])"
    local, session = visitor.page.evaluate(f"JSON.parse({stored})")
    assert secret in session.values()
    assert secret not in str(local)
    visitor.page.reload()  # still the same tab
    visitor.see("input[name=model][value=style]")
    other = visitor.context.new_page()
    other.goto(server.url)
    expect(other.locator("#token-dialog")).to_be_visible()


def test_a_picture_that_is_too_large(
    closed: tuple[Server, str], visit: Visit, tmp_path: Path
) -> None:
    server, secret = closed
    visitor = visit(server, expected=(REFUSED,))
    visitor.see("#token").fill(secret)
    visitor.see("#use-token").click()
    visitor.choose_picture(picture(tmp_path / "large.png", 300, 200))
    visitor.choose_model("upscale-fast")
    visitor.run()
    said = visitor.problem()
    assert "60000 pixels" in said
    assert "10000" in said
    visitor.check_access()


def test_a_server_that_is_gone(visit: Visit, tmp_path: Path, photo: Path) -> None:
    with serving(tmp_path) as server:
        visitor = visit(server, expected=(REFUSED,))
        visitor.choose_picture(photo)
        visitor.choose_model("upscale-fast")
        server.process.kill()
        server.process.wait(20)
        visitor.run()
        assert visitor.problem()
        expect(visitor.page.locator("#run")).to_be_visible()


# How it looks, and for whom


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone(server: Server, visit: Visit, photo: Path, scheme: str) -> None:
    visitor = visit(server, color_scheme=scheme, **PHONE)
    visitor.choose_picture(photo)
    visitor.choose_model("style")
    visitor.check_fits()
    visitor.check_access()
    visitor.shot(f"phone-{scheme}")
    visitor.run()
    visitor.finished()
    visitor.check_fits()
    visitor.check_access()
    visitor.shot(f"phone-{scheme}-full", full=True)


def test_a_dark_screen(server: Server, visit: Visit) -> None:
    visitor = visit(server, color_scheme="dark")
    visitor.page.locator(".sample").first.click()
    visitor.choose_model("style")
    visitor.page.locator("input[value=starry]").check()
    visitor.run()
    visitor.finished()
    visitor.check_access()
    visitor.shot("dark")
    brightness = (
        "getComputedStyle(document.documentElement).backgroundColor.match(/\\d+/g).map(Number)"
    )
    assert max(visitor.page.evaluate(brightness)[:3]) < 80
    visitor.see("#theme").click()
    assert min(visitor.page.evaluate(brightness)[:3]) > 200
    visitor.page.reload()
    assert min(visitor.page.evaluate(brightness)[:3]) > 200, "the choice is kept"


@pytest.mark.parametrize("width", [360, 600, 900, 1280, 1920])
def test_every_width(server: Server, visit: Visit, width: int) -> None:
    visitor = visit(server, viewport={"width": width, "height": 900})
    for name in ("style", "inpaint", "upscale-fast"):
        visitor.choose_model(name)
        visitor.page.locator(".sample").first.click()
        visitor.check_fits()


def test_the_keyboard_reaches_everything_in_order(server: Server, visit: Visit) -> None:
    visitor = visit(server)
    visitor.see("#run")
    seen = []
    for _ in range(60):
        visitor.page.keyboard.press("Tab")
        seen.append(
            visitor.page.evaluate(
                "() => [document.activeElement.id || document.activeElement.tagName,"
                " document.activeElement.value ?? '']"
            )
        )
    names = [name for name, _ in seen]
    assert "run" in names
    assert "upscale-fast" in [value for _, value in seen]
    assert names.index("file") < names.index("run")


# Nothing but its own scripts


def test_an_injected_script_does_not_run(server: Server, visit: Visit) -> None:
    visitor = visit(server, expected=("Content Security Policy", "violates"))
    visitor.see("#run")
    ran = visitor.page.evaluate(
        """async () => {
            const blocked = [];
            document.addEventListener("securitypolicyviolation",
                (event) => blocked.push(event.effectiveDirective));
            const script = document.createElement("script");
            script.textContent = "window.ran = 1";
            document.body.append(script);
            const image = document.createElement("div");
            image.innerHTML = "<img src='data:,' onerror='window.ran = 2'>"
                + "<style>body { display: none }</style>";
            document.body.append(image);
            const outside = document.createElement("script");
            outside.src = "data:text/javascript,window.ran=3";
            document.body.append(outside);
            await fetch("https://example.invalid/").catch(() => {});
            await new Promise((resolve) => setTimeout(resolve, 500));
            return [window.ran ?? null, blocked, getComputedStyle(document.body).display];
        }"""
    )
    assert ran[0] is None
    assert {"script-src-elem", "script-src-attr", "style-src-elem", "connect-src"} <= set(ran[1])
    assert ran[2] != "none"


def test_names_with_markup_stay_text(server: Server, visit: Visit, tmp_path: Path) -> None:
    visitor = visit(server)
    path = picture(tmp_path / "<img src=x onerror=alert(1)>'\"$(id)`.png", 40, 30)
    visitor.choose_picture(path)
    visitor.choose_model("upscale-fast")
    visitor.run()
    visitor.finished()
    assert visitor.page.locator("img[src=x]").count() == 0
