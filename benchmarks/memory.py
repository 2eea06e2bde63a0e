"""Memory of a training: the proportional set size (PSS) of the learner, the fork server and the workers.

PSS counts a page that n processes share as 1/n in each of them, so that the sum over all processes is what
the run really takes, however much the workers inherit from the fork server. It is read after every update,
while the workers are playing; the report gives the largest sum that was seen.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from workflow_rl.bench import report
from workflow_rl.bench.memory import read_memory

_NEVER = 1_000_000


def measure(values: dict[str, Any], updates: int) -> dict[str, Any]:
    """Train and look on."""
    # Loads torch, which the workers, who import this file too, do without.
    from workflow_rl.bench.training import WarmTraining
    from workflow_rl.settings import TrainSettings

    with WarmTraining(TrainSettings.from_flat(values)) as training:
        seen = [read_memory() for _ in training.updates(updates)]
        peak = max(seen, key=lambda memory: memory.total)
        return {
            "settings": values,
            "peak_pss_bytes": {**asdict(peak), "total": peak.total},
            "readings": [{**asdict(memory), "total": memory.total} for memory in seen],
        }


@click.command(help=__doc__)
@click.option("--n-workers", type=click.IntRange(1), default=100, show_default=True)
@click.option("--simulator", type=click.Choice(["native", "cyborg"]), default="native", show_default=True)
@click.option("--updates", type=click.IntRange(1), default=3, show_default=True)
@click.option("--episodes-per-update", type=click.IntRange(1), default=100, show_default=True)
@report.json_option
@click.option("--quick", is_flag=True, help="Two workers and eight short episodes, to see that it runs.")
def main(
    n_workers: int,
    simulator: str,
    updates: int,
    episodes_per_update: int,
    json_file: Path | None,
    quick: bool,
) -> None:
    from workflow_rl.cores import usable_cores

    values: dict[str, Any] = {
        "simulator": simulator,
        "executor": "process",
        "n_workers": n_workers,
        "episodes_per_update": episodes_per_update,
        "stop_rule": "plateau",
        "patience_updates": _NEVER,
    }
    if quick:
        values, updates = {**values, "n_workers": 2, "episodes_per_update": 4, "max_steps": 5}, 2
    report.run(
        "memory",
        lambda: measure(values, updates),
        own_load=max(values["n_workers"], usable_cores()) + 1,
        json_file=json_file,
    )


if __name__ == "__main__":
    report.run_program(main)
