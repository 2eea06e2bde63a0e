"""What a run leaves on disk: whole files, whatever kills it and whenever."""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import signal
import subprocess
import sys
import threading
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from workflow_rl.errors import RunDirectoryError
from workflow_rl.run_directory import CONFIG, TENSORBOARD, RunDirectory, is_going_on
from workflow_rl.run_log import (
    SEARCH_COLUMNS,
    SEARCH_LOG,
    TRAINING_COLUMNS,
    TRAINING_LOG,
    SearchRow,
    TrainingRow,
    read_search_log,
    read_training_log,
)

ORDER = "defender,enterprise,op_server,op_host,user"
TRAINING_ROW = TrainingRow(
    0, ORDER, 1, 50, 50, -0.1 - 0.2, -1 / 3, -1e-300, None, 2.5, 0.25, 1e22, 199.5, 1, 0.5, 10.0
)
SEARCH_ROW = SearchRow(
    0, ORDER, None, None, None, -53.2, 2 / 3, 0.975, 400, True, None, None, None, "policies/000.safetensors"
)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    directory = RunDirectory.create(tmp_path / "run")
    directory.write_json(CONFIG, {"seed": 0})
    return directory


def training_rows(count: int) -> tuple[TrainingRow, ...]:
    return tuple(replace(TRAINING_ROW, update=update) for update in range(1, count + 1))


def append_training_rows(directory: RunDirectory, count: int) -> None:
    for row in training_rows(count):
        directory.append_row(TRAINING_LOG, asdict(row))


def run_until_killed(code: str, path: Path, num_lines: int) -> list[str]:
    """Run a program that prints lines for ever; SIGKILL it after some; return what it printed before."""
    program = f"import sys; from pathlib import Path; path = Path(sys.argv[1])\n{code}"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(num_lines)]
        child.send_signal(signal.SIGKILL)
        lines += child.stdout.readlines()
    assert child.returncode == -signal.SIGKILL
    return lines


def test_columns_are_fixed() -> None:
    assert ",".join(TRAINING_COLUMNS) == (
        "workflow_id,workflow_order,update,episodes,total_episodes,env_reward,alignment_reward,total_reward,"
        "compliance,fixes_per_episode,collection_seconds,update_seconds,episodes_per_second,policy_lag,"
        "observed_compliance,alignment_weight"
    )
    assert ",".join(SEARCH_COLUMNS) == (
        "iteration,workflow,ucb,mean,std,evaluated_reward,evaluated_reward_standard_error,compliance,episodes,"
        "met_threshold,observed_compliance,continues,begins_with,policy"
    )


def test_create_makes_parents_and_leaves_foreign_files_alone(tmp_path: Path) -> None:
    assert RunDirectory.create(tmp_path / "a" / "b").path.is_dir()
    (tmp_path / "notes.txt").write_text("mine")
    RunDirectory.create(tmp_path)
    assert sorted(place.name for place in tmp_path.iterdir()) == ["a", "notes.txt"]


