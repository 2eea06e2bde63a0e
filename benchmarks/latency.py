"""Episodes per second of a training on steps that wait, against as many processes that only wait.

    ideal      workers / mean time of an episode: nothing but the environment takes time
    limit      as many processes as workers, that step the environment and do nothing else
    training   PPO on one order: workers, queues, batches, alignment, updates, at each lag asked for

Limit and lags take turns within one run, warm. The waits are those of `workflow_rl.bench.latency`: episodes
of 100 steps whose times are log-normal with a mean of 5.6 ms. What is left of the ideal is decided by the
processor time that a step costs everybody together: a hundred workers make 18,000 steps a second, which
leaves two cores 112 microseconds for each. The cold figure is the first episode of every worker, the start of
the workers included; the fork server is ready by then, as it is when the main job has loaded torch.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from workflow_rl.bench import report
from workflow_rl.bench.latency import Waits

# Modules that load torch are imported in functions: the processes started here import this file again, and
# are to be as light as workers are.
if TYPE_CHECKING:
    from workflow_rl.bench.limit import LimitRound
    from workflow_rl.bench.training import TrainingRound
    from workflow_rl.settings import TrainSettings

_NEVER = 1_000_000
_WAITS = {
    "light": Waits(sigma=0.5),
    "heavy": Waits(sigma=1.25),
    "resets": Waits(sigma=0.5, shortest_reset=0.5, longest_reset=1.5),
}
_SERVER_SECONDS = 3.0
"""Enough for the fork server to load what workers need."""


@dataclass(frozen=True)
class Plan:
    """What is measured: `updates` counted in each of `rounds`, at each lag."""

    lags: Sequence[int]
    rounds: int
    updates: int


def settings_of(n_workers: int, episodes_per_update: int) -> TrainSettings:
    """A training that nothing ends early."""
    from workflow_rl.settings import TrainSettings

    return TrainSettings.from_flat(
        {
            "n_workers": n_workers,
            "episodes_per_update": episodes_per_update,
            "stop_rule": "plateau",
            "patience_updates": _NEVER,
        }
    )


def measure(settings: TrainSettings, waits: Waits, plan: Plan) -> dict[str, Any]:
    """Run the rounds; each gives the limit about as long as a training before it took."""
    from workflow_rl.bench.limit import LimitProcesses
    from workflow_rl.bench.memory import read_memory
    from workflow_rl.bench.training import WarmTraining
    from workflow_rl.environments import preload_modules
    from workflow_rl.fork_server import worker_context

    environment, n_workers = waits.environment(), settings.collector.n_workers
    worker_context(preload_modules(environment))
    time.sleep(_SERVER_SECONDS)
    ideal = n_workers / waits.mean_episode
    trained: dict[int, list[TrainingRound]] = {lag: [] for lag in plan.lags}
    limits: list[LimitRound] = []
    with WarmTraining(settings, environment) as training:
        memory = max((read_memory() for _ in training.updates(2)), key=lambda memory: memory.total)
        with LimitProcesses(n_workers, environment, snapshot=None) as limit:
            for _ in range(plan.rounds):
                for lag in plan.lags:
                    trained[lag].append(training.play(plan.updates, lag=lag))
                limits.append(limit.play(trained[plan.lags[-1]][-1].wall_seconds))
        cold = n_workers / training.cold_seconds
    lags = {str(lag): figures(rounds, limits, ideal, waits) for lag, rounds in trained.items()}
    best = max(figure["episodes_per_second"]["median"] for figure in lags.values())
    return {
        "n_workers": n_workers,
        "episodes_per_update": settings.search.episodes_per_update,
        "waits": asdict(waits),
        "ideal_episodes_per_second": ideal,
        "best_share_of_ideal": best / ideal,
        "lags": lags,
        "limit": limit_figures(limits, ideal, waits),
        "cold": {"episodes_per_second": cold, "share_of_warm": cold / best, "seconds": training.cold_seconds},
        "pss_bytes": {**asdict(memory), "total": memory.total},
        "rounds": {
            "limit": [asdict(taken) for taken in limits],
            "lags": {str(lag): [asdict(taken) for taken in rounds] for lag, rounds in trained.items()},
        },
    }


def figures(
    trained: Sequence[TrainingRound], limits: Sequence[LimitRound], ideal: float, waits: Waits
) -> dict[str, Any]:
    """Rates, shares and costs at one lag, over the rounds."""
    from workflow_rl.bench.timing import Spread

    rates = [taken.episodes / taken.wall_seconds for taken in trained]
    limit_rates = [taken.steps / waits.num_steps / taken.wall_seconds for taken in limits]
    steps = [taken.episodes * waits.num_steps for taken in trained]
    spreads = {
        "episodes_per_second": rates,
        "share_of_ideal": [rate / ideal for rate in rates],
        "share_of_limit": [rate / limit for rate, limit in zip(rates, limit_rates, strict=True)],
        "learner_idle_fraction": [taken.collection_seconds / taken.wall_seconds for taken in trained],
        "worker_cpu_microseconds_per_step": [
            1e6 * taken.worker_cpu_seconds / count for taken, count in zip(trained, steps, strict=True)
        ],
        "learner_cpu_microseconds_per_step": [
            1e6 * taken.learner_cpu_seconds / count for taken, count in zip(trained, steps, strict=True)
        ],
    }
    return {name: asdict(Spread.of(values)) for name, values in spreads.items()}


def limit_figures(limits: Sequence[LimitRound], ideal: float, waits: Waits) -> dict[str, Any]:
    """The same of the processes that only step."""
    from workflow_rl.bench.timing import Spread

    rates = [taken.steps / waits.num_steps / taken.wall_seconds for taken in limits]
    spreads = {
        "episodes_per_second": rates,
        "share_of_ideal": [rate / ideal for rate in rates],
        "cpu_microseconds_per_step": [1e6 * taken.cpu_seconds / taken.steps for taken in limits],
    }
    return {name: asdict(Spread.of(values)) for name, values in spreads.items()}


@click.command(help=__doc__)
@click.option("--n-workers", type=click.IntRange(1), default=100, show_default=True)
@click.option(
    "--waits",
    "kind",
    type=click.Choice(list(_WAITS)),
    default="light",
    show_default=True,
    help="Steps with a light tail (sigma 0.5), a heavy one (1.25), or light with resets of 0.5 to 1.5 s.",
)
@click.option("--lags", default="1,2,3", show_default=True, help="Lags to measure, separated by commas.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option(
    "--updates", type=click.IntRange(1), default=15, show_default=True, help="Counted, per round and lag."
)
@click.option("--episodes-per-update", type=click.IntRange(1), default=100, show_default=True)
@report.json_option
@click.option("--quick", is_flag=True, help="Two workers and a few short episodes, to see that it runs.")
def main(
    n_workers: int,
    kind: str,
    lags: str,
    rounds: int,
    updates: int,
    episodes_per_update: int,
    json_file: Path | None,
    quick: bool,
) -> None:
    from workflow_rl.cores import usable_cores

    waits = _WAITS[kind]
    plan = Plan([int(lag) for lag in lags.split(",")], rounds, updates)
    if quick:
        waits, plan = replace(waits, num_steps=5), Plan([0, 1], rounds=1, updates=2)
        n_workers, episodes_per_update = 2, 6
    settings = settings_of(n_workers, episodes_per_update)
    report.run(
        "latency",
        lambda: measure(settings, waits, plan),
        own_load=usable_cores() + 1,
        json_file=json_file,
    )


if __name__ == "__main__":
    report.run_program(main)
