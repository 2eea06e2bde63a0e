"""Episodes per second of the native simulator without a learner, and what handing them over costs.

    limit       threads, as many as cores, that play and do nothing else
    process     the executor collector with worker processes, 1, 2, 10 and 100 of them
    thread      the same with threads, of which there are never more than cores
    training    PPO on one order at lag 1, with either

All take turns, round after round. A collector has the next two batches handed in while one is waited for;
each round begins and ends with nothing under way. All play with the policy that a training begins with: 52
bits and the workflow go in, 145 logits come out.

The hand-over of an episode is everything that is not playing: tickets, queues, pickling, pipes, gathering a
batch. It is the CPU time of all processes of a collection, per episode, minus that of the limit.
`hand_over_share` is that cost over the CPU time per episode of a training with as many workers.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from workflow_rl.bench import processes, report
from workflow_rl.bench.timing import Spread
from workflow_rl.closing import Closing
from workflow_rl.collectors import make_collector
from workflow_rl.cores import usable_cores
from workflow_rl.episode import EnvironmentSpec, Snapshot, Ticket
from workflow_rl.rollout import Player
from workflow_rl.seeding import Stream
from workflow_rl.settings import CollectorSettings

# Modules that load torch are imported in functions: the processes started here import this file again, and
# are to be as light as workers are.
if TYPE_CHECKING:
    from workflow_rl.bench.training import WarmTraining

_EXECUTORS = ("process", "thread")
_BATCHES_AHEAD = 2
_TOGETHER = 50
"""Episodes that the limit plays in one call, about as many as a collector's workers."""

_NEVER = 1_000_000


@dataclass(frozen=True)
class Sample:
    """One round of something.

    Attributes:
        episodes: played.
        wall_seconds: it took.
        learner_cpu_seconds: of this process, its threads included.
        worker_cpu_seconds: of all worker processes.
    """

    episodes: int
    wall_seconds: float
    learner_cpu_seconds: float
    worker_cpu_seconds: float

    @property
    def rate(self) -> float:
        """Episodes per second."""
        return self.episodes / self.wall_seconds

    @property
    def cost(self) -> float:
        """CPU seconds per episode, of all processes."""
        return (self.learner_cpu_seconds + self.worker_cpu_seconds) / self.episodes


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    n_workers: tuple[int, ...]
    rounds: int
    batches: int
    episodes_per_batch: int
    updates: int
    max_steps: int

    @property
    def compared_with(self) -> int:
        """Workers whose rate others are compared with: 2, or else the fewest."""
        return 2 if 2 in self.n_workers else min(self.n_workers)


def sampled(play: Callable[[], int]) -> Sample:
    """Time a function that plays and returns how many episodes."""
    server = processes.fork_server_of(os.getpid())
    workers = [] if server is None else processes.children_of(server)
    wall, learner = time.perf_counter(), time.process_time()
    before = sum(processes.cpu_seconds(worker) for worker in workers)
    episodes = play()
    after = sum(processes.cpu_seconds(worker) for worker in workers)
    return Sample(
        episodes, time.perf_counter() - wall, time.process_time() - learner, worker_cpu_seconds=after - before
    )


def tickets(environment: EnvironmentSpec, episodes: Iterable[int], batch: int) -> list[Ticket]:
    """Training tickets for version 0."""
    return [
        Ticket(0, Stream.TRAINING_EPISODE, episode, environment, version=0, batch=batch, workflow=0)
        for episode in episodes
    ]


class Collection(Closing):
    """A collector that plays batch after batch; a context manager."""

    def __init__(
        self, settings: CollectorSettings, environment: EnvironmentSpec, snapshot: Snapshot, plan: Plan
    ) -> None:
        self._collector = make_collector(settings, environment)
        self._environment = environment
        self._size = plan.episodes_per_batch
        self._next_batch = 0
        self._collector.publish(snapshot)
        self.play(plan.batches)  # starts the workers, and shows how long episodes take

    def play(self, batches: int) -> int:
        """Play so many batches; returns the episodes."""
        first, end = self._next_batch, self._next_batch + batches
        for batch in range(first, end + _BATCHES_AHEAD):
            if batch < end:
                episodes = range(batch * self._size, (batch + 1) * self._size)
                self._collector.submit(tickets(self._environment, episodes, batch))
            if batch >= first + _BATCHES_AHEAD:
                self._collector.collect(batch - _BATCHES_AHEAD)
        self._next_batch = end
        return batches * self._size

    def close(self) -> None:
        """End the workers. May be called twice."""
        self._collector.close()


