"""Episodes per second of a training on the reference simulator, against the limit of the machine.

    limit      as many processes as workers, that step the simulator and do nothing else
    training   PPO on one order: workers, queues, batches, alignment, updates, at lag 1

Both run in turn within one run, warm, on the same simulator with episodes of the same length, at the same
niceness. By default the limit takes uniformly random actions. Every round of training starts from a fresh
policy, which is nearly uniform, so both ask nearly the same of the simulator; what is left of the difference
shows in the CPU seconds per episode, and `ratio_at_equal_cost` is the ratio with that difference divided out.
With `--play initial-policy` the limit evaluates that fresh policy too; what remains is the pipeline alone.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from workflow_rl.bench import report

# Modules that load torch are imported in functions: the processes started here import this file again, and
# are to be as light as workers are.
if TYPE_CHECKING:
    from workflow_rl.bench.limit import LimitRound
    from workflow_rl.bench.training import TrainingRound
    from workflow_rl.settings import TrainSettings

_NEVER = 1_000_000
_SHORTEST_LIMIT_SECONDS = 0.5


def settings_of(n_workers: int, episodes_per_update: int, max_steps: int) -> TrainSettings:
    """A training on the reference simulator that nothing ends early."""
    from workflow_rl.settings import TrainSettings

    return TrainSettings.from_flat(
        {
            "simulator": "cyborg",
            "n_workers": n_workers,
            "episodes_per_update": episodes_per_update,
            "max_steps": max_steps,
            "lag": 1,
            "stop_rule": "plateau",
            "patience_updates": _NEVER,
        }
    )


def measure(settings: TrainSettings, *, rounds: int, updates: int, play: str) -> dict[str, Any]:
    """Run the rounds; each gives the limit about as long as the training before it took."""
    from workflow_rl.bench.limit import LimitProcesses
    from workflow_rl.bench.training import WarmTraining

    with WarmTraining(settings) as training:
        snapshot = training.initial if play == "initial-policy" else None
        with LimitProcesses(settings.collector.n_workers, training.environment, snapshot) as limit:
            taken = []
            for _ in range(rounds):
                trained = training.play(updates)
                taken.append((trained, limit.play(max(trained.wall_seconds, _SHORTEST_LIMIT_SECONDS))))
            startup = {"training": training.startup_seconds, "limit": limit.startup_seconds}
    return {
        "n_workers": settings.collector.n_workers,
        "limit_plays": play,
        "startup_seconds": startup,
        **figures(taken, settings.simulator.max_steps),
    }


def figures(taken: list[tuple[TrainingRound, LimitRound]], max_steps: int) -> dict[str, Any]:
    """Rates, costs and ratios over the rounds."""
    from workflow_rl.bench.timing import Spread

    training_rates = [trained.episodes / trained.wall_seconds for trained, _ in taken]
    limit_rates = [limit.steps / max_steps / limit.wall_seconds for _, limit in taken]
    training_costs = [trained.worker_cpu_seconds / trained.episodes for trained, _ in taken]
    learner_costs = [trained.learner_cpu_seconds / trained.episodes for trained, _ in taken]
    limit_costs = [limit.cpu_seconds * max_steps / limit.steps for _, limit in taken]
    ratios = [a / b for a, b in zip(training_rates, limit_rates, strict=True)]
    costs = [a / b for a, b in zip(training_costs, limit_costs, strict=True)]
    return {
        "training_episodes_per_second": asdict(Spread.of(training_rates)),
        "limit_episodes_per_second": asdict(Spread.of(limit_rates)),
        "ratio": asdict(Spread.of(ratios)),
        "worker_cpu_seconds_per_episode": asdict(Spread.of(training_costs)),
        "learner_cpu_seconds_per_episode": asdict(Spread.of(learner_costs)),
        "limit_cpu_seconds_per_episode": asdict(Spread.of(limit_costs)),
        "ratio_at_equal_cost": asdict(Spread.of([r * c for r, c in zip(ratios, costs, strict=True)])),
        "rounds": [{"training": asdict(trained), "limit": asdict(limit)} for trained, limit in taken],
    }


@click.command(help=__doc__)
@click.option("--n-workers", type=click.IntRange(1), default=2, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option(
    "--updates", type=click.IntRange(1), default=3, show_default=True, help="Counted, in each round."
)
@click.option("--episodes-per-update", type=click.IntRange(1), default=100, show_default=True)
@click.option("--max-steps", type=click.IntRange(1), default=100, show_default=True)
@click.option("--play", type=click.Choice(["random", "initial-policy"]), default="random", show_default=True)
@report.json_option
@click.option("--quick", is_flag=True, help="Two rounds of short episodes, to see that it runs.")
def main(
    n_workers: int,
    rounds: int,
    updates: int,
    episodes_per_update: int,
    max_steps: int,
    play: str,
    json_file: Path | None,
    quick: bool,
) -> None:
    from workflow_rl.cores import usable_cores

    if quick:
        rounds, updates, episodes_per_update, max_steps = 2, 1, 4, 5
    settings = settings_of(n_workers, episodes_per_update, max_steps)
    report.run(
        "training_against_limit",
        lambda: measure(settings, rounds=rounds, updates=updates, play=play),
        own_load=max(n_workers, usable_cores()) + 1,
        json_file=json_file,
    )


if __name__ == "__main__":
    report.run_program(main)
