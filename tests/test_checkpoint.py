"""Checkpoints on disk, and what they promise: a run killed at any moment ends as if it had never been."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from numpy.typing import NDArray
from system_limits import small_files_only
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)

from workflow_rl import commands, environment_job, run_record, train_job
from workflow_rl.checkpoint import CHECKPOINTS, Checkpoint, load_checkpoint, save_checkpoint
from workflow_rl.collectors import SequentialCollector
from workflow_rl.episode import Episodes
from workflow_rl.errors import CollectorError, RunDirectoryError
from workflow_rl.retry_log import RETRY_LOG, RetryLog
from workflow_rl.run_directory import RunDirectory
from workflow_rl.run_log import LEARNING_LOG, TRAINING_LOG
from workflow_rl.settings import EnvironmentTrainSettings, TrainSettings

# Files


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "run")


def numbered(number: int) -> Checkpoint:
    return Checkpoint({"number": number}, {"weights": np.full(1000, number, np.float32)})


def files(directory: RunDirectory) -> list[Path]:
    """The checkpoints, oldest first."""
    return sorted((directory.path / CHECKPOINTS).iterdir())


def must_not_warn(message: str) -> None:
    pytest.fail(message)


def loaded_number(directory: RunDirectory, on_damage: Callable[[str], None] = must_not_warn) -> int:
    checkpoint = load_checkpoint(directory, on_damage)
    assert checkpoint is not None
    assert set(checkpoint.arrays["weights"]) == {checkpoint.state["number"]}
    return int(checkpoint.state["number"])


def test_a_checkpoint_survives_exactly(directory: RunDirectory) -> None:
    state = {
        "floats": [0.1 + 0.2, 5e-324, 1e22, -0.0],
        "none": None,
        "nested": {"text": "größer", "big": 2**60},
    }
    arrays: dict[str, NDArray[Any]] = {
        "decimal": np.array([np.nan, -0.0, 1e-45, np.inf], np.float32),
        "number": np.array(7, np.int64),
        "empty": np.empty((0, 3), np.float64),
        "strided": np.arange(24, dtype=np.int16).reshape(4, 6).T[::2],
    }
    save_checkpoint(directory, Checkpoint(state, arrays))
    read = load_checkpoint(directory, must_not_warn)
    assert read is not None
    assert json.dumps(read.state) == json.dumps(state)
    assert set(read.arrays) == set(arrays)
    for name, array in arrays.items():
        copy = read.arrays[name]
        assert (copy.dtype, copy.shape, copy.tobytes()) == (array.dtype, array.shape, array.tobytes())
        assert copy.flags.writeable


def test_a_run_without_a_checkpoint_starts_anew(directory: RunDirectory) -> None:
    assert load_checkpoint(directory, must_not_warn) is None


def test_the_two_newest_are_kept(directory: RunDirectory) -> None:
    for number in range(1, 13):
        save_checkpoint(directory, numbered(number))
        assert loaded_number(directory) == number
    assert [file.name.partition("-")[0] for file in files(directory)] == ["000011", "000012"]


def test_a_name_ends_with_the_digest_of_its_contents(directory: RunDirectory) -> None:
    save_checkpoint(directory, numbered(1))
    (file,) = files(directory)
    assert file.name == f"000001-{hashlib.sha256(file.read_bytes()).hexdigest()}.safetensors"
    assert safetensors.numpy.load_file(file)["weights"][0] == 1


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, empty, flip_a_bit])
def test_a_damaged_one_is_passed_over(directory: RunDirectory, damage: Callable[[Path], None]) -> None:
    for number in (1, 2):
        save_checkpoint(directory, numbered(number))
    damage(files(directory)[-1])
    warnings: list[str] = []
    assert loaded_number(directory, warnings.append) == 1
    assert warnings == [f"{files(directory)[-1]} is damaged; it is passed over"]
    save_checkpoint(directory, numbered(3))
    assert loaded_number(directory) == 3
    truncate(files(directory)[-1])
    assert loaded_number(directory, warnings.append) == 1, "the last whole one was not kept"


def test_damaged_ones_alone_are_an_error(directory: RunDirectory) -> None:
    for number in (1, 2):
        save_checkpoint(directory, numbered(number))
    for file in files(directory):
        truncate(file)
    warnings: list[str] = []
    with pytest.raises(RunDirectoryError, match=r"every checkpoint in .* is damaged") as caught:
        load_checkpoint(directory, warnings.append)
    assert "\n" not in str(caught.value)
    assert len(warnings) == 2


def test_one_of_another_version_is_an_error(directory: RunDirectory) -> None:
    content = safetensors.numpy.save({"weights": np.zeros(3)}, {"other": "{}"})
    name = f"000001-{hashlib.sha256(content).hexdigest()}.safetensors"
    directory.write_bytes(f"{CHECKPOINTS}/{name}", content)
    with pytest.raises(RunDirectoryError, match="is of another version"):
        load_checkpoint(directory, must_not_warn)


def test_what_a_kill_left_is_tidied_up(directory: RunDirectory) -> None:
    save_checkpoint(directory, numbered(1))
    (directory.path / CHECKPOINTS / ".000002-abc.safetensors.partial").write_bytes(b"half")
    assert loaded_number(directory) == 1
    save_checkpoint(directory, numbered(2))
    assert [file.name[:6] for file in files(directory)] == ["000001", "000002"]


def test_a_torn_line_of_retries_is_dropped(directory: RunDirectory) -> None:
    whole = json.dumps({"cause": "died"}) + "\n"
    (directory.path / RETRY_LOG).write_text(whole + '{"cause": "hu')
    with SequentialCollector() as collector:
        assert RetryLog(directory, collector).count_by_cause() == {"died": 1}
    assert (directory.path / RETRY_LOG).read_text() == whole


# Runs


@dataclass(frozen=True)
class Job:
    """A command that leaves a run, and a run that ends soon.

    Attributes:
        settings: the kind of its settings.
        module: the module that makes its collector.
        log: has a row for every update.
        small: settings; a checkpoint is written after every update.
    """

    settings: type[TrainSettings | EnvironmentTrainSettings]
    module: ModuleType
    log: str
    small: dict[str, Any]

    def chosen(self, path: Path, **changes: Any) -> Any:
        return self.settings.from_flat({**self.small, "run_dir": path, **changes})


SMALL: dict[str, Any] = {
    "evaluation_episodes": 20,
    "hidden_size": 16,
    "collector": "sequential",
    "checkpoint_seconds": 0.0,
}

JOBS = {
    "train": Job(
        TrainSettings,
        train_job,
        TRAINING_LOG,
        {
            **SMALL,
            "total_episodes": 600,
            "episodes_per_update": 10,
            "max_episodes_per_workflow": 150,
            "halvings": 0,
            "max_steps": 8,
            "stop_rule": "plateau",
            "alignment": "lagrangian",
        },
    ),
    "train-env": Job(
        EnvironmentTrainSettings,
        environment_job,
        LEARNING_LOG,
        {
            **SMALL,
            "env_kwargs": '{"max_episode_steps": 40}',
            "total_steps": 6000,
            "steps_per_update": 100,
            "minibatch_size": 50,
            "normalize_observations": True,
            "normalize_rewards": True,
        },
    ),
}
"""Four orders of fifteen updates each; some sixty updates on one environment."""

both_commands = pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)

TIMES = {"collection_seconds", "update_seconds", "episodes_per_second"}


def without_times(log: Path) -> list[dict[str, str]]:
    rows = csv.DictReader(io.StringIO(log.read_text()))
    return [{name: cell for name, cell in row.items() if name not in TIMES} for row in rows]


def figures(path: Path) -> dict[str, Any]:
    """All that a finished run came to, without seconds."""
    summary = json.loads((path / "summary.json").read_text())
    events = EventAccumulator(str(path / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    tags = sorted(tag for tag in events.Tags()["scalars"] if not tag.startswith("speed/"))
    return {
        "summary": {name: value for name, value in summary.items() if not _is_a_time(name)},
        "logs": {log.name: without_times(log) for log in sorted(path.glob("*.csv"))},
        "events": {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags},
    }


def _is_a_time(name: str) -> bool:
    return name == "retries" or name.endswith(("seconds", "_per_second", "_fraction"))


Uninterrupted = Callable[[Job, int], dict[str, Any]]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Uninterrupted:
    """The figures of the run at each lag that nothing happened to."""
    made: dict[tuple[str, int], dict[str, Any]] = {}

    def at_lag(job: Job, lag: int) -> dict[str, Any]:
        if (job.log, lag) not in made:
            path = tmp_path_factory.mktemp("uninterrupted") / "run"
            assert commands.start(job.chosen(path, lag=lag), launched=time.monotonic()) == 0
            made[job.log, lag] = figures(path)
        return made[job.log, lag]

    return at_lag


KILLED_OFTEN = """
import json, os, random, signal, sys, time, traceback
from pathlib import Path
import tensorboard.summary.writer.record_writer, torch._dynamo  # loaded once, here, not by every sitting
from workflow_rl import commands
from workflow_rl.compiled_rollout import compile_player
from workflow_rl.settings import EnvironmentTrainSettings, TrainSettings

