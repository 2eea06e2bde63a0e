"""Scores a policy file as a command: a policy of the main job, or one of `train-env`.

A policy that was told a workflow is played against every attacker and scored at every horizon of the
challenge; any other plays its environment. The file says which it is, and what it was trained on. A universal
policy can be told any workflow.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from workflow_rl.bench.report import check_writable, write
from workflow_rl.cage2.scenario import OPPONENTS
from workflow_rl.collectors import Collector, make_collector
from workflow_rl.display import print_wide
from workflow_rl.environments import describe, with_attacker
from workflow_rl.episode import EnvironmentSpec, Episodes
from workflow_rl.errors import SettingError
from workflow_rl.evaluation import (
    HORIZONS,
    NORMAL_95,
    EnvironmentScore,
    Score,
    check_sample,
    evaluate_policy,
    evaluation_tickets,
    score,
    score_environment,
)
from workflow_rl.protocol import (
    PROTOCOL_EPISODES,
    PUBLISHED,
    Cell,
    PlaysEpisodes,
    play_protocol,
    total_of,
)
from workflow_rl.robustness import play_robustness
from workflow_rl.settings import CollectorSettings
from workflow_rl.stored_policy import StoredPolicy, read_policy
from workflow_rl.workflow import Workflow

_EPISODES = 100
_HALF_INTERVAL = "± half of a 95 % interval"


@dataclass(frozen=True)
class EvaluationPlan:
    """How a policy is evaluated.

    Attributes:
        episodes: per attacker; each is played to the longest horizon, its first steps count for the others.
            By a protocol per attacker and horizon. `None` is 100, by a protocol what it says.
        seed: of the evaluation episodes.
        greedy: take the most probable action instead of sampling; `None` does as the run did that scored the
            policy: the main job samples, `train-env` does not.
        simulator: "native" or "cyborg"; `None` is the one it was trained on.
        rules: see `SimulatorSettings.rules`; `None` are those it was trained on.
        workflow: the order that a universal policy is told; `None` is the best one of its run.
        protocol: "cage2" plays by the challenge's protocol, "robustness" where the policy was not trained
            (`robustness`); `None` plays neither.
        json_file: where the scores go too.

    Raises:
        SettingError: a value is not allowed.
    """

    episodes: int | None = None
    seed: int = 0
    greedy: bool | None = None
    simulator: str | None = None
    rules: str | None = None
    workflow: str | None = None
    protocol: str | None = None
    json_file: Path | None = None

    @property
    def num_episodes(self) -> int:
        """How many are played."""
        return self.episodes or (_EPISODES if self.protocol is None else PROTOCOL_EPISODES)

    def __post_init__(self) -> None:
        if self.protocol not in (None, "cage2", "robustness"):
            raise SettingError(f"--protocol must be one of cage2, robustness, got {self.protocol}")
        check_sample(_EPISODES if self.episodes is None else self.episodes, self.seed)
        if self.json_file is not None:
            check_writable(self.json_file)


@dataclass(frozen=True)
class Evaluation:
    """One cell of the evaluation: an attacker and a horizon."""

    red_agent: str
    horizon: int
    score: Score


def evaluate(
    path: Path, plan: EvaluationPlan, collector: CollectorSettings, console: Console
) -> Mapping[str, Any]:
    """Evaluate a policy and print its scores.

    Args:
        path: a policy file, or a run directory, whose best (or only) policy is taken and told its best order.
        plan: what is played.
        collector: who plays.
        console: where to print.

    Returns:
        What was played and the scores, JSON values: the contents of `plan.json_file`.

    Raises:
        WorkflowRLError: one line for the user.
    """
    stored = read_policy(path, workflow=plan.workflow, simulator=plan.simulator, rules=plan.rules)
    if plan.protocol is not None:
        stored.require_cage2("--protocol")
    if plan.protocol == "cage2":
        scores: dict[str, Any] = _play_protocol(console, stored, plan, collector)
    elif plan.protocol == "robustness":
        scores = _play_robustness(console, stored, plan, collector)
    elif stored.workflow is None or stored.compliance is None:
        result = _play_environment(stored, plan, collector)
        _print_score(console, stored, plan, result)
        scores = asdict(result)
    else:
        cells = _play_attackers(stored, stored.workflow, stored.compliance, plan, collector)
        _print_cells(console, f"{stored.file.name}: {stored.workflow}", stored, plan, cells)
        scores = {"scores": [asdict(cell) for cell in cells]}
    report = {**_conditions(stored, plan), **scores}
    if plan.json_file is not None:
        write(plan.json_file, report)
    return report


def _is_greedy(stored: StoredPolicy, plan: EvaluationPlan) -> bool:
    return stored.is_greedy if plan.greedy is None else plan.greedy


def _play_environment(
    stored: StoredPolicy, plan: EvaluationPlan, collector: CollectorSettings
) -> EnvironmentScore:
    snapshot = stored.policy.snapshot(0)
    tickets = evaluation_tickets(
        stored.environment,
        snapshot,
        run_seed=plan.seed,
        episodes=range(plan.num_episodes),
        batch=0,
        workflow=None,
        greedy=_is_greedy(stored, plan),
    )
    with make_collector(collector, stored.environment) as players:
        return score_environment(evaluate_policy(players, snapshot, tickets))


def _play_attackers(
    stored: StoredPolicy,
    workflow: Workflow,
    compliance: str,
    plan: EvaluationPlan,
    collector: CollectorSettings,
) -> list[Evaluation]:
    cells = []
    with make_collector(collector, stored.environment) as players:
        for batch, red_agent in enumerate(OPPONENTS):
            snapshot = stored.policy.snapshot(batch)
            tickets = evaluation_tickets(
                with_attacker(stored.environment, red_agent, max(HORIZONS)),
                snapshot,
                run_seed=plan.seed,
                episodes=range(plan.num_episodes),
                batch=batch,
                workflow=workflow,
                greedy=_is_greedy(stored, plan),
                mask=stored.mask,
            )
            episodes = evaluate_policy(players, snapshot, tickets)
            cells += [
                Evaluation(red_agent, horizon, score(episodes, workflow, compliance, horizon=horizon))
                for horizon in HORIZONS
            ]
    return cells


def _player(players: Collector, stored: StoredPolicy, plan: EvaluationPlan) -> PlaysEpisodes:
    """Lets a collector that has not played before play the policy in any environment that fits it."""
    snapshot = stored.policy.snapshot(0)
    players.publish(snapshot)
    batches = itertools.count()

    def play(environment: EnvironmentSpec, episodes: range) -> Episodes:
        batch = next(batches)
        tickets = evaluation_tickets(
            environment,
            snapshot,
            run_seed=plan.seed,
            episodes=episodes,
            batch=batch,
            workflow=stored.workflow,
            greedy=_is_greedy(stored, plan),
            mask=stored.mask,
        )
        players.submit(tickets)
        return players.collect(batch)

    return play


def _play_protocol(
    console: Console, stored: StoredPolicy, plan: EvaluationPlan, collector: CollectorSettings
) -> dict[str, Any]:
    """Play by the challenge's protocol, and print it; returns JSON values."""
    with make_collector(collector, stored.environment) as players:
        play = _player(players, stored, plan)
        cells = list(play_protocol(play, stored.environment, plan.num_episodes))
    total, half_width = total_of(cells)
    _print_title(console, stored, plan)
    _print_protocol(console, cells)
    return {"cells": [asdict(cell) for cell in cells], "total": total, "total_half_width_95": half_width}


