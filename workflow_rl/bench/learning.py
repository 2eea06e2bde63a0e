"""Trainings and searches that are run for what they learn, not for their speed.

They are the commands `train` (on one order, or on those that a search chooses), `train-env` and
`train-defender`, in this process and in a directory that is thrown away. The sequential collector plays: it
gives the weights that any number of workers gives.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, cast

from workflow_rl import commands
from workflow_rl.episode import EnvironmentSpec, Episodes
from workflow_rl.evaluation import FIRST_FRESH_EPISODE, Score, evaluation_tickets, score
from workflow_rl.protocol import Cell, play_protocol
from workflow_rl.rollout import Player
from workflow_rl.run_directory import CONFIG, SUMMARY, RunDirectory
from workflow_rl.run_log import read_learning_log, read_search_log, read_training_log, read_validation_log
from workflow_rl.settings import (
    CommandSettings,
    DefenderTrainSettings,
    EnvironmentTrainSettings,
    TrainSettings,
)
from workflow_rl.stored_policy import StoredPolicy, read_policy
from workflow_rl.workflow import Workflow


@dataclass(frozen=True)
class Learning:
    """How a policy learnt, and what it came to.

    Attributes:
        amounts: training episodes (of `train`) or steps (of `train-env`) after each update.
        returns: mean return of each update's batch, in the environment's own reward.
        score: mean return of fresh episodes with the final policy; sampled actions of `train`, most probable
            ones of `train-env`.
        compliance: of those fresh episodes; `None` without a workflow, or without a fix to judge.
        cpu_seconds: of the whole training.
        score_standard_error: of that score; not kept for `train-env`.
        observed_compliance: as `compliance`, by what blue's observation showed.
        compliances: of each update's batch; none without a workflow.
    """

    amounts: tuple[int, ...]
    returns: tuple[float, ...]
    score: float
    compliance: float | None
    cpu_seconds: float
    score_standard_error: float | None = None
    observed_compliance: float | None = None
    compliances: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class Found:
    """What a search delivered.

    Attributes:
        order: that it calls the best.
        score: mean return of that order's policy, over fresh episodes that chose nothing.
        score_standard_error: of that mean.
        compliance: of those episodes; `None` without a fix to judge.
        promised: the reward by which the search called it the best.
        num_trials: trainings, and continued ones.
        num_orders: orders that were trained.
        cpu_seconds: of the whole search.
    """

    order: str
    score: float
    score_standard_error: float
    compliance: float | None
    promised: float
    num_trials: int
    num_orders: int
    cpu_seconds: float


@dataclass(frozen=True)
class Defence:
    """How a defender learnt, and what it came to.

    Attributes:
        episodes: training episodes at each validation.
        totals: of the protocol's nine cells at each validation.
        means: of the cells, in the protocol's order, over fresh episodes with the policy that validation
            picked.
        standard_errors: of those means.
        cpu_seconds: of the whole training.
    """

    episodes: tuple[int, ...]
    totals: tuple[float, ...]
    means: tuple[float, ...]
    standard_errors: tuple[float, ...]
    cpu_seconds: float

    @property
    def score(self) -> float:
        """The sum of the means."""
        return math.fsum(self.means)

    @property
    def compliance(self) -> None:
        """There is no workflow to keep to."""


def learn_order(values: Mapping[str, Any]) -> Learning:
    """Run `workflow-rl train` on one order until its episodes are spent.

    Args:
        values: settings by name, among them `workflow`.

    Raises:
        WorkflowRLError: what the command reports.
        KeyboardInterrupt: it was interrupted.
    """
    with _finished(TrainSettings, {**values, "stop_rule": "budget"}) as (run, cpu_seconds):
        rows = read_training_log(run)
        summary = RunDirectory(run).read_json(SUMMARY)
    return Learning(
        amounts=tuple(row.total_episodes for row in rows),
        returns=tuple(row.env_reward for row in rows),
        score=summary["best_reward"],
        compliance=summary["best_compliance"],
        cpu_seconds=cpu_seconds,
        score_standard_error=summary["best_reward_standard_error"],
        observed_compliance=summary["best_observed_compliance"],
        compliances=tuple(row.compliance for row in rows),
    )


def search_orders(values: Mapping[str, Any], *, fresh_episodes: int) -> Found:
    """Run `workflow-rl train` until its episodes are spent, and score what it delivers.

    Args:
        values: settings by name.
        fresh_episodes: that score it.

    Raises:
        WorkflowRLError: what the command reports.
        KeyboardInterrupt: it was interrupted.
    """
    with _finished(TrainSettings, values) as (run, cpu_seconds):
        trials = read_search_log(run)
        summary = RunDirectory(run).read_json(SUMMARY)
        result = _fresh_score(read_policy(run), RunDirectory(run).read_json(CONFIG)["seed"], fresh_episodes)
    return Found(
        order=summary["best_workflow"],
        score=result.reward,
        score_standard_error=result.reward_standard_error,
        compliance=result.compliance,
        promised=summary["best_reward"],
        num_trials=len(trials),
        num_orders=len({trial.workflow for trial in trials}),
        cpu_seconds=cpu_seconds,
    )


def _fresh_score(stored: StoredPolicy, seed: int, num_episodes: int) -> Score:
    workflow, snapshot = cast(Workflow, stored.workflow), stored.policy.snapshot(0)
    tickets = evaluation_tickets(
        stored.environment,
        snapshot,
        run_seed=seed,
        episodes=range(FIRST_FRESH_EPISODE, FIRST_FRESH_EPISODE + num_episodes),
        batch=0,
        workflow=workflow,
        mask=stored.mask,
    )
    with closing(Player()) as player:
        return score(player.play(tickets, snapshot), workflow, cast(str, stored.compliance))


def learn_environment(values: Mapping[str, Any]) -> Learning:
    """Run `workflow-rl train-env`.

    Args:
        values: settings by name.

    Raises:
        WorkflowRLError: what the command reports.
        KeyboardInterrupt: it was interrupted.
    """
    with _finished(EnvironmentTrainSettings, values) as (run, cpu_seconds):
        rows = read_learning_log(run)
        summary = RunDirectory(run).read_json(SUMMARY)
    return Learning(
        amounts=tuple(row.steps for row in rows),
        returns=tuple(row.mean_return for row in rows),
        score=summary["evaluation_return"],
        compliance=None,
        cpu_seconds=cpu_seconds,
    )


def learn_defender(values: Mapping[str, Any], *, cell_episodes: int) -> Defence:
    """Run `workflow-rl train-defender`, and play the protocol with what it delivers.

    Args:
        values: settings by name.
        cell_episodes: fresh ones of each cell.

    Raises:
        WorkflowRLError: what the command reports.
        KeyboardInterrupt: it was interrupted.
    """
    with _finished(DefenderTrainSettings, values) as (run, cpu_seconds):
        rows = read_validation_log(run)
        cells = _fresh_cells(read_policy(run), cell_episodes)
    return Defence(
        episodes=tuple(row.episodes for row in rows),
        totals=tuple(row.total for row in rows),
        means=tuple(cell.mean for cell in cells),
        standard_errors=tuple(cell.standard_error for cell in cells),
        cpu_seconds=cpu_seconds,
    )


def _fresh_cells(stored: StoredPolicy, num_episodes: int) -> list[Cell]:
    """The nine cells as `workflow-rl evaluate --protocol cage2` plays them."""
    snapshot = stored.policy.snapshot(0)
    with closing(Player()) as player:

        def play(environment: EnvironmentSpec, episodes: range) -> Episodes:
            tickets = evaluation_tickets(
                environment, snapshot, run_seed=0, episodes=episodes, batch=0, workflow=None, greedy=True
            )
            return player.play(tickets, snapshot)

        return list(play_protocol(play, stored.environment, num_episodes))


@contextmanager
def _finished(kind: type[CommandSettings], values: Mapping[str, Any]) -> Iterator[tuple[Path, float]]:
    """Run a command to its end, without what it shows, in a directory that is thrown away.

    Args:
        kind: of the command's settings.
        values: settings by name.

    Yields:
        The directory, and the CPU seconds that the command took.
    """
    with tempfile.TemporaryDirectory(prefix="workflow-rl-bench-") as folder:
        run = Path(folder, "run")
        settings = kind.from_flat({**values, "collector": "sequential", "run_dir": run})
        started = time.process_time()
        with redirect_stdout(StringIO()):
            exit_code = commands.start(settings, launched=time.monotonic())
        if exit_code != 0:
            raise KeyboardInterrupt
        yield run, time.process_time() - started