flat = json.loads(sys.argv[1])
num_kills, longest, seed = int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
path = Path(flat["run_dir"])
if "env" in flat:
    settings, log = EnvironmentTrainSettings.from_flat(flat), path / "learning_log.csv"
else:
    settings, log = TrainSettings.from_flat(flat), path / "training_log.csv"
    compile_player()
moments = random.Random(seed)

def num_lines():
    return log.read_text().count("\\n") if log.exists() else 0

def sitting():
    code = 1
    try:
        if (path / "config.json").exists():
            code = commands.resume(path, {}, launched=time.monotonic())
        else:
            code = commands.start(settings, launched=time.monotonic())
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)

for _ in range(num_kills):
    child = os.fork()
    if child == 0:
        sitting()
    before, is_patient = num_lines(), moments.random() < 0.8
    while is_patient and num_lines() <= max(before, 1):
        time.sleep(0.001)
    time.sleep(moments.uniform(0, longest))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    print("ended", os.waitstatus_to_exitcode(status), "after", num_lines(), "lines", flush=True)
"""
"""Forks sittings of one run, so that starting Python is paid once, and kills each at a random moment.

Most are killed soon after their first update, however busy the machine is; a few before.
"""


def kill_often(
    chosen: TrainSettings | EnvironmentTrainSettings, *, num_kills: int, longest: float, seed: int = 0
) -> list[int]:
    """Start or resume a run so many times and kill it each time; returns the exit codes."""
    arguments = [json.dumps(chosen.to_flat()), str(num_kills), str(longest), str(seed)]
    done = subprocess.run(
        [sys.executable, "-c", KILLED_OFTEN, *arguments], capture_output=True, text=True, check=True
    )
    assert "Traceback" not in done.stderr, done.stderr
    return [int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("ended")]


def finish(job: Job, path: Path) -> dict[str, Any]:
    changes = {"collector": "sequential"}
    assert commands.resume(path, changes, launched=time.monotonic()) == 0
    return figures(path)


@both_commands
def test_a_run_killed_at_random_moments_ends_as_if_it_had_not_been(
    tmp_path: Path, uninterrupted: Uninterrupted, job: Job
) -> None:
    path = tmp_path / "run"
    codes = kill_often(job.chosen(path, lag=1), num_kills=3, longest=0.1)
    assert codes == [-signal.SIGKILL] * 3
    assert finish(job, path) == uninterrupted(job, 1)


@both_commands
def test_so_does_one_that_workers_played(tmp_path: Path, uninterrupted: Uninterrupted, job: Job) -> None:
    path = tmp_path / "run"
    chosen = job.chosen(path, lag=2, collector="executor", executor="process", n_workers=2)
    assert kill_often(chosen, num_kills=2, longest=0.1) == [-signal.SIGKILL] * 2
    assert finish(job, path) == uninterrupted(job, 2)


@pytest.mark.endurance
@both_commands
@pytest.mark.parametrize("collector", ["sequential", "executor"])
@pytest.mark.parametrize(("lag", "num_kills"), [(0, 8), (1, 8), (2, 9)])
def test_fifty_kills(
    tmp_path: Path, uninterrupted: Uninterrupted, lag: int, num_kills: int, collector: str, job: Job
) -> None:
    path = tmp_path / "run"
    chosen = job.chosen(path, lag=lag, collector=collector, executor="process", n_workers=2)
    codes = kill_often(chosen, num_kills=num_kills, longest=0.1, seed=100 + lag)
    assert codes == [-signal.SIGKILL] * num_kills
    assert finish(job, path) == uninterrupted(job, lag)


class FailingCollector(SequentialCollector):
    """Loses the third batch."""

    def collect(self, batch: int) -> Episodes:
        episodes = super().collect(batch)
        if batch == 2:
            raise CollectorError("the workers could not be kept alive")
        return episodes


def stopped(job: Job, path: Path, **changes: Any) -> Path:
    """A run that could not go on after two updates."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job.module, "make_traced_collector", lambda *given: FailingCollector())
        with pytest.raises(CollectorError):
            commands.start(job.chosen(path, **changes), launched=time.monotonic())
    assert len(without_times(path / job.log)) == 2
    return path


