"""Training on one Gymnasium environment as a command: what it shows, and what it leaves on disk.

config.json          the resolved settings
tensorboard/         figures of every update
policy.safetensors   the final policy
summary.json         what came of it
"""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from workflow_rl.collectors import Collector, make_collector
from workflow_rl.environment_training import EnvironmentReport, EnvironmentScore, EnvironmentTraining
from workflow_rl.environments import gymnasium_environment
from workflow_rl.errors import EpisodeError
from workflow_rl.interruption import Interruption
from workflow_rl.policy import policy_digest, policy_to_bytes
from workflow_rl.run_log import CONFIG, LEARNING_COLUMNS, LEARNING_LOG, RunDirectory
from workflow_rl.settings import EnvironmentTrainSettings
from workflow_rl.tracing import TracedCollector

POLICY = "policy.safetensors"
SUMMARY = "summary.json"
ERROR_LOG = "error.log"

_INTERRUPTED = 130
_LINE_INTERVAL_SECONDS = 5.0


def train_environment(settings: EnvironmentTrainSettings, *, launched: float) -> int:
    """Train and score a policy in a new run directory.

    Args:
        settings: of the run.
        launched: when the program started, seconds of the monotonic clock.

    Returns:
        The exit code: 0, or 130 if it was interrupted.

    Raises:
        WorkflowRLError: one line for the user.
    """
    console = Console()
    with Interruption() as interruption, _collector(settings) as collector:
        # Before the directory is made, since an environment that cannot be played is refused here.
        training = EnvironmentTraining(settings, collector, lambda: interruption.is_requested)
        with _new_directory(settings) as directory:
            try:
                summary = _train(training, directory, console, launched)
            except EpisodeError as error:
                directory.write_bytes(ERROR_LOG, f"{error}\n\n{error.worker_traceback}".encode())
                raise EpisodeError(
                    f"{error}; the worker's traceback is in {directory.path / ERROR_LOG}"
                ) from error
            directory.write_json(SUMMARY, {**summary, "retries": collector.retries})
    console.print(f"results in {directory.path}", highlight=False, soft_wrap=True)
    return 0 if summary["is_complete"] else _INTERRUPTED


def _collector(settings: EnvironmentTrainSettings) -> Collector:
    collector = make_collector(settings.collector, gymnasium_environment(settings.environment))
    return collector if settings.run.trace is None else TracedCollector(collector, settings.run.trace)


def _new_directory(settings: EnvironmentTrainSettings) -> RunDirectory:
    path = settings.run.run_dir
    if path is None:
        path = Path("runs") / f"{datetime.now().astimezone():%Y-%m-%d-%H%M%S}-seed{settings.run.seed}"
    directory = RunDirectory.create(path)
    directory.write_json(CONFIG, replace(settings, run=replace(settings.run, run_dir=path)).to_flat())
    return directory


def _train(
    training: EnvironmentTraining, directory: RunDirectory, console: Console, launched: float
) -> dict[str, Any]:
    """Train, score and store the policy; returns what is known for the summary."""
    last_line = -_LINE_INTERVAL_SECONDS
    for report in training.run():
        row = {name: getattr(report, name) for name in LEARNING_COLUMNS}
        directory.append_row(LEARNING_LOG, row)
        directory.write_scalars(_scalars(report), step=report.steps)
        if time.monotonic() - last_line >= _LINE_INTERVAL_SECONDS:
            last_line = time.monotonic()
            console.print(_line(report), highlight=False, soft_wrap=True)
    score = None if training.is_interrupted() else training.evaluate()
    console.print(_verdict(report, score), highlight=False, soft_wrap=True)
    metadata = {
        "environment": {"id": training.environment.id, "kwargs": dict(training.environment.kwargs)},
        "evaluation": None if score is None else asdict(score),
    }
    directory.write_bytes(POLICY, policy_to_bytes(training.learner.policy, metadata))
    return {
        "environment": training.environment.id,
        "updates": report.update,
        "episodes": report.episodes,
        "steps": report.steps,
        "wall_seconds": time.monotonic() - launched,
        "is_complete": score is not None,
        "evaluation_episodes": None if score is None else score.episodes,
        "evaluation_return": None if score is None else score.mean_return,
        "evaluation_return_standard_error": None if score is None else score.standard_error,
        "policy": POLICY,
        "weights_sha256": policy_digest(training.learner.policy),
    }


def _scalars(report: EnvironmentReport) -> dict[str, float]:
    return {
        "episode/return": report.mean_return,
        "episode/length": report.mean_length,
        "speed/collection_seconds": report.collection_seconds,
        "speed/update_seconds": report.update_seconds,
        **{f"ppo/{name}": value for name, value in asdict(report.statistics).items()},
    }


def _line(report: EnvironmentReport) -> str:
    return (
        f"{report.steps} steps in {report.episodes} episodes  update {report.update}  "
        f"return {report.mean_return:.1f}  length {report.mean_length:.1f}  "
        f"collection {report.collection_seconds:.2f} s  update {report.update_seconds:.2f} s"
    )


def _verdict(report: EnvironmentReport, score: EnvironmentScore | None) -> str:
    if score is None:
        return f"interrupted after {report.steps} steps"
    return (
        f"done after {report.steps} steps: return {score.mean_return:.1f} ± {score.standard_error:.1f} "
        f"over {score.episodes} fresh episodes"
    )
