"""What a score means under each stop rule: trains orders until each rule ends it, and scores the last policy.

    python benchmarks/stop_rules.py --processes 2

A training that goes on longer is the same training, so the rules differ only in where it ends. The report has
for each order, attacker and rule the episodes spent and the score of the final policy over 1,000 fresh
episodes, with the means over them. What else the machine does has no influence on what is learnt.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from workflow_rl.baselines import HAND_MADE_ORDERS
from workflow_rl.bench import report
from workflow_rl.bench.milestones import score_on_the_way
from workflow_rl.bench.side_by_side import side_by_side
from workflow_rl.cage2.scenario import MIXED_RED_AGENTS
from workflow_rl.settings import SearchSettings, TrainSettings

RULES = SearchSettings.__dataclass_fields__["stop_rule"].metadata["choices"]
THRESHOLD = SearchSettings().compliance_threshold
SIZE = {"evaluation_episodes": 1000}
QUICK_SIZE = {"total_episodes": 12, "episodes_per_update": 1, "max_steps": 5, "evaluation_episodes": 2}


@dataclass(frozen=True)
class Training:
    """One order against one attacker, ended by one rule.

    Attributes:
        order: name of a hand-made order.
        red_agent: the attacker.
        rule: that ends it.
        fixed: further settings, names and values.
    """

    order: str
    red_agent: str
    rule: str
    fixed: tuple[tuple[str, int], ...]


def train(training: Training) -> dict[str, Any]:
    """Train, and return a row of the report."""
    values = {
        **dict(training.fixed),
        "workflow": str(HAND_MADE_ORDERS[training.order]),
        "red_agent": training.red_agent,
        "stop_rule": training.rule,
    }
    (end,) = score_on_the_way(TrainSettings.from_flat(values), milestones=())
    return {
        "order": training.order,
        "red_agent": training.red_agent,
        "stop_rule": training.rule,
        "training_episodes": end.episodes,
        **asdict(end.score),
    }


def means(rule: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a rule comes to over orders and attackers."""
    own = [row for row in rows if row["stop_rule"] == rule]
    return {
        "stop_rule": rule,
        "training_episodes": statistics.fmean(row["training_episodes"] for row in own),
        "reward": statistics.fmean(row["reward"] for row in own),
        "reached_threshold": sum((row["compliance"] or 0.0) >= THRESHOLD for row in own),
        "trainings": len(own),
    }


def compare(orders: Sequence[str], fixed: Mapping[str, int], processes: int) -> dict[str, Any]:
    """Train everything and return the figures for the report."""
    trainings = [
        Training(*of_one, fixed=tuple(fixed.items()))
        for of_one in itertools.product(orders, MIXED_RED_AGENTS, RULES)
    ]
    done = dict(side_by_side(train, trainings, processes=processes))
    rows = [done[training] for training in trainings]
    return {"settings": fixed, "rules": [means(rule, rows) for rule in RULES], "trainings": rows}


@click.command(help=__doc__)
@click.option(
    "--order", multiple=True, type=click.Choice(list(HAND_MADE_ORDERS)), default=list(HAND_MADE_ORDERS)
)
@click.option("--episodes", type=click.IntRange(1), default=20_000, show_default=True, help="At most.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "--processes", type=click.IntRange(1), default=1, show_default=True, help="Trainings side by side."
)
@report.json_option
@click.option("--quick", is_flag=True, help="A few short episodes, to see that it runs.")
def main(
    order: Sequence[str], episodes: int, seed: int, processes: int, json_file: Path | None, quick: bool
) -> None:
    fixed = {**(QUICK_SIZE if quick else {**SIZE, "total_episodes": episodes}), "seed": seed}
    report.run(
        "stop_rules", lambda: compare(order, fixed, processes), own_load=processes, json_file=json_file
    )


if __name__ == "__main__":
    report.run_program(main)