@pytest.mark.parametrize("name", [CONFIG, TRAINING_LOG, SEARCH_LOG])
def test_create_refuses_a_directory_with_a_run(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{}")
    with pytest.raises(RunDirectoryError, match=r"already holds a run; use --resume .* or another --run-dir"):
        RunDirectory.create(tmp_path)


def test_create_that_fails_makes_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "run", tmp_path / "new" / "deep" / ("x" * 300)):
        with pytest.raises(RunDirectoryError, match=r"cannot write .*: [A-Z]") as caught:
            RunDirectory.create(path)
        assert "\n" not in str(caught.value)
    assert [place.name for place in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(
    not Path("/proc/self").exists(), reason="needs a directory that even root cannot write to"
)
def test_create_sees_that_an_existing_directory_is_not_writable() -> None:
    with pytest.raises(RunDirectoryError, match="cannot write /proc/self"):
        RunDirectory.create(Path("/proc/self"))


def test_resume_needs_a_run(run: RunDirectory, tmp_path: Path) -> None:
    assert RunDirectory.resume(run.path).read_json(CONFIG) == {"seed": 0}
    with pytest.raises(RunDirectoryError, match="holds no run"):
        RunDirectory.resume(tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere").exists()


def test_json_survives_exactly(run: RunDirectory) -> None:
    content = {"floats": [0.1 + 0.2, 5e-324, 1e22], "none": None, "nested": {"text": "größer"}}
    run.write_json("state.json", content)
    assert run.read_json("state.json") == content
    assert run.read_json("missing.json") is None


@pytest.mark.parametrize("content", [{"rate": math.nan}, {"path": Path()}])
def test_json_that_is_none_leaves_the_old_file(run: RunDirectory, content: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        run.write_json(CONFIG, content)
    assert run.read_json(CONFIG) == {"seed": 0}


def test_damaged_json_is_reported(run: RunDirectory) -> None:
    (run.path / CONFIG).write_text('{"seed": ')
    with pytest.raises(RunDirectoryError, match=r"config\.json cannot be read"):
        run.read_json(CONFIG)


def test_write_bytes_makes_folders_and_leaves_no_partial_file(run: RunDirectory) -> None:
    run.write_bytes("policies/000.safetensors", b"old")
    run.write_bytes("policies/000.safetensors", b"new")
    assert [(p.name, p.read_bytes()) for p in (run.path / "policies").iterdir()] == [
        ("000.safetensors", b"new")
    ]
    with pytest.raises(RunDirectoryError, match="cannot write"):
        run.write_bytes("policies", b"a folder is in the way")
    assert sorted(place.name for place in run.path.iterdir()) == [CONFIG, "policies"]


def test_readers_never_see_a_part(run: RunDirectory) -> None:
    contents = {bytes([letter]) * 300_000 for letter in b"abc"}
    run.write_bytes("policy", min(contents))
    stop = threading.Event()

    def write_for_ever() -> None:
        while not stop.is_set():
            for content in contents:
                run.write_bytes("policy", content)

    writer = threading.Thread(target=write_for_ever)
    writer.start()
    try:
        seen = [(run.path / "policy").read_bytes() for _ in range(300)]
    finally:
        stop.set()
        writer.join()
    assert set(seen) <= contents
    assert len(set(seen)) > 1


def test_a_kill_leaves_the_old_file_or_the_new(tmp_path: Path) -> None:
    code = """
from workflow_rl.run_directory import RunDirectory
run = RunDirectory.create(path)
while True:
    for letter in (b"a", b"b"):
        run.write_bytes("policy", letter * 3_000_000)
        print(flush=True)
"""
    for attempt, num_lines in enumerate((1, 2, 5)):
        run_until_killed(code, tmp_path / str(attempt), num_lines)
        content = (tmp_path / str(attempt) / "policy").read_bytes()
        assert content in (b"a" * 3_000_000, b"b" * 3_000_000)


def test_rows_survive_a_kill(tmp_path: Path) -> None:
    code = f"""
from workflow_rl.run_directory import RunDirectory
from workflow_rl.run_log import TRAINING_LOG
run = RunDirectory.create(path)
row = {asdict(TRAINING_ROW)}
while True:
    run.append_row(TRAINING_LOG, row)
    row["update"] += 1
    print(flush=True)
"""
    printed = run_until_killed(code, tmp_path, 40)
    rows = read_training_log(tmp_path)
    assert len(printed) <= len(rows) <= len(printed) + 1
    assert rows == training_rows(len(rows))


def test_rows_read_back_exactly(run: RunDirectory) -> None:
    with run:
        run.append_row(TRAINING_LOG, asdict(TRAINING_ROW))
        run.append_row(SEARCH_LOG, asdict(SEARCH_ROW))
        run.append_row(SEARCH_LOG, asdict(replace(SEARCH_ROW, ucb=-50.1, mean=-55.0, met_threshold=False)))
    assert read_training_log(run.path) == (TRAINING_ROW,)
    assert read_search_log(run.path) == (
        SEARCH_ROW,
        replace(SEARCH_ROW, ucb=-50.1, mean=-55.0, met_threshold=False),
    )


def test_logs_are_plain_csv(run: RunDirectory) -> None:
    run.append_row(SEARCH_LOG, asdict(SEARCH_ROW))
    run.close()
    run.append_row(SEARCH_LOG, dict(reversed(asdict(SEARCH_ROW).items())))
    header, *rows = (run.path / SEARCH_LOG).read_bytes().decode().splitlines()
    assert header == ",".join(SEARCH_COLUMNS)
    assert rows == [f'0,"{ORDER}",,,,-53.2,0.6666666666666666,0.975,400,True,,,,policies/000.safetensors'] * 2
    run.close()


def test_a_row_has_every_column_and_no_other(run: RunDirectory) -> None:
    row = asdict(TRAINING_ROW)
    reward = row.pop("env_reward")
    for wrong in (row, row | {"env_reward": reward, "surprise": 1}):
        with pytest.raises(ValueError, match=r"env_reward|surprise"):
            run.append_row(TRAINING_LOG, wrong)
    assert not (run.path / TRAINING_LOG).exists()


def test_a_cut_log_goes_on_where_it_was_cut(run: RunDirectory) -> None:
    append_training_rows(run, 5)
    run.cut_log(TRAINING_LOG, 3)
    run.append_row(TRAINING_LOG, asdict(replace(TRAINING_ROW, update=99)))
    run.close()
    assert read_training_log(run.path) == (*training_rows(3), replace(TRAINING_ROW, update=99))


@pytest.mark.parametrize("torn_bytes", [1, 20, 80])
def test_a_torn_last_line_is_no_row(run: RunDirectory, torn_bytes: int) -> None:
    append_training_rows(run, 4)
    run.close()
    log = run.path / TRAINING_LOG
    log.write_bytes(log.read_bytes()[:-torn_bytes])
    assert read_training_log(run.path) == training_rows(3)
    with RunDirectory.resume(run.path) as resumed:
        resumed.cut_log(TRAINING_LOG, 3)
        append_training_rows(resumed, 1)
    assert read_training_log(run.path) == (*training_rows(3), TRAINING_ROW)


@pytest.mark.parametrize("before", [None, b"", b"workflow_id,workflow_or"])
def test_a_log_without_rows_is_started_by_cutting(run: RunDirectory, before: bytes | None) -> None:
    if before is not None:
        (run.path / TRAINING_LOG).write_bytes(before)
    run.cut_log(TRAINING_LOG, 0)
    assert read_training_log(run.path) == ()
    append_training_rows(run, 1)
    run.close()
    assert read_training_log(run.path) == (TRAINING_ROW,)


def test_a_log_that_lost_rows_is_reported(run: RunDirectory) -> None:
    append_training_rows(run, 2)
    before = (run.path / TRAINING_LOG).read_bytes()
    with pytest.raises(RunDirectoryError, match="holds 2 rows of 3"):
        run.cut_log(TRAINING_LOG, 3)
    assert (run.path / TRAINING_LOG).read_bytes() == before
    with pytest.raises(RunDirectoryError, match="holds 0 rows of 1"):
        run.cut_log(SEARCH_LOG, 1)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text.replace("workflow_id", "workflow_number"), "columns are not"),
        (lambda text: text.replace("199.5", "fast"), "fast"),
        (lambda text: text.replace(",199.5", ""), "is no row"),
    ],
)
def test_a_damaged_log_is_reported(run: RunDirectory, damage: Any, message: str) -> None:
    append_training_rows(run, 1)
    run.close()
    log = run.path / TRAINING_LOG
    log.write_text(damage(log.read_text()))
    with pytest.raises(RunDirectoryError, match=message):
        read_training_log(run.path)


