"""What the loss of a worker costs: a hundred workers, of which one after another is killed.

Batches are collected with the next one always handed in, without a learner. Each round plays them undisturbed
and then while one random worker after the other is killed with SIGKILL. The delay of a loss is the difference
of the two, per kill: the pool of the lost worker starts anew, and what it was playing is played again. Sizes
of pools take turns within one run.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from workflow_rl.bench import processes, report
from workflow_rl.bench.latency import Waits
from workflow_rl.cage2.scenario import NUM_ACTIONS, NUM_OBSERVATION_BITS
from workflow_rl.collectors import ExecutorCollector
from workflow_rl.environments import preload_modules
from workflow_rl.episode import WORKFLOW_CONTEXT, EnvironmentSpec, NetworkShape, Snapshot, Ticket
from workflow_rl.seeding import Stream

_ENVIRONMENTS = {
    "latency": Waits(sigma=0.5).environment(),
    "native": EnvironmentSpec.of("workflow_rl/Cage2-v0", {"red_agent": "B_lineAgent", "max_steps": 100}),
}


@dataclass(frozen=True)
class Plan:
    """What is played, and how often a worker is killed meanwhile."""

    n_workers: int
    batches: int
    episodes_per_batch: int
    kills: int
    seconds_between_kills: float


@dataclass(frozen=True)
class Round:
    """Seconds of the same batches without and with losses, and what was played again."""

    undisturbed_seconds: float
    disturbed_seconds: float
    kills: int
    played_again: int
    blamed: int

    @property
    def delay_per_loss(self) -> float:
        """Seconds."""
        return (self.disturbed_seconds - self.undisturbed_seconds) / max(1, self.kills)


class Killer(threading.Thread):
    """Kills one random worker after the other."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self._plan = plan
        self._draws = random.Random(0)
        self._is_over = threading.Event()
        self.kills = 0

    def run(self) -> None:
        """Kill until there were enough or it is over."""
        server = processes.fork_server_of(os.getpid())
        assert server is not None
        while self.kills < self._plan.kills and not self._is_over.wait(self._plan.seconds_between_kills):
            with contextlib.suppress(ProcessLookupError):  # one ends while they are looked for
                workers = processes.children_of(server)
                os.kill(self._draws.choice(workers), signal.SIGKILL)
                self.kills += 1

    def stop(self) -> None:
        """It is over."""
        self._is_over.set()
        self.join()


def player(collector: ExecutorCollector, environment: EnvironmentSpec, plan: Plan) -> Callable[[], float]:
    """Plays the plan's batches and returns how long it took; every time new episodes."""
    shape = NetworkShape(NUM_OBSERVATION_BITS, WORKFLOW_CONTEXT, 64, NUM_ACTIONS)
    collector.publish(Snapshot(0, shape, np.zeros(shape.num_parameters, np.float32)))
    played = 0

    def submit(batch: int) -> None:
        size = plan.episodes_per_batch
        collector.submit(
            [
                Ticket(0, Stream.TRAINING_EPISODE, episode, environment, version=0, batch=batch, workflow=0)
                for episode in range(batch * size, (batch + 1) * size)
            ]
        )

    def play() -> float:
        nonlocal played
        first, played = played, played + plan.batches
        started = time.monotonic()
        submit(first)
        for batch in range(first, played):
            if batch + 1 < played:
                submit(batch + 1)
            collector.collect(batch)
        return time.monotonic() - started

    return play


def measure(environment: EnvironmentSpec, workers_per_pool: int, plan: Plan) -> Round:
    """One round with one size of pools."""
    preload = preload_modules(environment)
    with ExecutorCollector(plan.n_workers, preload=preload, workers_per_pool=workers_per_pool) as collector:
        play = player(collector, environment, plan)
        play()  # starts the workers
        undisturbed = play()
        killer = Killer(plan)
        killer.start()
        disturbed = play()
        killer.stop()
        blamed = sum(retry.failures > 0 for retry in collector.retried)
        return Round(undisturbed, disturbed, killer.kills, collector.retries, blamed)


def summary(rounds: list[Round]) -> dict[str, Any]:
    delays = [one.delay_per_loss for one in rounds]
    return {
        "delay_per_loss_seconds": statistics.median(delays),
        "undisturbed_seconds": statistics.median(one.undisturbed_seconds for one in rounds),
        "rounds": [asdict(one) for one in rounds],
    }


def compare(environment: str, workers_per_pool: Sequence[int], plan: Plan, rounds: int) -> dict[str, Any]:
    """Every pool size in turn, round after round."""
    found: dict[int, list[Round]] = {size: [] for size in workers_per_pool}
    for _ in range(rounds):
        for size in workers_per_pool:
            found[size].append(measure(_ENVIRONMENTS[environment], size, plan))
    return {
        "environment": environment,
        "plan": asdict(plan),
        "by_workers_per_pool": {str(size): summary(each) for size, each in found.items()},
    }


@click.command(help=__doc__)
@click.option("--environment", type=click.Choice(list(_ENVIRONMENTS)), default="latency", show_default=True)
@click.option("--workers-per-pool", type=int, multiple=True, default=(5, 10, 25, 100), show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=1, show_default=True)
@click.option("--batches", type=click.IntRange(1), default=8, show_default=True)
@click.option("--episodes-per-batch", type=click.IntRange(1), default=100, show_default=True)
@report.json_option
@click.option("--quick", is_flag=True, help="Four workers and two kills, to see that it runs.")
def main(
    environment: str,
    workers_per_pool: tuple[int, ...],
    rounds: int,
    batches: int,
    episodes_per_batch: int,
    json_file: Path | None,
    quick: bool,
) -> None:
    plan = Plan(100, batches, episodes_per_batch, kills=20, seconds_between_kills=0.2)
    if quick:
        plan, workers_per_pool = Plan(4, 4, 8, kills=2, seconds_between_kills=0.2), (2, 4)
    report.run(
        "recovery",
        lambda: compare(environment, workers_per_pool, plan, rounds),
        own_load=plan.n_workers,
        json_file=json_file,
    )


if __name__ == "__main__":
    report.run_program(main)
