"""Which strategy delivers the best order in the same number of episodes? Whole searches, run for real.

    python benchmarks/live_search.py --processes 2 --runs live_search.json
    python benchmarks/live_search.py --strategy gp-ucb --strategy random:3 --seeds 5

Every search is a run of `workflow-rl train`. A strategy may end in :h for h halvings, so random:3 is
successive halving without a model. What a search delivers is the policy that it calls the best; that plays
1,000 fresh episodes, which no search has chosen by. The report has for each strategy and attacker the mean
over seeds with its 95 % interval (Student's t), every single search, and the difference to the default,
gp-ucb:3, seed by seed. What else the machine does has no influence on what is found.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
from scipy.stats import t

from workflow_rl.bench import report
from workflow_rl.bench.learning import Found, search_orders
from workflow_rl.bench.runs import Runs, parse_settings, runs_option
from workflow_rl.cage2.scenario import MIXED_RED_AGENTS, RED_AGENT_CHOICES, RED_MIXTURE

DEFAULT = "gp-ucb:3"
STRATEGIES = (DEFAULT, "random:3", "gp-ucb:0", "random:0", "round-robin:0")
ATTACKERS = (*MIXED_RED_AGENTS, RED_MIXTURE)
QUICK_SIZE = {
    "total_episodes": 24,
    "max_episodes_per_workflow": 8,
    "episodes_per_update": 4,
    "max_steps": 5,
    "evaluation_episodes": 2,
}


@dataclass(frozen=True)
class Contest:
    """Strategies against one attacker.

    Attributes:
        red_agent: the attacker.
        strategies: `name:halvings`.
        seeds: how many.
        fixed: settings of all searches, by name.
    """

    red_agent: str
    strategies: Sequence[str]
    seeds: int
    fixed: Mapping[str, Any]

    def settings(self, strategy: str, seed: int) -> dict[str, Any]:
        """Of one search, by name."""
        name, _, halvings = strategy.partition(":")
        return {
            **self.fixed,
            "red_agent": self.red_agent,
            "search_strategy": name,
            "halvings": int(halvings or 0),
            "seed": seed,
        }

    def all_settings(self) -> Iterator[dict[str, Any]]:
        """Of every search, seed by seed, so that a command that was stopped has a bit of each strategy."""
        for seed, strategy in itertools.product(range(self.seeds), self.strategies):
            yield self.settings(strategy, seed)

    def figures(self, found: Sequence[Found]) -> dict[str, Any]:
        """For the report, from what came of `all_settings`."""
        by_strategy = {
            strategy: found[place :: len(self.strategies)] for place, strategy in enumerate(self.strategies)
        }
        standard = [one.score for one in by_strategy.get(DEFAULT, ())]
        return {
            strategy: {
                **interval([one.score for one in searches]),
                "lowest_compliance": min(one.compliance or 0.0 for one in searches),
                **(
                    {
                        "less_than_default": interval(
                            [a - b.score for a, b in zip(standard, searches, strict=True)]
                        )
                    }
                    if standard
                    else {}
                ),
                "searches": [asdict(one) for one in searches],
            }
            for strategy, searches in by_strategy.items()
        }


def interval(values: Sequence[float]) -> dict[str, Any]:
    """The mean with its 95 % interval; a single value has none."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return {"mean": mean, "interval_95": None}
    half = t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return {"mean": mean, "interval_95": [mean - half, mean + half]}


def compare(contests: Sequence[Contest], runs: Runs, fresh_episodes: int, processes: int) -> dict[str, Any]:
    """Search, and return the figures for the report."""
    search = partial(search_orders, fresh_episodes=fresh_episodes)
    settings = {contest.red_agent: list(contest.all_settings()) for contest in contests}
    found = iter(runs.learn(search, list(itertools.chain(*settings.values())), Found, processes=processes))
    return {
        "fresh_episodes": fresh_episodes,
        "attackers": {
            contest.red_agent: contest.figures(
                list(itertools.islice(found, len(settings[contest.red_agent])))
            )
            for contest in contests
        },
    }


@click.command(help=__doc__)
@click.option(
    "--strategy",
    "strategies",
    multiple=True,
    default=STRATEGIES,
    show_default=True,
    metavar="name[:halvings]",
)
@click.option("--red-agent", multiple=True, type=click.Choice(RED_AGENT_CHOICES), default=ATTACKERS)
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--set", "changes", multiple=True, metavar="NAME=VALUE", help="A setting of every search.")
@click.option(
    "--processes", type=click.IntRange(1), default=1, show_default=True, help="Searches side by side."
)
@runs_option
@report.json_option
@click.option("--quick", is_flag=True, help="A few short episodes, to see that it runs.")
def main(
    strategies: Sequence[str],
    red_agent: Sequence[str],
    seeds: int,
    changes: Sequence[str],
    processes: int,
    runs_file: Path | None,
    json_file: Path | None,
    quick: bool,
) -> None:
    fixed = {**(QUICK_SIZE if quick else {}), **parse_settings(changes)}
    names = list(dict.fromkeys(strategies))
    contests = [Contest(attacker, names, 2 if quick else seeds, fixed) for attacker in red_agent]
    report.run(
        "live_search",
        lambda: compare(contests, Runs(runs_file), 2 if quick else 1000, processes),
        own_load=processes,
        json_file=json_file,
    )


if __name__ == "__main__":
    report.run_program(main)
