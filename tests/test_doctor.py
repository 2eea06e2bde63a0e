"""`workflow-rl doctor`: what it finds on this machine, and on machines that lack something."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from workflow_rl.doctor import diagnose, worker_advice

PROGRAM = [sys.executable, "-c", "from workflow_rl.cli import main; main()", "doctor"]
CHECKOUT = Path(__file__).parents[1]


def doctor(path: Path, *, limits: str = "true") -> tuple[int, dict[str, dict[str, str]]]:
    """Exit code and findings by part, of a doctor who finds some packages in `path` before all others."""
    script = f'{limits}; exec "$@"'
    done = subprocess.run(
        ["bash", "-c", script, "bash", *PROGRAM, "--json", "findings.json"],
        cwd=path,
        env={"PYTHONPATH": f"{path}:{CHECKOUT}", "COLUMNS": "150"},
        capture_output=True,
        text=True,
    )
    assert not done.stderr
    content = json.loads((path / "findings.json").read_text())
    assert content["can_run"] is (done.returncode == 0)
    assert ("ready to train" in done.stdout) is content["can_run"]
    for finding in content["findings"]:
        assert finding["part"] in done.stdout
    workers = {advice["environment"]: advice for advice in content["workers"]}
    return done.returncode, {**{finding["part"]: finding for finding in content["findings"]}, **workers}


def test_this_machine_can_train() -> None:
    diagnosis = diagnose()
    found = {finding.part: finding for finding in diagnosis.findings}
    assert diagnosis.can_run
    assert found["Python"].found.startswith(platform.python_version())
    assert found["requirements"].found == "all met"
    assert found["extra cyborg"].found == "csle-cyborg 0.0.3"


def test_few_open_files_bound_the_workers(tmp_path: Path) -> None:
    code, found = doctor(tmp_path, limits="ulimit -n 100")
    assert code == 0
    assert found["open files"]["found"] == "100"
    assert found["open files"]["status"] == "note"
    assert "ulimit -n" in found["open files"]["advice"]
    assert found["environments whose steps wait"]["n_workers"] == 12


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libtorch is not where it was')")
    distribution = tmp_path / "workflow_rl-9.dist-info"
    distribution.mkdir()
    (distribution / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: workflow-rl\nVersion: 9\nRequires-Python: >=3.99\n"
        "Provides-Extra: moon\nRequires-Dist: no-such-package>=2\nRequires-Dist: numpy<0.1\n"
        "Requires-Dist: no-such-part; extra == 'moon'\n"
    )
    code, found = doctor(tmp_path)
    assert code == 1
    assert found["torch"]["status"] == "missing"
    assert found["torch"]["advice"] == "libtorch is not where it was"
    assert found["Python"]["advice"] == ">=3.99 is needed"
    assert found["requirements"]["found"] == "not met: no-such-package>=2, numpy<0.1"
    assert found["extra moon"]["status"] == "note"
    assert found["extra moon"]["advice"] == "pip install 'workflow-rl[moon]'"


@pytest.mark.parametrize(
    ("memory", "open_files", "expected"),
    [(None, None, 100), (1.1e9, None, 20), (64e9, 100_000, 100), (64e9, 214, 50), (1e6, None, 1)],
)
def test_waiting_environments_are_bound_by_what_is_scarce(
    memory: float | None, open_files: int | None, expected: int
) -> None:
    native, reference, waiting = worker_advice(7, memory, open_files)
    assert (native.n_workers, reference.n_workers, waiting.n_workers) == (7, 7, expected)
