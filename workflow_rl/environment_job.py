"""Training on one Gymnasium environment as a command: what it shows, and what it leaves on disk.

    config.json          the resolved settings
    learning_log.csv     one row per update (`run_log.LearningRow`)
    tensorboard/         the same figures, and more, as TensorBoard events
    checkpoints/         what a resumed run goes on from (`checkpoint`)
    policy.safetensors   the final policy, or that of the moment of an interruption
    summary.json         what came of it

A checkpoint is written after the first update in every so many seconds, at the end of training, and when a
run is interrupted or its episodes cannot be played.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any, ClassVar

from numpy.typing import NDArray
from rich.console import Console

from workflow_rl.checkpoint import Checkpoint
from workflow_rl.collectors import Collector
from workflow_rl.environment_training import EnvironmentReport, EnvironmentTraining, shape_of
from workflow_rl.environments import gymnasium_environment
from workflow_rl.errors import CollectorError, EpisodeError
from workflow_rl.evaluation import EnvironmentScore
from workflow_rl.interruption import Interruption
from workflow_rl.policy import policy_digest, policy_to_bytes
from workflow_rl.ppo import torch_device
from workflow_rl.run_directory import SUMMARY, RunDirectory
from workflow_rl.run_log import LEARNING_COLUMNS, LEARNING_LOG
from workflow_rl.run_opening import OpenRun
from workflow_rl.run_record import RunRecord
from workflow_rl.settings import EnvironmentTrainSettings
from workflow_rl.tracing import make_traced_collector

POLICY = "policy.safetensors"

_LINE_INTERVAL_SECONDS = 5.0


def check(settings: EnvironmentTrainSettings) -> None:
    """Refuse what cannot be trained, before anything is written.

    Raises:
        WorkflowRLError: one line for the user.
    """
    torch_device(settings.ppo.device)
    shape_of(settings)


def carry_out(
    run: OpenRun[EnvironmentTrainSettings],
    launched: float,
    console: Console,
    make_job: Callable[..., EnvironmentJob] | None = None,
) -> Mapping[str, Any]:
    """Train and score a policy, or do the rest of it.

    Args:
        run: opened for this process.
        launched: when the program started, seconds of the monotonic clock.
        console: shows what happens.
        make_job: takes what `EnvironmentJob` takes; `None` is that.

    Returns:
        The contents of summary.json.

    Raises:
        WorkflowRLError: one line for the user.
    """
    settings, directory = run.settings, run.directory
    environment = gymnasium_environment(settings.environment)
    with (
        Interruption() as interruption,
        make_traced_collector(settings.collector, environment, settings.run.trace) as collector,
        directory.keeping_traceback(),
    ):
        make = make_job or EnvironmentJob
        job = make(settings, directory, collector, console, interruption, launched, run.checkpoint)
        summary = job.run()
    console.print(f"results in {directory.path}", highlight=False, soft_wrap=True)
    return summary


class EnvironmentJob:
    """One run. What a job of another kind does differently is in the methods that it overrides.

    Args:
        settings: of the run.
        directory: where its results go.
        collector: plays the episodes.
        console: shows what happens.
        interruption: asked after every update whether to stop.
        launched: when the program started, seconds of the monotonic clock; start-up counts from there.
        checkpoint: to go on from; `None` starts from the beginning.

    Raises:
        RunDirectoryError: the checkpoint or the log is of another version, or the log is damaged.
        SettingError: the environment cannot be made, or a space of it is not supported.
    """

    _logs: ClassVar[tuple[str, ...]] = (LEARNING_LOG,)

    def __init__(
        self,
        settings: EnvironmentTrainSettings,
        directory: RunDirectory,
        collector: Collector,
        console: Console,
        interruption: Interruption,
        launched: float,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self._settings = settings
        self._directory = directory
        self._console = console
        self._interruption = interruption
        self._last_line = -_LINE_INTERVAL_SECONDS
        self._make_training = partial(
            EnvironmentTraining, settings, collector, lambda: interruption.is_requested
        )
        self._training = self._make_training()
        self._record = RunRecord(directory, collector, settings, launched, checkpoint)
        if checkpoint is not None:
            with self._record.version_errors():
                self._restore(checkpoint)
        self._record.cut_logs(*self._logs)

    def run(self) -> dict[str, Any]:
        """Train until the steps are spent, or stop when interrupted; score and store the policy.

        Returns:
            The contents of summary.json.

        Raises:
            EpisodeError: the environment failed.
            CollectorError: workers died more often than is tolerated.
        """
        with self._record.keeping_retries():
            self._train()
            is_complete = not self._interruption.is_requested
            outcome = self._conclude(is_complete=is_complete)
        summary = {**self._summary(is_complete=is_complete), **outcome}
        self._directory.write_json(SUMMARY, summary)
        return summary

    def _train(self) -> None:
        try:
            for report in self._reports():
                self._finish_update(report)
                if self._record.is_checkpoint_due:
                    self._save()
        except (CollectorError, EpisodeError):
            self._save()
            raise
        self._save()

    def _reports(self) -> Iterator[EnvironmentReport]:
        """Train until the steps are spent, or until interrupted."""
        return self._training.run()

    def _save(self) -> None:
        """Write a checkpoint; valid between two updates."""
        self._record.save(self._state(), self._arrays())

    def _restore(self, checkpoint: Checkpoint) -> None:
        """Take over what `_save` wrote."""
        self._training.restore(checkpoint.state["training"], checkpoint.arrays)

    def _state(self) -> dict[str, Any]:
        """What a checkpoint holds beside arrays, JSON values."""
        return {"training": self._training.to_state()}

    def _arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays of a checkpoint."""
        return self._training.to_arrays()

    def _finish_update(self, report: EnvironmentReport) -> None:
        """Log an update."""
        self._record.count_round(report)
        self._record.append_row(LEARNING_LOG, {name: getattr(report, name) for name in LEARNING_COLUMNS})
        self._directory.write_scalars(
            {
                "episode/return": report.mean_return,
                "episode/length": report.mean_length,
                **self._record.speed_scalars(report),
                **{f"ppo/{name}": value for name, value in asdict(report.statistics).items()},
            },
            step=report.steps,
        )
        if time.monotonic() - self._last_line >= _LINE_INTERVAL_SECONDS:
            self._last_line = time.monotonic()
            self._print(_line(report))

    def _conclude(self, *, is_complete: bool) -> dict[str, Any]:
        """Score the policy if training is complete, and store it; what summary.json says of it."""
        score = self._evaluate() if is_complete else None
        self._print(_verdict(self._training.progress.steps, score))
        metadata = {**self._origin(), "evaluation": None if score is None else asdict(score)}
        self._directory.write_bytes(POLICY, policy_to_bytes(self._training.learner.policy, metadata))
        return {
            "evaluation_episodes": None if score is None else score.episodes,
            "evaluation_return": None if score is None else score.mean_return,
            "evaluation_return_standard_error": None if score is None else score.standard_error,
            "evaluation_length": None if score is None else score.mean_length,
            "policy": POLICY,
        }

    def _evaluate(self) -> EnvironmentScore:
        with self._record.evaluating():
            return self._training.evaluate()

    def _origin(self) -> dict[str, Any]:
        """What a policy file says of where its policy comes from, JSON values."""
        environment = self._training.environment
        return {
            "environment": {"id": environment.id, "kwargs": dict(environment.kwargs)},
            "seed": self._settings.run.seed,
        }

    def _summary(self, *, is_complete: bool) -> dict[str, Any]:
        training = self._training
        return {
            "environment": training.environment.id,
            "updates": training.learner.num_updates,
            "episodes": training.progress.episodes,
            "steps": training.progress.steps,
            "is_complete": is_complete,
            **self._record.summary(),
            "weights_sha256": policy_digest(training.learner.policy),
        }

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, soft_wrap=True)


def _line(report: EnvironmentReport) -> str:
    return (
        f"{report.steps} steps in {report.episodes} episodes  update {report.update}  "
        f"return {report.mean_return:.1f}  length {report.mean_length:.1f}  "
        f"collection {report.collection_seconds:.2f} s  update {report.update_seconds:.2f} s"
    )


def _verdict(steps: int, score: EnvironmentScore | None) -> str:
    if score is None:
        return f"interrupted after {steps} steps"
    return (
        f"done after {steps} steps: return {score.mean_return:.1f} ± {score.standard_error:.1f} "
        f"over {score.episodes} fresh episodes"
    )
