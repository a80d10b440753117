"""How `calotype serve --ray` ends where it started Ray itself."""

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil

from api.server import pixels_of
from e2e.server import serving
from scale.cluster import LIMIT_S, MARKS, wait
from scale.load import Model
from scale.pressure import under_load
from scale.site import begin_long

pytestmark = MARKS

CATALOG = """
[[model]]
id = "test/invert"
alias = "invert"
backend = "fake"
parameters = {invert = {type = "boolean", default = true}}
options = {step_s = 0.05, steps = 4}

[[model]]
id = "test/slow"
alias = "slow"
backend = "fake"
options = {step_s = 0.1, steps = 80}
"""


def test_a_signal_ends_it_once_the_work_in_it_is_answered(tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text(CATALOG)
    environ = {"CALOTYPE_CATALOG_FILE": str(tmp_path / "models.toml")}
    environ |= {"CALOTYPE_DEFAULT_MODEL": "invert", "CALOTYPE_CLUSTER_MODELS": "invert: replicas=2"}
    with (
        ThreadPoolExecutor(1) as aside,
        serving(tmp_path, "--ray", environ=environ, patient=True) as server,
    ):
        upload, long = begin_long(server.url, aside)
        with under_load([server.url], [Model(name="invert", inverts=True)]) as pressure:
            wait(lambda: "POST /models/invert 200" in server.said)
            family = psutil.Process(server.process.pid).children(recursive=True)
            assert any("raylet" in one.name() for one in family)
            server.process.send_signal(signal.SIGTERM)
            answer = long.result(LIMIT_S)
        assert answer.status_code == 200, server.said
        assert np.array_equal(pixels_of(answer.content), pixels_of(upload))
        assert server.process.wait(LIMIT_S) == 0, server.said
        _, left = psutil.wait_procs(family, LIMIT_S)
        assert left == []
    assert set(pressure.report.failed) <= {"503 shutting_down", "503 lost"}, str(pressure)
    assert pressure.report.right > 0
    assert (pressure.report.wrong, pressure.report.cut) == ({}, 0), str(pressure)
