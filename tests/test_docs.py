"""What the documentation says is true: its tables, its links, its snippets and its commands.

The tables of settings, metrics, options and parameters are written by the functions here; where a
page is out of date, the failing assertion shows the table that belongs there.
"""

import ast
import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import click
import pytest
from PIL import Image, ImageChops
from prometheus_client.metrics import MetricWrapperBase

from calotype import errors
from calotype.api.problems import status_of
from calotype.backends.ncnn_graph import LAYERS
from calotype.backends.registry import BACKENDS
from calotype.catalog.catalog import build_catalog
from calotype.cli.main import command as root_command
from calotype.domain.model import AUTO, ModelSpec, ParamSpec
from calotype.domain.params import COMMON, KNOWN
from calotype.observe import metrics
from calotype.settings import ENV_PREFIX, Settings
from compat import prepare
from models import photo

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
README = ROOT / "README.md"
HERE = "http://127.0.0.1:8000"
"""Where the pages say that the server is."""
MODELS = build_catalog().all()
EXTRA_KINDS = {"method": 405, "not_ready": 503, "internal": 500}
"""What the HTTP layer answers without an error of the tree."""
RUN_S = 240.0

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_REQUIREMENT = re.compile(r"[A-Za-z0-9_.-]+")


def read(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def blocks(path: Path, language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    found = _BLOCK.findall(path.read_text(encoding="utf-8"))
    return [text for name, text in found if name == language]


def section(page: str, heading: str) -> str:
    """Return what is below a heading, up to the next of its kind."""
    text = read(page)
    assert f"\n## {heading}\n" in text, f"docs/{page} lacks the section {heading}"
    return text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def sentence(text: str) -> str:
    text = " ".join(text.split()).replace("|", "\\|")
    end = "" if text.endswith((".", "]")) else "."
    return f"{text[:1].upper()}{text[1:]}{end}"


def code(value: object) -> str:
    return f"`{value}`"


def span(low: float | None, high: float | None) -> str:
    """Write what a number may be."""
    if low is None and high is None:
        return "any"
    if high is None:
        return f"at least {low:g}"
    return f"{low:g} to {high:g}" if low is not None else f"at most {high:g}"


# The tables.


def settings_table() -> str:
    rows = []
    for knob in fields(Settings):
        said = knob.metadata
        allowed = span(said["minimum"], said["maximum"])
        if said["choices"]:
            allowed = ", ".join(map(code, said["choices"]))
        elif isinstance(knob.default, bool):
            allowed = "true, false"
        shown = str(knob.default).lower() if isinstance(knob.default, bool) else str(knob.default)
        env = f"{ENV_PREFIX}{knob.name.upper()}"
        default = code(shown) if shown else "empty"
        rows.append((code(knob.name), code(env), default, allowed, sentence(said["help"])))
    return table(("setting", "variable", "default", "allowed", "meaning"), rows)


def all_metrics() -> list[MetricWrapperBase]:
    return [m for m in vars(metrics).values() if isinstance(m, MetricWrapperBase)]


def metrics_table() -> str:
    rows = []
    for metric in all_metrics():
        (family,) = metric.describe()
        name = f"{family.name}_total" if family.type == "counter" else family.name
        unit = next((u for u in ("seconds", "bytes", "jobs") if f"_{u}" in name), "count")
        labels = ", ".join(map(code, metric._labelnames)) or "none"
        rows.append((code(name), family.type, unit, labels, family.documentation))
    return table(("metric", "kind", "unit", "labels", "meaning"), rows)


def commands() -> list[tuple[str, click.Command]]:
    """Return every command with the words that call it."""
    found: list[tuple[str, click.Command]] = []

    def walk(words: str, item: click.Command) -> None:
        found.append((words, item))
        if isinstance(item, click.Group):
            context = click.Context(item)
            for name in item.list_commands(context):
                child = item.get_command(context, name)
                assert child is not None
                walk(f"{words} {name}", child)

    walk("calotype", root_command)
    return found


def options_table(item: click.Command) -> str:
    rows = []
    for param in item.params:
        if not isinstance(param, click.Option):
            continue
        metavar = "" if param.is_flag else f" {param.make_metavar(click.Context(item))}"
        names = ", ".join(f"`{name}`" for name in (*param.opts, *param.secondary_opts))
        names = names[:-1] + metavar.replace("|", "\\|") + "`"
        rows.append((names, sentence(param.help or "")))
    return table(("option", "meaning"), rows)


def parameter_row(param: ParamSpec) -> tuple[str, ...]:
    allowed = span(param.minimum, param.maximum)
    if param.type == "blend":
        allowed = f"0 to {len(param.choices) - 1}, a name, or a blend"
    elif param.choices:
        allowed = ", ".join(map(str, param.choices))
    elif param.type == "boolean":
        allowed = "true, false"
    default = "required" if param.required else "none"
    if param.default is not None:
        default = code(json.dumps(param.default))
    return code(param.name), param.type, allowed, default, sentence(param.help)


def parameters_table(params: tuple[ParamSpec, ...]) -> str:
    head = ("parameter", "type", "allowed", "default", "meaning")
    return table(head, [parameter_row(param) for param in params])


# What is documented.


def test_settings() -> None:
    assert settings_table() in read("settings.md")


def test_metrics() -> None:
    assert metrics_table() in read("metrics.md")


def leaves(cls: type[errors.CalotypeError]) -> Iterator[type[errors.CalotypeError]]:
    below = cls.__subclasses__()
    if not below:
        yield cls
    for child in below:
        yield from leaves(child)


@pytest.mark.parametrize("cls", list(leaves(errors.CalotypeError)), ids=lambda cls: cls.__name__)
def test_errors(cls: type[errors.CalotypeError]) -> None:
    row = f"| `{cls.__name__}` | `{cls.kind}` | {int(status_of(cls('')))} |"
    assert row in read("errors.md")
    assert f"`{cls.__bases__[0].__name__}`" in read("errors.md")


@pytest.mark.parametrize("kind", EXTRA_KINDS)
def test_errors_outside_the_tree(kind: str) -> None:
    assert f"| `{kind}` | {EXTRA_KINDS[kind]} |" in read("errors.md")


@pytest.mark.parametrize(("words", "item"), commands(), ids=lambda value: str(value)[:40])
def test_commands(words: str, item: click.Command) -> None:
    told = section("cli.md", words)
    if any(isinstance(param, click.Option) for param in item.params):
        assert options_table(item) in told
    for param in item.params:
        if isinstance(param, click.Argument):
            assert param.make_metavar(click.Context(item)) in told


@pytest.mark.parametrize("spec", MODELS, ids=lambda spec: spec.alias)
def test_models(spec: ModelSpec) -> None:
    told = section("models.md", spec.alias)
    tile = "tile | none" if spec.tile == AUTO else f"{spec.tile} px"
    for fact in (code(spec.id), spec.licence, spec.source, tile):
        assert fact in told
    if spec.params:
        assert parameters_table(spec.params) in told
    assert parameters_table(COMMON) in read("models.md")
    style = spec.param("style")
    for number, name in enumerate(style.choices if style else ()):
        assert f"| {number} | `{name}` |" in read("models.md")


def test_models_in_the_readme() -> None:
    text = README.read_text(encoding="utf-8")
    for spec in MODELS:
        assert f"`{spec.alias}`" in text
        assert spec.licence in text


@pytest.mark.parametrize("name", KNOWN)
def test_parameters_of_the_api(name: str) -> None:
    assert f"| `{name}` |" in read("http-api.md")


def requirements() -> Iterator[str]:
    said = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = said["project"]
    extras = (*project["optional-dependencies"].values(), *said["dependency-groups"].values())
    for line in (*project["dependencies"], *(line for lines in extras for line in lines)):
        match = _REQUIREMENT.match(line)
        assert match is not None
        yield match[0]


@pytest.mark.parametrize("name", sorted(set(requirements())))
def test_dependencies(name: str) -> None:
    assert f"| `{name}` |" in read("dependencies.md")


def test_own_models() -> None:
    text = read("own-models.md")
    for name in (*LAYERS, *BACKENDS, "Input"):
        assert f"`{name}`" in text
    for key in (f.name for f in fields(ModelSpec) if f.name not in ("revision", "params")):
        assert f"`{key}`" in text
    for key in (f.name for f in fields(ParamSpec) if f.name != "name"):
        assert f"`{key}`" in text


# What can be followed.


def slug(heading: str) -> str:
    """Return the anchor that a heading gets."""
    kept = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return kept.replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links(page: Path) -> None:
    text = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    for target in _LINK.findall(text):
        if "://" in target or target.startswith("mailto:"):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{target} is not there"
        if anchor:
            headings = _HEADING.findall(file.read_text(encoding="utf-8"))
            assert anchor in map(slug, headings), f"{target} has no such heading"


def test_every_page_is_on_the_map() -> None:
    told = read("index.md")
    for page in DOCS.glob("*.md"):
        assert page.name == "index.md" or f"]({page.name})" in told


def test_targets_of_the_readme() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    shell = "".join(blocks(README, "sh"))
    targets = re.findall(r"^make (\w+)$", shell, re.MULTILINE)
    assert {"serve", "test"} <= set(targets)
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_snippets_can_be_read(page: Path) -> None:
    for text in blocks(page, "python"):
        ast.parse(text)
    for text in blocks(page, "json"):
        json.loads(text)
    for text in blocks(page, "toml"):
        tomllib.loads(text)


# What can be run.


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment far from the user's own folders, where `calotype` is found."""
    folder = tmp_path_factory.mktemp("user")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(ENV_PREFIX)}
    scripts = str(Path(sys.executable).parent)
    return kept | {
        "CALOTYPE_DATA_DIR": str(folder / "data"),
        "CALOTYPE_CACHE_DIR": str(folder / "cache"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PATH": os.pathsep.join((scripts, os.environ.get("PATH", ""))),
    }


@pytest.fixture(scope="module")
def server(env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve on a free port; return the URL."""
    log_file = tmp_path_factory.mktemp("server") / "log"
    command = [sys.executable, "-m", "calotype", "serve", "--port", "0"]
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(log_file.open("w"))
        process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=log, text=True)
        assert process.stdout is not None
        stack.callback(process.stdout.close)
        stack.callback(process.wait)
        stack.callback(process.kill)
        first = process.stdout.readline()
        assert "listens on" in first, log_file.read_text(encoding="utf-8")
        yield first.split()[3]


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder with what the snippets read: pictures, a mask, and a folder of more."""
    (tmp_path / "photos").mkdir()
    names = ("photo.jpg", "painting.jpg", "old.jpg", "photos/a.jpg", "photos/b.jpg")
    for seed, name in enumerate(names):
        Image.fromarray(photo(30, 40, seed)).save(tmp_path / name)
    mask = Image.new("L", (40, 30))
    mask.paste(255, (10, 5, 20, 15))
    mask.save(tmp_path / "mask.png")
    Image.merge("LA", (mask, ImageChops.invert(mask))).save(tmp_path / "hole.png")
    return tmp_path


def run(command: list[str], folder: Path, env: dict[str, str]) -> str:
    done = subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, timeout=RUN_S, check=False
    )
    assert done.returncode == 0, f"{command[-1]}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def size(file: Path) -> tuple[int, int]:
    with Image.open(io.BytesIO(file.read_bytes())) as image:
        return image.size


def test_curl_of_the_readme(server: str, desk: Path, env: dict[str, str]) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    texts = [text for text in blocks(README, "sh") if re.search(r"^curl ", text, re.MULTILINE)]
    assert len(texts) >= 2
    for text in texts:
        run(["bash", "-euc", text.replace(HERE, server)], desk, env)
    assert size(desk / "result.jpg") == (160, 120)
    assert size(desk / "painted.png") == (40, 30)


def test_python_client_of_the_readme(server: str, desk: Path, env: dict[str, str]) -> None:
    (text,) = (text for text in blocks(README, "python") if "InferenceClient" in text)
    run([sys.executable, "-c", text.replace(HERE, server)], desk, env)
    assert size(desk / "large.png") == (1600, 1200)


def test_openai_client_of_the_readme(server: str, desk: Path, env: dict[str, str]) -> None:
    (text,) = (text for text in blocks(README, "python") if "import OpenAI" in text)
    run([sys.executable, "-c", text.replace(HERE, server)], desk, env)
    assert size(desk / "larger.png") == (160, 120)


def test_javascript_client_of_the_readme(server: str, desk: Path, env: dict[str, str]) -> None:
    (text,) = blocks(README, "js")
    folder = prepare.node_client()
    (desk / "node_modules").symlink_to(folder / "node_modules")
    (desk / "readme.mjs").write_text(text.replace(HERE, server), encoding="utf-8")
    run(["node", "readme.mjs"], desk, env)
    assert size(desk / "painted.jpg") == (40, 30)


def test_command_line_of_the_readme(desk: Path, env: dict[str, str]) -> None:
    (text,) = (text for text in blocks(README, "sh") if "calotype run upscale" in text)
    run(["bash", "-euc", text], desk, env)
    assert size(desk / "large.png") == (160, 120)
    assert size(desk / "painted" / "b.jpg") == (40, 30)
    assert size(desk / "coloured.jpg") == size(desk / "without.jpg") == (40, 30)


def test_library_of_the_readme(desk: Path, env: dict[str, str]) -> None:
    (text,) = (text for text in blocks(README, "python") if "import Calotype" in text)
    run([sys.executable, "-c", text], desk, env)
    assert size(desk / "large.jpg") == (1600, 1200)


def test_library_page(desk: Path, env: dict[str, str]) -> None:
    """Its snippets run one after the other, each a program of its own."""
    texts = blocks(DOCS / "library.md", "python")
    assert len(texts) >= 3
    for text in texts:
        run([sys.executable, "-W", "error", "-c", text], desk, env)
    assert size(desk / "large.jpg") == (1600, 1200)


def test_openai_page(server: str, desk: Path, env: dict[str, str]) -> None:
    (text,) = blocks(DOCS / "openai.md", "python")
    run([sys.executable, "-W", "error", "-c", text.replace(HERE, server)], desk, env)
    assert size(desk / "large.png") == (80, 60)
    assert size(desk / "without.png") == (40, 30)
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    (text,) = blocks(DOCS / "openai.md", "sh")
    run(["bash", "-euc", text.replace(HERE, server)], desk, env)
    answer = json.loads((desk / "painted.json").read_text(encoding="utf-8"))
    assert (answer["size"], answer["output_format"]) == ("40x30", "jpeg")
    assert answer["warnings"] == []


def test_http_page(server: str) -> None:
    with urllib.request.urlopen(f"{server}/openapi.json", timeout=RUN_S) as answer:  # noqa: S310
        described = cast(dict[str, Any], json.load(answer))
    text = read("http-api.md")
    for path, methods in described["paths"].items():
        for method in methods:
            assert path.endswith("s/") or f"| `{method.upper()} {path}` |" in text
    told = described["components"]["schemas"]["Request"]["properties"]
    for name in (*told, *told["state"]["enum"]):
        assert f"`{name}`" in text
    operation = described["paths"]["/models/{id}"]["post"]
    asked = [item["name"] for item in operation["parameters"] if item["in"] == "header"]
    for header in (*asked, *operation["responses"]["200"]["headers"]):
        assert f"| `{header}` |" in text
