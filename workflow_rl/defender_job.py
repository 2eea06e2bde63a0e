"""Training a defender of CAGE Challenge 2 as a command: one policy for all attackers, told no workflow.

It is the training of any environment (`environment_job`) on the challenge, an attacker drawn for each
episode, with a recipe of its own (`settings.DefenderTrainSettings`) and one thing more: every so many updates
the policy plays the challenge's nine cells, and the one with the best sum of means is what the run leaves.

    validation_log.csv   one row per validation (`run_log.ValidationRow`): the learning curve against time
    policy.safetensors   the best policy so far, its actor alone, with the settings that made it

The episodes of validation are a stream of their own: those that `workflow-rl evaluate` plays have picked
nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, ClassVar

from rich.console import Console

from workflow_rl import environment_job
from workflow_rl.checkpoint import Checkpoint
from workflow_rl.environment_job import POLICY, EnvironmentJob
from workflow_rl.environment_training import EnvironmentReport
from workflow_rl.environments import cage2_environment
from workflow_rl.policy import policy_to_bytes
from workflow_rl.ppo import torch_device
from workflow_rl.protocol import Cell, play_protocol, total_of
from workflow_rl.rollout import check_environment
from workflow_rl.run_log import (
    LEARNING_LOG,
    VALIDATION_LOG,
    ValidationRow,
)
from workflow_rl.run_opening import OpenRun
from workflow_rl.seeding import Stream
from workflow_rl.settings import DefenderTrainSettings, EnvironmentSettings, EnvironmentTrainSettings


def check(settings: DefenderTrainSettings) -> None:
    """Refuse what cannot be trained, before anything is written.

    Raises:
        WorkflowRLError: one line for the user.
    """
    torch_device(settings.ppo.device)
    check_environment(cage2_environment(settings.simulator))


def carry_out(run: OpenRun[DefenderTrainSettings], launched: float, console: Console) -> Mapping[str, Any]:
    """Train a defender, or do the rest of it; all else as of `environment_job.carry_out`."""
    training = OpenRun(training_of(run.settings), run.directory, run.checkpoint)
    return environment_job.carry_out(training, launched, console, partial(DefenderJob, run.settings))


def training_of(settings: DefenderTrainSettings) -> EnvironmentTrainSettings:
    """The same training as one of an environment, whose budget is in steps.

    Raises:
        SettingError: the reference simulator does not play what is asked for.
    """
    environment = cage2_environment(settings.simulator)
    steps = settings.simulator.max_steps
    return EnvironmentTrainSettings(
        environment=EnvironmentSettings(
            env=environment.id,
            env_kwargs=json.dumps(dict(environment.kwargs)),
            total_steps=settings.defender.total_episodes * steps,
            steps_per_update=settings.defender.episodes_per_update * steps,
        ),
        ppo=settings.ppo,
        schedule=settings.schedule,
        collector=settings.collector,
        run=settings.run,
        checkpoints=settings.checkpoints,
    )


@dataclass(frozen=True)
class Validation:
    """How a policy did in the nine cells.

    Attributes:
        update: after which it was.
        episodes: learnt from by then.
        total: sum of the nine means.
        total_half_width: half of its 95 % interval.
    """

    update: int
    episodes: int
    total: float
    total_half_width: float


class DefenderJob(EnvironmentJob):
    """One run.

    Args:
        settings: of the run.
        *rest: as for `EnvironmentJob`, the first of them `training_of(settings)`.

    Raises:
        RunDirectoryError, SettingError: as by `EnvironmentJob`.
    """

    _logs: ClassVar[tuple[str, ...]] = (LEARNING_LOG, VALIDATION_LOG)

    def __init__(self, settings: DefenderTrainSettings, *rest: Any) -> None:
        self._defender = settings.defender
        self._recipe = _recipe(settings)
        self._best: Validation | None = None
        super().__init__(*rest)

    def _state(self) -> dict[str, Any]:
        return {**super()._state(), "best": None if self._best is None else asdict(self._best)}

    def _restore(self, checkpoint: Checkpoint) -> None:
        super()._restore(checkpoint)
        best = checkpoint.state["best"]
        self._best = None if best is None else Validation(**best)

    def _finish_update(self, report: EnvironmentReport) -> None:
        super()._finish_update(report)
        if report.update % self._defender.validation_updates == 0:
            self._validate()

    def _conclude(self, *, is_complete: bool) -> dict[str, Any]:
        """Validate the last policy too if training is complete; what summary.json says of the best one."""
        if is_complete and self._training.learner.num_updates % self._defender.validation_updates:
            self._validate()
        best = self._best
        ending = "done" if is_complete else "interrupted"
        self._print(f"{ending} after {self._training.progress.episodes} episodes")
        return {
            "best_update": None if best is None else best.update,
            "best_episodes": None if best is None else best.episodes,
            "validation_total": None if best is None else best.total,
            "validation_total_half_width": None if best is None else best.total_half_width,
            "policy": None if best is None else POLICY,
        }

    def _validate(self) -> None:
        """Score the policy as it is now, log it, and keep it if it is the best so far."""
        with self._record.evaluating():
            validation, cells = self._play_cells()
        is_best = self._best is None or validation.total > self._best.total
        if is_best:
            self._best = validation
            self._store(validation)
        seconds = self._record.wall_seconds()
        row = ValidationRow(**asdict(validation), seconds=seconds, is_best=is_best)
        self._record.append_row(VALIDATION_LOG, asdict(row))
        means = {f"validation/{cell.red_agent}_{cell.horizon}": cell.mean for cell in cells}
        self._directory.write_scalars(
            {"validation/total": validation.total, **means}, step=self._training.progress.steps
        )
        self._print(
            f"{validation.episodes} episodes in {seconds:.0f} s: total {validation.total:.2f} "
            f"± {validation.total_half_width:.2f}{', the best so far' if is_best else ''}"
        )

    def _play_cells(self) -> tuple[Validation, list[Cell]]:
        play = partial(self._training.play, stream=Stream.VALIDATION_EPISODE)
        cells = list(play_protocol(play, self._training.environment, self._defender.validation_episodes))
        total, half_width = total_of(cells)
        progress, updates = self._training.progress, self._training.learner.num_updates
        return Validation(updates, progress.episodes, total, half_width), cells

    def _store(self, validation: Validation) -> None:
        metadata = {**self._origin(), "recipe": self._recipe, "validation": asdict(validation)}
        content = policy_to_bytes(self._training.learner.policy, metadata, has_critic=False)
        self._directory.write_bytes(POLICY, content)


def _recipe(settings: DefenderTrainSettings) -> dict[str, Any]:
    """The settings that decide which policy comes out, JSON values."""
    neutral = {*settings.neutral_names(), "run_dir"}
    return {name: value for name, value in settings.to_flat().items() if name not in neutral}
