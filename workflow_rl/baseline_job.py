"""Scores the baselines as a command: each with each hand-made order, against every attacker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from workflow_rl.baselines import BASELINES, HAND_MADE_ORDERS, WITHOUT_ORDER, play_baseline
from workflow_rl.bench.report import check_writable, write
from workflow_rl.cage2.scenario import OPPONENTS
from workflow_rl.environments import cage2_environment, describe, with_attacker
from workflow_rl.episode import EnvironmentSpec, Episodes
from workflow_rl.evaluation import HORIZONS, Score, check_sample, score
from workflow_rl.rollout import check_environment
from workflow_rl.settings import AlignmentSettings, SimulatorSettings


@dataclass(frozen=True)
class BaselinePlan:
    """What is played.

    Attributes:
        episodes: of each baseline, order and attacker; the first steps count for shorter horizons.
        seed: of the evaluation episodes.
        simulator: "native" or "cyborg".
        json_file: where the scores go too.

    Raises:
        SettingError: a value is not allowed.
    """

    episodes: int = 100
    seed: int = 0
    simulator: str = "native"
    json_file: Path | None = None

    def __post_init__(self) -> None:
        check_sample(self.episodes, self.seed)
        SimulatorSettings(simulator=self.simulator)
        if self.json_file is not None:
            check_writable(self.json_file)


@dataclass(frozen=True)
class BaselineScore:
    """What a baseline earned.

    Attributes:
        baseline: one of `baselines.BASELINES`.
        order: name of the hand-made order that it is judged by; only greedy baselines know it.
        workflow: that order.
        red_agent: the attacker, or the mixture of them.
        horizon: steps of an episode.
        score: reward and compliance.
    """

    baseline: str
    order: str
    workflow: str
    red_agent: str
    horizon: int
    score: Score


def score_baselines(plan: BaselinePlan) -> int:
    """Play all baselines and print their scores.

    Returns:
        The exit code, 0.

    Raises:
        MissingExtraError: the reference simulator is not installed.
    """
    environment = cage2_environment(SimulatorSettings(simulator=plan.simulator))
    check_environment(environment)
    scores = list(_scores(environment, plan))
    _print(Console(), environment, plan, scores)
    if plan.json_file is not None:
        write(
            plan.json_file,
            {
                "environment": {"id": environment.id, "kwargs": dict(environment.kwargs)},
                "episodes": plan.episodes,
                "seed": plan.seed,
                "scores": [asdict(cell) for cell in scores],
            },
        )
    return 0


def _scores(environment: EnvironmentSpec, plan: BaselinePlan) -> Iterator[BaselineScore]:
    definition = AlignmentSettings().compliance
    for red_agent in OPPONENTS:
        attacked = with_attacker(environment, red_agent, max(HORIZONS))
        for baseline in BASELINES:
            episodes: Episodes | None = None
            for order, workflow in HAND_MADE_ORDERS.items():
                if episodes is None or baseline not in WITHOUT_ORDER:
                    episodes = play_baseline(
                        baseline, workflow, attacked, run_seed=plan.seed, num_episodes=plan.episodes
                    )
                for horizon in HORIZONS:
                    result = score(episodes, workflow, definition, horizon=horizon)
                    yield BaselineScore(baseline, order, str(workflow), red_agent, horizon, result)


def _print(
    console: Console, environment: EnvironmentSpec, plan: BaselinePlan, scores: Sequence[BaselineScore]
) -> None:
    longest = max(HORIZONS)
    console.print(
        f"{describe(environment)}, {plan.episodes} episodes of {longest} steps each, seed {plan.seed}",
        highlight=False,
        soft_wrap=True,
    )
    table = Table()
    for heading in ("red agent", "baseline", "order", "reward", "compliance", "as blue sees it"):
        table.add_column(
            heading, justify="left" if heading in ("red agent", "baseline", "order") else "right"
        )
    for cell in scores:
        if cell.horizon == longest:
            result = cell.score
            table.add_row(
                cell.red_agent,
                cell.baseline,
                cell.order,
                f"{result.reward:.1f} ± {result.reward_standard_error:.1f}",
                _rate(result.compliance),
                _rate(result.observed_compliance),
            )
    console.print(table)


def _rate(rate: float | None) -> str:
    return "no fixes" if rate is None else f"{rate:.3f}"
