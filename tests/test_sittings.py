"""Every sitting of a run is on record with its machine and versions, and reports show them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import gymnasium
import pytest

import workflow_rl
from workflow_rl.errors import RunDirectoryError
from workflow_rl.machine import Commit, describe_machine
from workflow_rl.report.runs import Run, read_runs
from workflow_rl.report.versions import versions_table
from workflow_rl.run_directory import RunDirectory
from workflow_rl.run_opening import new_run, resumed_run
from workflow_rl.settings import RunSettings, TrainSettings
from workflow_rl.sittings import SITTINGS, Sitting, read_sittings, record_sitting

STARTED = datetime.fromisoformat("2026-11-23T10:15:00+00:00")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that has been opened once, by this process."""
    path = tmp_path / "run"
    with new_run(TrainSettings(run=RunSettings(run_dir=path))):
        pass
    return path


def resume(path: Path, **changes: Any) -> None:
    with resumed_run(TrainSettings, path, changes, ()):
        pass


def sittings(path: Path) -> tuple[Sitting, ...]:
    return read_sittings(RunDirectory(path))


def shown(*runs: Run) -> list[dict[str, str]]:
    """The table of versions, a column each."""
    table = versions_table(runs)
    return [
        {"run": heading, **{row[0]: row[number] for row in table.rows}}
        for number, heading in enumerate(table.heading[1:], 1)
    ]


def test_a_new_run_and_each_resumption_are_on_record(run: Path) -> None:
    before = datetime.now().astimezone().replace(microsecond=0)
    resume(run)
    resume(run)
    first, second, third = sittings(run)
    assert [each.has_resumed for each in (first, second, third)] == [False, True, True]
    assert before <= second.started <= third.started <= datetime.now().astimezone()
    assert first.machine.python == ".".join(map(str, sys.version_info[:3]))
    assert first.machine.packages["gymnasium"] == gymnasium.__version__
    assert first.machine.packages["workflow-rl"] == workflow_rl.__version__


@pytest.mark.parametrize("commit", [None, Commit("a" * 40, is_dirty=True)])
def test_a_sitting_reads_back_as_it_was(commit: Commit | None) -> None:
    machine = replace(describe_machine(), commit=commit)
    sitting = Sitting(STARTED, has_resumed=True, machine=machine, trace=Path("/somewhere/trace.json"))
    assert Sitting.from_json(json.loads(json.dumps(sitting.to_json()))) == sitting


def test_a_report_finds_the_last_trace_from_anywhere(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "other"):
        (run.parent / name).mkdir()
        monkeypatch.chdir(run.parent / name)
        resume(run, trace=Path("trace.json"))
    resume(run)
    (opened,) = read_runs([run])
    assert opened.trace == run.parent / "other" / "trace.json"
    opened.trace.rename(run / "trace.json")
    assert opened.trace == run / "trace.json"
    (run / "trace.json").unlink()
    assert opened.trace == run.parent / "one" / "trace.json"


def test_what_a_killed_beginning_left_is_no_sitting_of_the_run(tmp_path: Path) -> None:
    """Killed before its settings were written, the directory holds no run and may be used."""
    record_sitting(RunDirectory(tmp_path), has_resumed=False)
    with new_run(TrainSettings(run=RunSettings(run_dir=tmp_path))):
        pass
    assert [sitting.has_resumed for sitting in sittings(tmp_path)] == [False]


KILLED = """
import os, signal, sys
from pathlib import Path
from workflow_rl.run_directory import RunDirectory
from workflow_rl.sittings import record_sitting

os.replace = Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
record_sitting(RunDirectory(Path(sys.argv[1])), has_resumed=True)
"""


def test_a_kill_while_it_is_written_leaves_the_record_as_it_was(run: Path) -> None:
    before = (run / SITTINGS).read_bytes()
    killed = subprocess.run([sys.executable, "-c", KILLED, run], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (run / SITTINGS).read_bytes() == before
    resume(run)
    assert len(sittings(run)) == 2


def test_a_report_shows_what_the_run_was_trained_with(run: Path) -> None:
    (column,) = shown(*read_runs([run]))
    machine = describe_machine()
    assert column["run"] == "run"
    assert column["Python"] == machine.python
    assert column["torch"] == machine.packages["torch"]
    assert column["processor"] == machine.processor


def test_another_version_has_a_column_of_its_own(run: Path) -> None:
    resume(run)
    entries: list[dict[str, Any]] = json.loads((run / SITTINGS).read_text())
    entries[0]["machine"]["packages"]["torch"] = "1.0"
    entries[1]["started"] = "2026-11-23T10:15:00+00:00"
    (run / SITTINGS).write_text(json.dumps([*entries, entries[1]]))  # the third is as the second
    (opened,) = read_runs([run])
    first, second = shown(opened)
    assert (first["run"], second["run"]) == ("run", "run, from 2026-11-23 10:15")
    assert first["torch"] == "1.0"
    table = versions_table([opened])
    assert [table.rows[number][0] for number in table.marked] == ["torch"]


def test_a_run_of_older_versions_is_reported_without(run: Path) -> None:
    (run / SITTINGS).unlink()
    (column,) = shown(*read_runs([run]))
    assert column == {"run": "run", "versions": "not recorded"}
    resume(run)
    first, second = shown(*read_runs([run]))
    assert first["torch"] == "not recorded"
    assert second["torch"] == describe_machine().packages["torch"]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [("{}x", "cannot be read"), ('{"no": "list"}', "is damaged"), ('[{"started": 1}]', "of another version")],
)
def test_damage_is_one_line(run: Path, content: str, complaint: str) -> None:
    (run / SITTINGS).write_text(content)
    with pytest.raises(RunDirectoryError, match=complaint):
        sittings(run)