def play_only(environment: EnvironmentSpec, snapshot: Snapshot, num_episodes: int) -> int:
    """Play in as many threads as there are cores, without any collector; returns the episodes."""
    num_threads = usable_cores()
    calls = max(1, num_episodes // (_TOGETHER * num_threads))

    def play(first: int) -> None:
        player = Player()
        for call in range(calls):
            episodes = range(first + call * _TOGETHER, first + (call + 1) * _TOGETHER)
            player.play(tickets(environment, episodes, batch=0), snapshot)

    threads = [
        threading.Thread(target=play, args=(number * calls * _TOGETHER,)) for number in range(num_threads)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return calls * _TOGETHER * num_threads


def warm_training(executor: str, plan: Plan) -> WarmTraining:
    """A training that nothing ends early."""
    from workflow_rl.bench.training import WarmTraining
    from workflow_rl.settings import TrainSettings

    return WarmTraining(
        TrainSettings.from_flat(
            {
                "executor": executor,
                "n_workers": 2,
                "episodes_per_update": plan.episodes_per_batch,
                "max_steps": plan.max_steps,
                "lag": 1,
                "stop_rule": "plateau",
                "patience_updates": _NEVER,
            }
        )
    )


def trained(training: WarmTraining, updates: int) -> Sample:
    """A round of training."""
    taken = training.play(updates)
    return Sample(taken.episodes, taken.wall_seconds, taken.learner_cpu_seconds, taken.worker_cpu_seconds)


@dataclass(frozen=True)
class Round:
    """What was measured in turn: collections by executor and number of workers, trainings by executor."""

    limit: Sample
    collections: dict[tuple[str, int], Sample]
    trainings: dict[str, Sample]


def measure(plan: Plan) -> dict[str, Any]:
    """Run the rounds."""
    trainings = {executor: warm_training(executor, plan) for executor in _EXECUTORS}
    environment, snapshot = trainings["thread"].environment, trainings["thread"].initial
    collections = {
        (executor, number): Collection(
            CollectorSettings(executor=executor, n_workers=number), environment, snapshot, plan
        )
        for number in plan.n_workers
        for executor in _EXECUTORS
    }
    num_episodes = plan.batches * plan.episodes_per_batch
    rounds = [
        Round(
            sampled(partial(play_only, environment, snapshot, num_episodes)),
            {key: sampled(partial(each.play, plan.batches)) for key, each in collections.items()},
            {executor: trained(training, plan.updates) for executor, training in trainings.items()},
        )
        for _ in range(plan.rounds)
    ]
    for part in (*trainings.values(), *collections.values()):
        part.close()
    return {
        "plan": asdict(plan),
        "limit": summary([taken.limit for taken in rounds]),
        "collection": {
            executor: {str(number): figures(rounds, executor, number, plan) for number in plan.n_workers}
            for executor in _EXECUTORS
        },
        "training": {executor: summary([r.trainings[executor] for r in rounds]) for executor in _EXECUTORS},
    }


def summary(samples: list[Sample]) -> dict[str, Any]:
    """Rate and cost over the rounds."""
    per_episode = 1e6
    return {
        "episodes_per_second": asdict(Spread.of(sample.rate for sample in samples)),
        "cpu_microseconds_per_episode": {
            "learner": asdict(Spread.of(per_episode * s.learner_cpu_seconds / s.episodes for s in samples)),
            "workers": asdict(Spread.of(per_episode * s.worker_cpu_seconds / s.episodes for s in samples)),
            "together": asdict(Spread.of(per_episode * s.cost for s in samples)),
        },
    }


def figures(rounds: list[Round], executor: str, number: int, plan: Plan) -> dict[str, Any]:
    """One collection, compared within each round with the limit, with two workers and with a training."""
    key, two = (executor, number), (executor, plan.compared_with)
    return {
        **summary([taken.collections[key] for taken in rounds]),
        "rate_over_limit": asdict(Spread.of(r.collections[key].rate / r.limit.rate for r in rounds)),
        f"rate_over_{plan.compared_with}_workers": asdict(
            Spread.of(r.collections[key].rate / r.collections[two].rate for r in rounds)
        ),
        "hand_over_share": asdict(
            Spread.of((r.collections[key].cost - r.limit.cost) / r.trainings[executor].cost for r in rounds)
        ),
    }


@click.command(help=__doc__)
@click.option(
    "--n-workers", type=click.IntRange(1), multiple=True, default=(1, 2, 10, 100), show_default=True
)
@click.option("--rounds", type=click.IntRange(1), default=7, show_default=True)
@click.option("--batches", type=click.IntRange(1), default=30, show_default=True, help="Of each collector.")
@click.option("--updates", type=click.IntRange(1), default=5, show_default=True, help="Of each training.")
@report.json_option
@click.option("--quick", is_flag=True, help="Two rounds of few short episodes, to see that it runs.")
def main(
    n_workers: tuple[int, ...],
    rounds: int,
    batches: int,
    updates: int,
    json_file: Path | None,
    quick: bool,
) -> None:
    processes.check_supported()
    plan = Plan(n_workers, rounds, batches, episodes_per_batch=100, updates=updates, max_steps=100)
    if quick:
        plan = Plan((1, 2), rounds=2, batches=3, episodes_per_batch=10, updates=1, max_steps=10)
    report.run("collection", lambda: measure(plan), own_load=usable_cores() + 1, json_file=json_file)


if __name__ == "__main__":
    report.run_program(main)
