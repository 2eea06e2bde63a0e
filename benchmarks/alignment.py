"""Compares the alignment schemes: each trains six orders against both attackers, and is scored.

    python benchmarks/alignment.py
    python benchmarks/alignment.py --episodes 15000 --seeds 2 --processes 2 --runs alignment.json
    python benchmarks/alignment.py --scheme mask --order "user first" --set entropy_coefficient=0.01

Each training spends all its episodes; the final policy is scored on 1,000 fresh ones. The report has for each
scheme and attacker the means over orders and seeds of reward and of both compliances, how many trainings
reached the compliance threshold, and the episodes needed: until the last ten batches reached it together and
earned more than `--target`. And it has every single training with its learning curve. What else the machine
does has no influence on what is learnt.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from workflow_rl.alignment_schemes import SCHEMES
from workflow_rl.baselines import HAND_MADE_ORDERS
from workflow_rl.bench import report
from workflow_rl.bench.learning import Learning, learn_order
from workflow_rl.bench.runs import Runs, parse_settings, runs_option
from workflow_rl.plateau import SPAN
from workflow_rl.settings import SearchSettings

RED_AGENTS = ("B_lineAgent", "RedMeanderAgent")
SIZE = {"evaluation_episodes": 1000}
QUICK_SIZE = {"total_episodes": 12, "episodes_per_update": 1, "max_steps": 5, "evaluation_episodes": 2}
THRESHOLD = SearchSettings().compliance_threshold


def episodes_needed(learnt: Learning, target: float) -> int | None:
    """Training episodes after which the last ten batches complied and earned more than the target."""
    for end in range(SPAN, len(learnt.amounts) + 1):
        compliances = [rate or 0.0 for rate in learnt.compliances[end - SPAN : end]]
        earned = statistics.fmean(learnt.returns[end - SPAN : end])
        if statistics.fmean(compliances) >= THRESHOLD and earned > target:
            return learnt.amounts[end - 1]
    return None


@dataclass(frozen=True)
class Cell:
    """A scheme and an attacker, whose trainings are taken together."""

    scheme: str
    red_agent: str


@dataclass(frozen=True)
class Plan:
    """What is trained.

    Attributes:
        cells: each with every order and seed.
        orders: names of hand-made orders.
        seeds: how many.
        fixed: settings of all trainings, by name.
        target: reward that counts as good.
    """

    cells: Sequence[Cell]
    orders: Sequence[str]
    seeds: int
    fixed: Mapping[str, Any]
    target: float

    def settings(self) -> dict[tuple[Cell, str, int], dict[str, Any]]:
        """The settings of each training, by cell, order and seed."""
        return {
            (cell, name, seed): {
                **self.fixed,
                "alignment": cell.scheme,
                "red_agent": cell.red_agent,
                "workflow": str(HAND_MADE_ORDERS[name]),
                "seed": seed,
            }
            for cell, name, seed in itertools.product(self.cells, self.orders, range(self.seeds))
        }


def summary(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over trainings; a policy that fixes nothing has no compliance."""
    needed = [run["needed"] for run in runs if run["needed"] is not None]
    return {
        "trainings": len(runs),
        "reward": statistics.fmean(run["score"] for run in runs),
        "compliance": _mean([run["compliance"] for run in runs]),
        "observed_compliance": _mean([run["observed_compliance"] for run in runs]),
        "reached_threshold": sum((run["compliance"] or 0.0) >= THRESHOLD for run in runs),
        "reached_target": len(needed),
        "median_episodes_needed": statistics.median(needed) if needed else None,
        "cpu_seconds": statistics.fmean(run["cpu_seconds"] for run in runs),
    }


def _mean(rates: Sequence[float | None]) -> float | None:
    known = [rate for rate in rates if rate is not None]
    return statistics.fmean(known) if known else None


def compare(plan: Plan, runs: Runs, processes: int) -> dict[str, Any]:
    """Train everything and return the figures for the report."""
    settings = plan.settings()
    learnt = runs.learn(learn_order, list(settings.values()), Learning, processes=processes)
    trainings: dict[Cell, list[dict[str, Any]]] = {cell: [] for cell in plan.cells}
    for (cell, name, seed), learning in zip(settings, learnt, strict=True):
        needed = episodes_needed(learning, plan.target)
        trainings[cell].append({"order": name, "seed": seed, "needed": needed, **asdict(learning)})
    return {
        "settings": plan.fixed,
        "target": plan.target,
        "threshold": THRESHOLD,
        "schemes": [{**asdict(cell), **summary(done), "runs": done} for cell, done in trainings.items()],
    }


def one_of(flag: str, names: Iterable[str]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """An option that takes some of these names, each given with the flag; all of them if none is."""
    chosen = list(names)
    return click.option(flag, multiple=True, type=click.Choice(chosen), default=chosen, help="[default: all]")


@click.command(help=__doc__)
@one_of("--scheme", SCHEMES)
@one_of("--order", HAND_MADE_ORDERS)
@one_of("--red-agent", RED_AGENTS)
@click.option(
    "--episodes", type=click.IntRange(1), default=10_000, show_default=True, help="Of each training."
)
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True)
@click.option("--target", type=float, default=-100.0, show_default=True, help="Reward that counts as good.")
@click.option("--set", "changes", multiple=True, metavar="NAME=VALUE", help="A setting of every training.")
@click.option(
    "--processes", type=click.IntRange(1), default=1, show_default=True, help="Trainings side by side."
)
@runs_option
@report.json_option
@click.option("--quick", is_flag=True, help="A few short episodes, to see that it runs.")
def main(processes: int, runs_file: Path | None, json_file: Path | None, quick: bool, **chosen: Any) -> None:
    fixed = QUICK_SIZE if quick else {**SIZE, "total_episodes": chosen["episodes"]}
    fixed = {**fixed, **parse_settings(chosen["changes"])}
    cells = [Cell(*pair) for pair in itertools.product(chosen["scheme"], chosen["red_agent"])]
    plan = Plan(cells, chosen["order"], chosen["seeds"], fixed, chosen["target"])
    report.run(
        "alignment",
        lambda: compare(plan, Runs(runs_file), processes),
        own_load=processes,
        json_file=json_file,
    )


if __name__ == "__main__":
    report.run_program(main)
