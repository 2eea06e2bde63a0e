"""Training a defender of CAGE Challenge 2 as a command: one policy for all attackers, told no workflow.

It is the training of any environment (`environment_job`) on the challenge, an attacker drawn for each
episode, with a recipe of its own (`settings.DefenderTrainSettings`) and two things more. Every so many
updates the policy plays the challenge's nine cells, and the one with the best sum of means is what the run
leaves. And a run begins several times, with other weights each time; after a share of the episodes the
training goes on whose policy is best in validation. One that settled on a poor opening never leaves it.

    validation_log.csv   one row per validation (`run_log.ValidationRow`): the learning curve against time
    policy.safetensors   the best policy so far, its actor alone, with the settings that made it

The episodes of validation are a stream of their own: those that `workflow-rl evaluate` plays have picked
nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, ClassVar, Self

from numpy.typing import NDArray
from rich.console import Console

from workflow_rl import environment_job
from workflow_rl.checkpoint import Checkpoint
from workflow_rl.environment_job import POLICY, EnvironmentJob
from workflow_rl.environment_training import EnvironmentReport
from workflow_rl.environments import cage2_environment
from workflow_rl.pipeline import arrays_with
from workflow_rl.policy import policy_to_bytes
from workflow_rl.ppo import torch_device
from workflow_rl.protocol import Cell, play_protocol, total_of
from workflow_rl.rollout import check_environment
from workflow_rl.run_log import LEARNING_LOG, VALIDATION_LOG, ValidationRow
from workflow_rl.run_opening import OpenRun
from workflow_rl.seeding import Stream
from workflow_rl.settings import DefenderTrainSettings, EnvironmentSettings, EnvironmentTrainSettings

_LEADER = "leader."
"""What the names of the best beginning's arrays in a checkpoint begin with."""


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
        update: of its training, after which it was.
        episodes: learnt from by then, by all beginnings.
        total: sum of the nine means.
        total_half_width: half of its 95 % interval.
    """

    update: int
    episodes: int
    total: float
    total_half_width: float


@dataclass(frozen=True)
class _Amount:
    """How much was learnt from."""

    episodes: int = 0
    steps: int = 0

    def __add__(self, other: _Amount) -> _Amount:
        return _Amount(self.episodes + other.episodes, self.steps + other.steps)

    def __sub__(self, other: _Amount) -> _Amount:
        return _Amount(self.episodes - other.episodes, self.steps - other.steps)


@dataclass(frozen=True, eq=False)
class _Beginning:
    """A training that paused, to go on if none is better.

    Attributes:
        number: of the beginning, from 0.
        validation: of its policy.
        learnt: from what.
        state: of the training, see `EnvironmentTraining.to_state`.
        arrays: see `EnvironmentTraining.to_arrays`.
    """

    number: int
    validation: Validation
    learnt: _Amount
    state: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]]

    def to_state(self) -> dict[str, Any]:
        """All but the arrays, JSON values."""
        return {
            "number": self.number,
            "validation": asdict(self.validation),
            "learnt": asdict(self.learnt),
            "state": self.state,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Self:
        """The one that `to_state` described."""
        return cls(
            state["number"],
            Validation(**state["validation"]),
            _Amount(**state["learnt"]),
            state["state"],
            arrays,
        )


class DefenderJob(EnvironmentJob):
    """One run.

    Episodes and steps in logs are those of all beginnings so far, updates those of the training itself.

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
        self._latest: Validation | None = None
        self._leader: _Beginning | None = None
        self._is_picked = settings.defender.beginnings == 1
        self._others = _Amount()
        super().__init__(*rest)

    def _reports(self) -> Iterator[EnvironmentReport]:
        pause = round(self._defender.beginning_share * self._settings.environment.total_steps)
        self._validate_if_due()  # or else a run that failed in it would go on without
        while not self._is_picked:
            yield from self._training.run(pause)
            if self._interruption.is_requested:
                return
            self._turn()
        yield from super()._reports()

    def _turn(self) -> None:
        """From a beginning to the next one; after the last to the best one, the earlier of equals."""
        paused = self._pause()
        self._training.discard()
        self._leader = max(self._leader or paused, paused, key=lambda beginning: beginning.validation.total)
        self._others += paused.learnt
        self._latest = None
        self._is_picked = paused.number + 1 == self._defender.beginnings
        if self._is_picked:
            self._go_on(self._leader)
        else:
            self._training = self._make_training(beginning=paused.number + 1)

    def _pause(self) -> _Beginning:
        """The training as it is, validated."""
        training, validation = self._training, self._validation_of_now() or self._validate()
        return _Beginning(
            training.beginning, validation, self._of_training(), training.to_state(), training.to_arrays()
        )

    def _go_on(self, best: _Beginning) -> None:
        self._print(f"beginning {best.number + 1} of {self._defender.beginnings} goes on")
        self._training = self._make_training(beginning=best.number)
        self._training.restore(best.state, best.arrays)
        self._others -= best.learnt
        self._latest = best.validation
        self._leader = None

    def _of_training(self) -> _Amount:
        """Learnt from by the training that is at work."""
        progress = self._training.progress
        return _Amount(progress.episodes, progress.steps)

    def _of_all(self) -> _Amount:
        """Learnt from by all beginnings."""
        return self._others + self._of_training()

    def _state(self) -> dict[str, Any]:
        return {
            **super()._state(),
            "beginning": self._training.beginning,
            "is_picked": self._is_picked,
            "others": asdict(self._others),
            "best": None if self._best is None else asdict(self._best),
            "latest": None if self._latest is None else asdict(self._latest),
            "leader": None if self._leader is None else self._leader.to_state(),
        }

    def _arrays(self) -> dict[str, NDArray[Any]]:
        of_leader = {} if self._leader is None else self._leader.arrays
        return super()._arrays() | {f"{_LEADER}{name}": array for name, array in of_leader.items()}

    def _restore(self, checkpoint: Checkpoint) -> None:
        state = checkpoint.state
        self._training = self._make_training(beginning=state["beginning"])
        super()._restore(checkpoint)
        self._is_picked = state["is_picked"]
        self._others = _Amount(**state["others"])
        self._best = None if state["best"] is None else Validation(**state["best"])
        self._latest = None if state["latest"] is None else Validation(**state["latest"])
        if state["leader"] is not None:
            self._leader = _Beginning.from_state(state["leader"], arrays_with(_LEADER, checkpoint.arrays))

    def _finish_update(self, report: EnvironmentReport) -> None:
        super()._finish_update(replace(report, **asdict(self._of_all())))
        self._validate_if_due()

    def _conclude(self, *, is_complete: bool) -> dict[str, Any]:
        """Validate the last policy too if training is complete; what summary.json says of the best one."""
        if is_complete and self._validation_of_now() is None:
            self._validate()
        best = self._best
        ending = "done" if is_complete else "interrupted"
        self._print(f"{ending} after {self._of_all().episodes} episodes")
        return {
            "best_update": None if best is None else best.update,
            "best_episodes": None if best is None else best.episodes,
            "validation_total": None if best is None else best.total,
            "validation_total_half_width": None if best is None else best.total_half_width,
            "policy": None if best is None else POLICY,
        }

    def _summary(self, *, is_complete: bool) -> dict[str, Any]:
        return {**super()._summary(is_complete=is_complete), **asdict(self._of_all())}

    def _validate_if_due(self) -> None:
        updates = self._training.learner.num_updates
        is_due = updates > 0 and updates % self._defender.validation_updates == 0
        if is_due and self._validation_of_now() is None:
            self._validate()

    def _validation_of_now(self) -> Validation | None:
        """The latest validation if it is of the policy as it is now."""
        updates = self._training.learner.num_updates
        return self._latest if self._latest is not None and self._latest.update == updates else None

    def _validate(self) -> Validation:
        """Score the policy as it is now, log it, and keep it if it is the best so far."""
        with self._record.evaluating():
            validation, cells = self._play_cells()
        self._latest = validation
        is_best = self._best is None or validation.total > self._best.total
        if is_best:
            self._best = validation
            self._store(validation)
        seconds = self._record.wall_seconds()
        row = ValidationRow(
            **asdict(validation), beginning=self._training.beginning, seconds=seconds, is_best=is_best
        )
        self._record.append_row(VALIDATION_LOG, asdict(row))
        means = {f"validation/{cell.red_agent}_{cell.horizon}": cell.mean for cell in cells}
        self._directory.write_scalars(
            {"validation/total": validation.total, **means}, step=self._of_all().steps
        )
        self._print(
            f"{validation.episodes} episodes in {seconds:.0f} s: total {validation.total:.2f} "
            f"± {validation.total_half_width:.2f}{', the best so far' if is_best else ''}"
        )
        return validation

    def _play_cells(self) -> tuple[Validation, list[Cell]]:
        play = partial(self._training.play, stream=Stream.VALIDATION_EPISODE)
        cells = list(play_protocol(play, self._training.environment, self._defender.validation_episodes))
        total, half_width = total_of(cells)
        episodes = self._of_all().episodes
        return Validation(self._training.learner.num_updates, episodes, total, half_width), cells

    def _store(self, validation: Validation) -> None:
        metadata = {**self._origin(), "recipe": self._recipe, "validation": asdict(validation)}
        content = policy_to_bytes(self._training.learner.policy, metadata, has_critic=False)
        self._directory.write_bytes(POLICY, content)


def _recipe(settings: DefenderTrainSettings) -> dict[str, Any]:
    """The settings that decide which policy comes out, JSON values."""
    neutral = {*settings.neutral_names(), "run_dir"}
    return {name: value for name, value in settings.to_flat().items() if name not in neutral}
