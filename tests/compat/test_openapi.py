"""What /openapi.json says is true: a fuzzer asks the live server for all of it."""

import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import validate

EXAMPLES = 8
"""Per operation; there are nearly thirty, and the models are real."""


@pytest.fixture(scope="module")
def described(server: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{server}/openapi.json", timeout=60) as answer:  # noqa: S310
        found: dict[str, Any] = json.load(answer)
    return found


def test_the_document_is_valid(described: dict[str, Any]) -> None:
    assert described["openapi"] == "3.1.0"
    assert len(described["paths"]) > 25
    validate(described)


def test_every_answer_is_documented_by_status(described: dict[str, Any]) -> None:
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            statuses = set(operation["responses"])
            assert "default" not in statuses, (path, method)
            assert statuses & {"200", "202"}, (path, method)
            assert ("401" in statuses) == ("security" in operation), (path, method)


def test_nothing_undocumented_is_answered(server: str, tmp_path: Path) -> None:
    """Among the errors 503 and 504 are answers, and documented; a 500 is a fault."""
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "run", f"{server}/openapi.json",
        "--checks", "status_code_conformance,content_type_conformance,response_schema_conformance",
        "--phases", "examples,coverage,fuzzing", "--max-examples", str(EXAMPLES), "--seed", "1",
        "--continue-on-failure", "--warnings", "off", "--no-color",
        # It waits for requests that never come, as it should.
        "--exclude-path", "/requests/{request_id}/events",
    ]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=280
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"Tested: +(2[5-9]|[3-9]\d)", done.stdout), done.stdout
    with urllib.request.urlopen(f"{server}/metrics", timeout=60) as answer:  # noqa: S310
        counted = answer.read().decode()
    assert 'status="400"' in counted
    assert 'status="500"' not in counted