@both_commands
def test_a_damaged_newest_checkpoint_changes_nothing(
    tmp_path: Path, uninterrupted: Uninterrupted, capsys: pytest.CaptureFixture[str], job: Job
) -> None:
    path = stopped(job, tmp_path / "run")
    newest = sorted((path / CHECKPOINTS).iterdir())[-1]
    truncate(newest)
    assert finish(job, path) == uninterrupted(job, 1)
    assert capsys.readouterr().err == f"{newest} is damaged; it is passed over\n"


@both_commands
def test_a_run_is_not_resumed_from_damaged_checkpoints(tmp_path: Path, job: Job) -> None:
    path = stopped(job, tmp_path / "run")
    before = (path / job.log).read_bytes()
    for file in (path / CHECKPOINTS).iterdir():
        flip_a_bit(file)
    with pytest.raises(RunDirectoryError, match=r"every checkpoint in .* is damaged"):
        commands.resume(path, {}, launched=time.monotonic())
    assert (path / job.log).read_bytes() == before


@both_commands
@pytest.mark.parametrize("state", [{}, {"clock": {}, "rows": {}, "search": {}, "training": {}}], ids=str)
def test_a_run_of_another_version_is_not_resumed(tmp_path: Path, state: dict[str, Any], job: Job) -> None:
    path = stopped(job, tmp_path / "run")
    before = (path / job.log).read_bytes()
    save_checkpoint(RunDirectory(path), Checkpoint(state, {}))
    with pytest.raises(RunDirectoryError, match="is of another version"):
        commands.resume(path, {}, launched=time.monotonic())
    assert (path / job.log).read_bytes() == before