def _play_robustness(
    console: Console, stored: StoredPolicy, plan: EvaluationPlan, collector: CollectorSettings
) -> dict[str, Any]:
    """Play where the policy was not trained, and print it; returns JSON values."""
    with make_collector(collector, stored.environment) as players:
        play = _player(players, stored, plan)
        trials = list(play_robustness(play, stored.environment, plan.num_episodes))
    _print_title(console, stored, plan)
    table = Table("attack", Column("return at 100 steps", justify="right"))
    for trial in trials:
        table.add_row(str(trial.situation), f"{trial.mean:.2f} ± {NORMAL_95 * trial.standard_error:.2f}")
    print_wide(console, table)
    console.print(_HALF_INTERVAL)
    return {"trials": [asdict(trial) for trial in trials]}


def _print_title(console: Console, stored: StoredPolicy, plan: EvaluationPlan) -> None:
    title = f"{stored.file.name}\n{describe(stored.environment)}, {_how(stored, plan)}"
    console.print(title, highlight=False, soft_wrap=True)


def _conditions(stored: StoredPolicy, plan: EvaluationPlan) -> Mapping[str, Any]:
    """What the scores hold for, JSON values."""
    environment = stored.environment
    return {
        "policy": str(stored.file),
        "environment": {"id": environment.id, "kwargs": dict(environment.kwargs)},
        "workflow": None if stored.workflow is None else str(stored.workflow),
        "episodes": plan.num_episodes,
        "seed": plan.seed,
        "greedy": _is_greedy(stored, plan),
    }