def test_a_missing_log_is_reported(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match=r"search_log\.csv cannot be read"):
        read_search_log(tmp_path)


def test_scalars_reach_tensorboard_and_a_resumed_run_replaces_its_last_steps(run: RunDirectory) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for steps, value in (((100, 200, 300), 1.0), ((200, 300), 2.0)):
        with RunDirectory.resume(run.path) as sitting:
            for step in steps:
                sitting.write_scalars({"compliance/rate": None, "reward/environment": value}, step=step)
    events = EventAccumulator(str(run.path / TENSORBOARD)).Reload()
    assert events.Tags()["scalars"] == ["reward/environment"]
    assert [(e.step, e.value) for e in events.Scalars("reward/environment")] == [
        (100, 1.0),
        (200, 2.0),
        (300, 2.0),
    ]


def test_a_file_system_without_locks_will_do(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lustre, as many clusters mount it, answers as flock(2) does here."""

    def no_lock(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", no_lock)
    with run:
        append_training_rows(run, 1)
    assert read_training_log(run.path) == training_rows(1)
    assert is_going_on(run.path), "for all that is known"


def test_close_may_be_called_twice(run: RunDirectory) -> None:
    append_training_rows(run, 1)
    run.write_scalars({"a": 1.0}, step=1)
    run.close()
    run.close()


def test_readers_do_without_torch() -> None:
    code = "import json, sys, workflow_rl.run_log; print(json.dumps('torch' in sys.modules))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(output) is False
