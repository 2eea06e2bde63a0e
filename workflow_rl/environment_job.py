"""Training on one Gymnasium environment as a command: what it shows, and what it leaves on disk.

config.json          the resolved settings
tensorboard/         figures of every update
policy.safetensors   the final policy
summary.json         what came of it
"""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from typing import Any

from rich.console import Console

from workflow_rl.environment_training import EnvironmentReport, EnvironmentTraining
from workflow_rl.environments import gymnasium_environment
from workflow_rl.evaluate import EnvironmentScore
from workflow_rl.interruption import EXIT_CODE, Interruption
from workflow_rl.policy import policy_digest, policy_to_bytes
from workflow_rl.run_log import (
    CONFIG,
    LEARNING_COLUMNS,
    LEARNING_LOG,
    SUMMARY,
    RunDirectory,
    default_run_directory,
)
from workflow_rl.settings import EnvironmentTrainSettings
from workflow_rl.tracing import make_traced_collector

POLICY = "policy.safetensors"

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
    environment = gymnasium_environment(settings.environment)
    with (
        Interruption() as interruption,
        make_traced_collector(settings.collector, environment, settings.run.trace) as collector,
    ):
        # Before the directory is made, since an environment that cannot be played is refused here.
        training = EnvironmentTraining(settings, collector, lambda: interruption.is_requested)
        with _new_directory(settings) as directory:
            with directory.keeping_traceback():
                summary = _train(training, directory, console, launched)
            directory.write_json(SUMMARY, {**summary, "retries": collector.retries})
    console.print(f"results in {directory.path}", highlight=False, soft_wrap=True)
    return 0 if summary["is_complete"] else EXIT_CODE


def _new_directory(settings: EnvironmentTrainSettings) -> RunDirectory:
    path = settings.run.run_dir or default_run_directory(settings.run.seed)
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