def _how(stored: StoredPolicy, plan: EvaluationPlan) -> str:
    actions = "most probable actions" if _is_greedy(stored, plan) else "sampled actions"
    return f"{plan.num_episodes} episodes each, seed {plan.seed}, {actions}"


def _print_score(
    console: Console, stored: StoredPolicy, plan: EvaluationPlan, result: EnvironmentScore
) -> None:
    console.print(
        f"{stored.file.name}: {stored.environment.id}, {_how(stored, plan).replace(' each', '')}\n"
        f"return {result.mean_return:.2f} ± {result.standard_error:.2f} (one standard error), "
        f"length {result.mean_length:.1f}",
        highlight=False,
        soft_wrap=True,
    )


def _print_cells(
    console: Console, name: str, stored: StoredPolicy, plan: EvaluationPlan, cells: Sequence[Evaluation]
) -> None:
    title = f"{name}\n{describe(stored.environment)}, {_how(stored, plan)}"
    console.print(title, highlight=False, soft_wrap=True)
    table = Table()
    for heading in ("red agent", "steps", "reward", "compliance", "as blue sees it"):
        table.add_column(heading, justify="left" if heading == "red agent" else "right")
    for cell in cells:
        result = cell.score
        table.add_row(
            cell.red_agent,
            str(cell.horizon),
            f"{result.reward:.2f} ± {result.reward_standard_error:.2f}",
            _rate(result.compliance, result.compliance_standard_error),
            _rate(result.observed_compliance, result.observed_compliance_standard_error),
        )
    console.print(table)
    console.print(
        "± one standard error; shorter horizons are the first steps of the same episodes; compliance is "
        "judged by the true state, and by what blue's observation showed",
        soft_wrap=True,
    )


def _print_protocol(console: Console, cells: Sequence[Cell]) -> None:
    """The nine means and their sum, beside what was published by one set of rules or the other."""
    table = Table()
    table.add_column("red agent, steps")
    for heading in ("this policy", *(f"{known.name}, rules {known.rules}" for known in PUBLISHED)):
        table.add_column(heading, justify="right")
    for cell in cells:
        table.add_row(
            f"{cell.red_agent}, {cell.horizon}",
            f"{cell.mean:.2f} ± {NORMAL_95 * cell.standard_error:.2f}",
            *(f"{known.means[cell.red_agent][HORIZONS.index(cell.horizon)]:.2f}" for known in PUBLISHED),
        )
    total, half_width = total_of(cells)
    published = (
        f"{known.total:.2f}" + ("" if known.half_width is None else f" ± {known.half_width:.2f}")
        for known in PUBLISHED
    )
    table.add_section()
    table.add_row("total", f"{total:.2f} ± {half_width:.2f}", *published)
    print_wide(console, table)
    console.print(_HALF_INTERVAL)


def _rate(rate: float | None, standard_error: float | None) -> str:
    return "no fixes" if rate is None else f"{rate:.3f} ± {standard_error:.3f}"
