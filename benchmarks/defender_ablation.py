"""What in the recipe of `workflow-rl train-defender` helps: the same training without one part of it.

    python benchmarks/defender_ablation.py --rules 2.1 --runs ablation.json

Trains every variant from several seeds and plays the challenge's protocol with what each delivers. A variant
differs from the recipe in one part, and all train on the same number of episodes, fewer than the recipe's,
from one beginning.
The report has, for each variant, the mean total over seeds with its standard error, and the total of each
seed. What else the machine does has no influence on what is learnt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

from workflow_rl.bench import report
from workflow_rl.bench.learning import Defence, learn_defender
from workflow_rl.bench.runs import Runs, runs_option
from workflow_rl.protocol import PROTOCOL_EPISODES

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "the recipe": {},
    "without the memory of recency": {"recency_memory": False},
    "without the memory of decoys": {"decoy_memory": False},
    "without the memory of scans": {"scan_memory": False},
    "all 145 actions": {"action_set": "all"},
    "batches of 200 episodes": {"episodes_per_update": 200, "minibatch_size": 800, "validation_updates": 50},
    "little entropy": {"entropy_coefficient": 0.01, "final_entropy": 0.15},
}
"""What each changes."""


_QUICK = {"total_episodes": 16, "episodes_per_update": 8, "validation_episodes": 2, "hidden_size": 8}


def of_variant(settings: Sequence[Mapping[str, Any]], cell_episodes: int, runs: Runs) -> dict[str, Any]:
    """Train with each of the settings, one for each seed; figures for the report."""
    defences = runs.learn(partial(learn_defender, cell_episodes=cell_episodes), settings, Defence)
    totals = np.array([defence.score for defence in defences])
    return {
        "totals": totals.tolist(),
        "mean_total": float(totals.mean()),
        "standard_error": float(totals.std(ddof=1) / np.sqrt(len(totals))),
        "mean_cells": np.mean([defence.means for defence in defences], axis=0).tolist(),
        "cpu_seconds": float(np.mean([defence.cpu_seconds for defence in defences])),
    }


def measure(
    rules: str, seeds: int, episodes: int, chosen: Sequence[str], runs: Runs, *, quick: bool
) -> dict[str, Any]:
    """Train every variant; figures for the report."""
    common = {"rules": rules, "total_episodes": episodes, "beginnings": 1}
    cell_episodes = 2 if quick else PROTOCOL_EPISODES
    variants = {}
    for name in chosen:
        settings = {**common, **VARIANTS[name], **(_QUICK if quick else {})}
        of_each_seed = [{**settings, "seed": seed} for seed in range(seeds)]
        variants[name] = {"settings": settings, **of_variant(of_each_seed, cell_episodes, runs)}
    return {"seeds": seeds, "cell_episodes": cell_episodes, "variants": variants}


@click.command(help=__doc__)
@click.option("--rules", type=click.Choice(["2.1", "leaderboard"]), default="2.1", show_default=True)
@click.option("--seeds", type=click.IntRange(2), default=3, show_default=True)
@click.option("--episodes", type=click.IntRange(1), default=100_000, show_default=True, help="Of training.")
@click.option("--variant", multiple=True, type=click.Choice(list(VARIANTS)), help="Only these.")
@runs_option
@report.json_option
@click.option("--quick", is_flag=True, help="A few episodes, two seeds, to see that it runs.")
def main(
    rules: str,
    seeds: int,
    episodes: int,
    variant: tuple[str, ...],
    runs_file: Path | None,
    json_file: Path | None,
    quick: bool,
) -> None:
    chosen, runs = variant or tuple(VARIANTS), Runs(runs_file)
    report.run(
        "defender_ablation",
        lambda: measure(rules, 2 if quick else seeds, episodes, chosen, runs, quick=quick),
        own_load=1,
        json_file=json_file,
    )


if __name__ == "__main__":
    report.run_program(main)
