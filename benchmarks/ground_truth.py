"""What every order is worth: trains each of the 120 for the same number of episodes and scores it on the way.

    python benchmarks/ground_truth.py --red-agent B_lineAgent --processes 2
    python benchmarks/ground_truth.py --universal --milestone 10000 --milestone 100000
    python benchmarks/ground_truth.py --alignment none --order user,op_host,op_server,enterprise,defender

Each training begins with fresh weights and is scored at every milestone, on the same fresh episodes for every
order. The scores go to a table (`--table`, CSV) as soon as a training has ended; what the table holds is not
trained again, so a command that was stopped goes on where it was. `--universal` trains one policy on all
orders instead and scores it on each; `--alignment none` shows what an order costs, since none binds its
policy. What else the machine does has no influence on what is learnt.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from workflow_rl.alignment_schemes import SCHEMES
from workflow_rl.bench import report
from workflow_rl.bench.milestones import score_on_the_way
from workflow_rl.bench.score_table import ScoreTable, Trained, Worth
from workflow_rl.bench.side_by_side import side_by_side
from workflow_rl.cage2.scenario import MIXED_RED_AGENTS, RED_AGENT_CHOICES
from workflow_rl.settings import AlignmentSettings, TrainSettings
from workflow_rl.workflow import all_workflows

TABLE = Path(__file__).parent / "results" / "ground_truth.csv"
MILESTONES = (2_500, 5_000, 10_000)
ORDERS = [str(workflow) for workflow in all_workflows()]
QUICK_MILESTONES = (2, 6)
QUICK_SIZE = {"episodes_per_update": 2, "max_steps": 5, "evaluation_episodes": 2}


@dataclass(frozen=True)
class Training:
    """One training.

    Attributes:
        last: a row that it ends with; of a universal training that of any order.
        milestones: training episodes after which the policy is scored.
        size: further settings, by name.
    """

    last: Trained
    milestones: tuple[int, ...]
    size: Mapping[str, int]

    def settings(self) -> TrainSettings:
        """The settings of a training that spends all its episodes."""
        last = self.last
        return TrainSettings.from_flat(
            {
                **self.size,
                "red_agent": last.red_agent,
                "alignment": last.alignment,
                "seed": last.seed,
                "total_episodes": last.episodes,
                "stop_rule": "budget",
                **({"universal": True} if last.training == "universal" else {"workflow": last.order}),
            }
        )


def train(training: Training) -> dict[Trained, Worth]:
    """Train, and return a row for each order of the training at each milestone."""
    return {
        replace(training.last, order=str(milestone.workflow), episodes=milestone.episodes): Worth.of(
            milestone.score
        )
        for milestone in score_on_the_way(training.settings(), training.milestones)
    }


def planned(
    red_agents: Sequence[str], orders: Sequence[str], milestones: Sequence[int], **of_all: Any
) -> list[Training]:
    """The trainings of some orders, or the universal ones, against each attacker."""
    is_universal, size = of_all.pop("universal"), of_all.pop("size")
    training = "universal" if is_universal else "order"
    return [
        Training(
            Trained(red_agent, training, order=order, episodes=max(milestones), **of_all),
            tuple(milestones),
            size,
        )
        for red_agent, order in itertools.product(red_agents, orders[:1] if is_universal else orders)
    ]


def fill(table: ScoreTable, trainings: Sequence[Training], processes: int, seconds: float | None) -> int:
    """Train what the table lacks.

    Returns:
        How many trainings it still lacks.
    """
    missing = [training for training in trainings if training.last not in table.rows]
    left = len(missing)
    for training, rows in side_by_side(train, missing, processes=processes, seconds=seconds):
        table.add(rows)
        left -= 1
        click.echo(f"{training.last}: {rows[training.last]}, {left} left", err=True)
    return left


@click.command(help=__doc__)
@click.option("--red-agent", multiple=True, type=click.Choice(RED_AGENT_CHOICES), default=MIXED_RED_AGENTS)
@click.option(
    "--order",
    multiple=True,
    type=click.Choice(ORDERS),
    default=ORDERS,
    metavar="TYPE,TYPE,TYPE,TYPE,TYPE",
    help="[default: all]",
)
@click.option("--universal", is_flag=True, help="One policy for all orders.")
@click.option("--milestone", multiple=True, type=click.IntRange(1), default=MILESTONES, show_default=True)
@click.option("--alignment", type=click.Choice(list(SCHEMES)), default=AlignmentSettings().alignment)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--evaluation-episodes", type=click.IntRange(2), default=1000, show_default=True)
@click.option(
    "--processes", type=click.IntRange(1), default=1, show_default=True, help="Trainings at a time."
)
@click.option("--seconds", type=float, help="Begin no training that would end later than this.")
@click.option("--table", type=click.Path(path_type=Path), default=TABLE, help="[default: the one kept here]")
@click.option("--quick", is_flag=True, help="A few short episodes, to see that it runs.")
def main(table: Path, processes: int, seconds: float | None, quick: bool, **chosen: Any) -> None:
    report.check_writable(table, "--table")
    size = {"evaluation_episodes": chosen["evaluation_episodes"]}
    trainings = planned(
        chosen["red_agent"],
        chosen["order"],
        QUICK_MILESTONES if quick else chosen["milestone"],
        alignment=chosen["alignment"],
        seed=chosen["seed"],
        universal=chosen["universal"],
        size=QUICK_SIZE if quick else size,
    )
    left = fill(ScoreTable(table), trainings, processes, seconds)
    click.echo(f"{table} holds {len(trainings) - left} of {len(trainings)} trainings")


if __name__ == "__main__":
    report.run_program(main)
