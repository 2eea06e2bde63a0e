"""Figures that are copied to other services: by the real libraries, each on this machine alone."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

import workflow_rl as wrl
from workflow_rl.errors import MissingExtraError
from workflow_rl.run_log import read_learning_log
from workflow_rl.scalar_loggers import ScalarCopy

PROGRAM = [sys.executable, "-c", "from workflow_rl.cli import main; main()", "train-env"]
TINY = {"total_steps": 600, "steps_per_update": 300, "evaluation_episodes": 2, "collector": "sequential"}


def train(directory: Path, **environment: str) -> str:
    """A training of CartPole in `directory`/run with the logger that is asked for; returns its stderr."""
    options = [f"--{name.replace('_', '-')}={value}" for name, value in TINY.items()]
    done = subprocess.run(
        [*PROGRAM, "--run-dir=run", *options, f"--logger={environment.pop('logger')}"],
        cwd=directory,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "done after" in done.stdout
    return done.stderr


@pytest.mark.loggers
def test_weights_and_biases_has_the_figures(tmp_path: Path) -> None:
    train(tmp_path, logger="wandb", WANDB_MODE="offline")
    (record,) = (tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb")
    content = record.read_bytes()
    assert content.count(b"episode/return") >= len(read_learning_log(tmp_path / "run"))
    assert b"steps_per_update" in content, "the settings"


@pytest.mark.loggers
def test_mlflow_has_the_figures(tmp_path: Path) -> None:
    store = {"MLFLOW_TRACKING_URI": (tmp_path / "mlruns").as_uri(), "MLFLOW_ALLOW_FILE_STORE": "true"}
    assert not train(tmp_path, logger="mlflow", **store)
    program = (
        "from mlflow import MlflowClient\n"
        "client = MlflowClient()\n"
        "experiment = client.get_experiment_by_name('workflow_rl')\n"
        "(run,) = client.search_runs([experiment.experiment_id])\n"
        "assert run.info.status == 'FINISHED' and run.data.params['steps_per_update'] == '300', run\n"
        "print([(m.step, m.value) for m in client.get_metric_history(run.info.run_id, 'episode/return')])\n"
    )
    command = [sys.executable, "-c", program]
    logged = subprocess.run(
        command, env={**os.environ, **store}, capture_output=True, text=True, check=True
    ).stdout
    rows = read_learning_log(tmp_path / "run")
    assert logged.strip() == str([(row.steps, row.mean_return) for row in rows])


@pytest.mark.loggers
def test_trackio_has_the_figures(tmp_path: Path) -> None:
    train(tmp_path, logger="trackio", TRACKIO_DIR=str(tmp_path / "trackio"))
    with sqlite3.connect(tmp_path / "trackio" / "workflow_rl.db") as database:
        steps = [step for (step,) in database.execute("SELECT step FROM metrics ORDER BY step")]
    database.close()
    assert steps == [row.steps for row in read_learning_log(tmp_path / "run")]


@pytest.mark.loggers
def test_a_logger_that_fails_costs_the_run_nothing(tmp_path: Path) -> None:
    (complaint,) = train(tmp_path, logger="mlflow", MLFLOW_TRACKING_URI="nowhere://at-all").splitlines()
    assert complaint.startswith("--logger mlflow failed, and the run goes on without it: ")
    without = wrl.train_env("CartPole-v1", run_dir=tmp_path / "without", **TINY)
    assert wrl.Run(tmp_path / "run").summary["weights_sha256"] == without.summary["weights_sha256"]


def test_a_failure_is_said_once(tmp_path: Path) -> None:
    """A logger that nothing is known of stands for one whose library raises."""
    said: list[str] = []
    with ScalarCopy("carrier-pigeon", tmp_path, {}, said.append) as copy:
        copy.add_scalars({"episode/return": 1.0}, 1)
        copy.add_scalars({"episode/return": 2.0}, 2)
    assert said == [
        "--logger carrier-pigeon failed, and the run goes on without it: KeyError('carrier-pigeon')"
    ]


def test_a_missing_library_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'workflow-rl\[wandb\]'"):
        wrl.train_env("CartPole-v1", run_dir=tmp_path / "run", logger="wandb", **TINY)
    assert not list(tmp_path.iterdir())