def test_a_run_is_resumed_by_the_command_that_started_it(tmp_path: Path) -> None:
    for name, job in JOBS.items():
        path = stopped(job, tmp_path / name)
        (other,) = (other for other in JOBS.values() if other is not job)
        with pytest.raises(RunDirectoryError, match=f"; use workflow-rl {name} --resume {path}$"):
            commands.resume(path, {}, kind=other.settings, launched=time.monotonic())


@both_commands
def test_a_full_disk_stops_a_run_and_leaves_its_checkpoints(
    tmp_path: Path, uninterrupted: Uninterrupted, job: Job
) -> None:
    path = stopped(job, tmp_path / "run")
    before = {file.name: file.read_bytes() for file in (path / CHECKPOINTS).iterdir()}
    message = rf"^cannot write {path}/checkpoints/000\S+: File too large$"
    with small_files_only(8_000), pytest.raises(RunDirectoryError, match=message):
        commands.resume(path, {}, launched=time.monotonic())
    assert {file.name: file.read_bytes() for file in (path / CHECKPOINTS).iterdir()} == before
    assert finish(job, path) == uninterrupted(job, 1)


def test_a_disk_that_is_full_for_tensorboard_stops_a_run_too(
    tmp_path: Path, uninterrupted: Uninterrupted
) -> None:
    job = JOBS["train-env"]
    path = stopped(job, tmp_path / "run")
    message = rf"^cannot write {path}/tensorboard: File too large$"
    with small_files_only(20_000), pytest.raises(RunDirectoryError, match=message):
        commands.resume(path, {}, launched=time.monotonic())
    assert finish(job, path) == uninterrupted(job, 1)


@both_commands
def test_nobody_else_writes_a_run_that_is_going_on(tmp_path: Path, job: Job) -> None:
    path = stopped(job, tmp_path / "run")
    with (
        RunDirectory.resume(path),
        pytest.raises(RunDirectoryError, match=rf"^the run in {path} is going on in another process$"),
    ):
        commands.resume(path, {}, launched=time.monotonic())
    assert commands.resume(path, {}, launched=time.monotonic()) == 0, "the lock outlived its holder"


@both_commands
def test_checkpoints_wait_for_their_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: Job) -> None:
    saved: list[int] = []

    def note(directory: RunDirectory, checkpoint: Checkpoint) -> None:
        saved.append(checkpoint.state["rows"][job.log])
        save_checkpoint(directory, checkpoint)

    monkeypatch.setattr(run_record, "save_checkpoint", note)
    for name, seconds in (("always", 0.0), ("seldom", 1000.0)):
        chosen = job.chosen(tmp_path / name, checkpoint_seconds=seconds)
        assert commands.start(chosen, launched=time.monotonic()) == 0
    num_updates = len(without_times(tmp_path / "always" / job.log))
    every_update = list(range(1, num_updates + 1))
    every_training = [15, 30, 45, 60] if job is JOBS["train"] else [num_updates]
    assert saved == sorted(every_update + every_training) + every_training


@both_commands
@pytest.mark.parametrize("lag", [0, 2])
def test_a_run_that_loses_its_workers_goes_on_where_it_stopped(
    tmp_path: Path, uninterrupted: Uninterrupted, lag: int, job: Job
) -> None:
    path = stopped(job, tmp_path / "run", lag=lag, checkpoint_seconds=1000.0)
    log = (path / job.log).read_text()
    assert finish(job, path) == uninterrupted(job, lag)
    assert (path / job.log).read_text().startswith(log), "an update was repeated"
