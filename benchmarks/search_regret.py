"""How far is the best order that a search has found from the best there is? By strategy and episodes spent.

    python benchmarks/search_regret.py
    python benchmarks/search_regret.py --strategy gp-ucb:3 --strategy random:3 --landscape curves
    python benchmarks/search_regret.py --table benchmarks/results/ground_truth.csv --red-agent RedMeanderAgent

Searches are replayed, not run: what training an order comes to is looked up, with the noise of an evaluation
(`workflow_rl.bench.search_landscapes`). A strategy may end in :h for h halvings, so random:3 is successive
halving without a model. On a measured table (`benchmarks/ground_truth.py` makes one) trials have the episodes
that they have in a run of `workflow-rl train`, the last of its rows are full trainings, and seeds differ in
the search and in the evaluations' noise.

All strategies meet the same landscapes; `better_than_random` has the mean difference of regrets to `random`,
landscape by landscape, with its 95 % interval and the p-value of Wilcoxon's signed rank test.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from scipy.stats import t, wilcoxon

from workflow_rl.bench import report
from workflow_rl.bench.score_table import ScoreTable
from workflow_rl.bench.search_landscapes import FULL, LANDSCAPES, Landscape, measured_landscape, regrets
from workflow_rl.settings import AlignmentSettings, SearchSettings

STRATEGIES = ("random", "round-robin", "gp-ucb", "expected-improvement", "thompson")
TRIALS = (2, 5, 10, 15, 20, 25)


@dataclass(frozen=True)
class Contest:
    """Landscapes of one kind that strategies meet.

    Attributes:
        landscape: of a seed.
        full_episodes: of a full training.
        trials: full trainings' worth of episodes after which regret is asked for.
    """

    landscape: Callable[[int], Landscape]
    full_episodes: int
    trials: Sequence[int]

    def regrets(self, strategy: str, seed: int) -> NDArray[np.float64]:
        """Of a strategy, `name` or `name:halvings`, after each of `trials`, (K,)."""
        name, _, halvings = strategy.partition(":")
        settings = SearchSettings(
            search_strategy=name,
            halvings=int(halvings or 0),
            max_episodes_per_workflow=self.full_episodes,
            refining_share=0.0,  # regret is asked for all along, and there is nothing to refine
        )
        return regrets(self.landscape(seed), settings, self.full_episodes * np.array(self.trials), seed)


def synthetic(name: str, seed: int) -> Landscape:
    return LANDSCAPES[name](np.random.default_rng(seed))


def measured(landscape: Landscape, _: int) -> Landscape:
    return landscape


def compare(contest: Contest, strategies: Sequence[str], num_seeds: int) -> dict[str, Any]:
    """Figures of every strategy."""
    with ProcessPoolExecutor() as pool:
        found = {
            name: np.array(list(pool.map(partial(contest.regrets, name), range(num_seeds))))
            for name in dict.fromkeys(["random", *strategies])
        }
    return {
        "full_trainings": list(contest.trials),
        "strategies": {
            name: {
                "mean_regret": values.mean(axis=0).tolist(),
                "standard_error": (values.std(axis=0, ddof=1) / np.sqrt(num_seeds)).tolist(),
                **({} if name == "random" else {"better_than_random": differences(values, found["random"])}),
            }
            for name, values in found.items()
        },
    }


def differences(values: NDArray[np.float64], by_chance: NDArray[np.float64]) -> dict[str, list[float]]:
    """By how much regrets (seeds, budgets) are smaller than others, seed by seed."""
    gains = by_chance - values
    error = gains.std(axis=0, ddof=1) / np.sqrt(len(gains)) * t.ppf(0.975, len(gains) - 1)
    p_values = [wilcoxon(gain, alternative="greater").pvalue if gain.any() else 1.0 for gain in gains.T]
    return {
        "mean": gains.mean(axis=0).tolist(),
        "interval_95": np.stack([gains.mean(axis=0) - error, gains.mean(axis=0) + error], axis=1).tolist(),
        "p_value": [float(value) for value in p_values],
    }


def contests(
    landscapes: Sequence[str], table: Path | None, red_agent: str, alignment: str, trials: Sequence[int]
) -> dict[str, Contest]:
    """By name: those on synthetic landscapes, or the one on a table."""
    if table is None:
        return {name: Contest(partial(synthetic, name), FULL, trials) for name in landscapes}
    landscape = measured_landscape(ScoreTable(table), red_agent, AlignmentSettings(alignment=alignment))
    full = int(landscape.episodes[-1])
    return {f"{red_agent}, {alignment}": Contest(partial(measured, landscape), full, trials)}


@click.command(help=__doc__)
@click.option(
    "--strategy",
    "strategies",
    multiple=True,
    default=STRATEGIES,
    show_default=True,
    metavar="name[:halvings]",
)
@click.option(
    "--landscape",
    "landscapes",
    multiple=True,
    type=click.Choice(list(LANDSCAPES)),
    default=list(LANDSCAPES),
    show_default=True,
)
@click.option("--table", type=click.Path(path_type=Path), metavar="CSV", help="Measured, instead of these.")
@click.option("--red-agent", default="B_lineAgent", show_default=True, help="Whose rows of the table.")
@click.option("--alignment", default=AlignmentSettings().alignment, show_default=True, help="Likewise.")
@click.option("--seeds", type=click.IntRange(2), default=40, show_default=True)
@report.json_option
@click.option("--quick", is_flag=True, help="Two seeds and few trials, to see that it runs.")
def main(strategies: Sequence[str], seeds: int, json_file: Path | None, quick: bool, **chosen: Any) -> None:
    found = contests(**chosen, trials=TRIALS[:1] if quick else TRIALS)
    num_seeds = 2 if quick else seeds
    report.run(
        "search_regret",
        lambda: {
            "seeds": num_seeds,
            "landscapes": {name: compare(one, strategies, num_seeds) for name, one in found.items()},
        },
        own_load=2,
        json_file=json_file,
    )


if __name__ == "__main__":
    report.run_program(main)
