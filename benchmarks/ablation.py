"""Compares settings of the learner: trains each variant on several orders and seeds, and scores the result.

    python benchmarks/ablation.py horizon=truncation horizon=end
    python benchmarks/ablation.py learning_rate=0.001 learning_rate=0.003,minibatch_size=1000 --episodes 3000

A variant is a comma-separated list of settings of `workflow-rl train` (names as in config.json); every
variant sees the same seeds, and lag 0 unless it says otherwise. Each run is scored on 500 fresh episodes. The
report has for each variant the mean over orders and seeds of reward and compliance, and every single run with
its learning curve. What else the machine does has no influence on what is learnt.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from workflow_rl.bench import report
from workflow_rl.bench.learning import learn_order
from workflow_rl.bench.runs import parse_settings

ORDERS = ("op_server,enterprise,defender,op_host,user", "op_host,user,enterprise,defender,op_server")
SIZE = {"total_episodes": 5000, "evaluation_episodes": 500}
QUICK_SIZE = {"total_episodes": 20, "episodes_per_update": 10, "max_steps": 5, "evaluation_episodes": 2}


def compare(variants: Sequence[str], fixed: Mapping[str, Any], num_seeds: int) -> dict[str, Any]:
    """Train every variant and return the figures for the report."""
    return {
        "settings": fixed,
        "variants": [
            _means(text, _runs({**fixed, "lag": 0, **parse_settings(text.split(","))}, num_seeds))
            for text in variants
        ],
    }


def _runs(values: Mapping[str, Any], num_seeds: int) -> list[dict[str, Any]]:
    return [
        {"order": order, "seed": seed, **asdict(learn_order({**values, "workflow": order, "seed": seed}))}
        for order in ORDERS
        for seed in range(num_seeds)
    ]


def _means(variant: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    compliances = [run["compliance"] for run in runs if run["compliance"] is not None]
    mean = {
        "reward": statistics.fmean(run["score"] for run in runs),
        "compliance": statistics.fmean(compliances) if compliances else None,
    }
    click.echo(f"{variant}: {mean}", err=True)
    return {"variant": variant, **mean, "runs": runs}


@click.command(help=__doc__)
@click.argument("variants", nargs=-1, required=True, metavar="name=value[,name=value...]...")
@click.option("--episodes", type=click.IntRange(1), default=SIZE["total_episodes"], show_default=True)
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True)
@report.json_option
@click.option(
    "--quick", is_flag=True, help="One seed and two updates of short episodes, to see that it runs."
)
def main(variants: Sequence[str], episodes: int, seeds: int, json_file: Path | None, quick: bool) -> None:
    fixed = QUICK_SIZE if quick else {**SIZE, "total_episodes": episodes}
    report.run(
        "ablation",
        lambda: compare(variants, fixed, 1 if quick else seeds),
        own_load=1,
        json_file=json_file,
    )


if __name__ == "__main__":
    report.run_program(main)
