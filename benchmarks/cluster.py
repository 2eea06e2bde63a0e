"""What Ray actors cost their learner, and how many of them one learner can serve.

Measured here, on a Ray of the program's own, with episodes of 100 steps, 52 bits and 145 actions whose steps
wait (`workflow_rl.bench.latency`):

    bytes       of the weights of a version, of a ticket on its way out, of an episode on its way back
    learner     CPU time of handing out an episode and taking it back, and of learning from it; and of finding
                the next worker among so many, which the dispatcher does twice an episode
    daemons     CPU time of Ray's own processes beside the learner
    at rest     CPU time that learner and daemons take when nothing goes on, which is in no other figure
    actors      seconds until all of them have played, and the memory of one

The rest is arithmetic, for the numbers of workers asked for: what they would play if nobody kept them waiting
(workers / mean time of an episode), what one learner can take in (a core / its CPU time per episode), and the
share of a network that this fills. A batch has as many episodes as there are workers, and each machine
fetches every version once.
"""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, cast

import click

from workflow_rl.bench import processes, report
from workflow_rl.bench.latency import Waits
from workflow_rl.collectors.pool import Call

# Modules that load torch or Ray are imported in functions, so that --help needs neither.
if TYPE_CHECKING:
    from workflow_rl.bench.timing import Spread
    from workflow_rl.collectors import Collector
    from workflow_rl.collectors.pool import MakePool, Report
    from workflow_rl.episode import Episodes
    from workflow_rl.policy import ActorCritic

_WAITS = Waits(mean_step=5.6e-4)
"""A tenth of the latency regime's: what an episode costs its learner does not depend on how long it took."""

_GIGABIT_BYTES = 1e9 / 8
_SEARCHES = 2
"""Of the dispatcher, an episode: one that finds the worker who is free now, one that finds nobody else."""

_SEARCHING_SECONDS = 0.1


@dataclass(frozen=True)
class Plan:
    """What is measured: so many episodes in each of so many rounds, after so many seconds of rest."""

    actors: int
    episodes: int
    rounds: int
    rest_seconds: float


@dataclass(frozen=True)
class Cluster:
    """Workers on machines of so many each, whose episodes take so long on average."""

    workers: int
    workers_per_machine: int
    episode_seconds: float


@dataclass(frozen=True)
class CpuTime:
    """Seconds of the learner and of Ray's daemons beside it."""

    learner: float
    daemons: float

    @classmethod
    def taken(cls) -> CpuTime:
        """So far."""
        daemons = processes.children_of(os.getpid())
        return cls(time.process_time(), sum(map(processes.cpu_seconds, daemons)))

    def beyond(self, other: CpuTime, times: float = 1.0) -> CpuTime:
        """What is left of it without the other, so many times."""
        return CpuTime(self.learner - times * other.learner, self.daemons - times * other.daemons)


@dataclass(frozen=True)
class Costs:
    """Of one learner.

    Attributes:
        snapshot_bytes: of the weights of a version.
        ticket_bytes: of an episode on its way out.
        episode_bytes: of an episode on its way back.
        hand_over_cpu_seconds: of the learner, an episode.
        update_cpu_seconds: of the learner, an episode.
        daemon_cpu_seconds: of Ray's daemons, an episode.
        cpu_time_at_rest: of a second in which nothing goes on.
        start_seconds: until every actor has played an episode, Ray's own start included.
        actor_bytes: proportional set size of an actor.
    """

    snapshot_bytes: int
    ticket_bytes: int
    episode_bytes: int
    hand_over_cpu_seconds: Spread
    update_cpu_seconds: Spread
    daemon_cpu_seconds: Spread
    cpu_time_at_rest: CpuTime
    start_seconds: float
    actor_bytes: int


def measure(plan: Plan) -> Costs:
    """Play and learn."""
    from workflow_rl.bench.timing import Spread
    from workflow_rl.collectors.ray_actors import RayCollector
    from workflow_rl.policy import ActorCritic
    from workflow_rl.ppo import PPO
    from workflow_rl.rollout import shape_for
    from workflow_rl.settings import PPOSettings

    processes.check_supported()
    policy = ActorCritic(shape_for(_WAITS.environment(), hidden_size=64, has_workflow=True), seed=0)
    learner = PPO(policy, PPOSettings(), seed=0)
    played: list[CpuTime] = []
    updates: list[float] = []
    started = time.monotonic()
    with RayCollector(plan.actors) as collector:
        play(collector, policy, 0, plan.actors)
        start_seconds = time.monotonic() - started
        play(collector, policy, 1, plan.episodes)  # all actors have started by its end
        actor_bytes = max(map(processes.proportional_set_bytes, actors()))
        resting = measure_rest(plan.rest_seconds)
        for version in range(2, 2 + plan.rounds):
            before, wall_before = CpuTime.taken(), time.monotonic()
            episodes = play(collector, policy, version, plan.episodes)
            wall_seconds = time.monotonic() - wall_before
            played.append(CpuTime.taken().beyond(before).beyond(resting, wall_seconds))
            before = CpuTime.taken()
            learner.update(episodes, episodes.rewards, is_on_policy=True)
            updates.append(CpuTime.taken().beyond(before).learner / plan.episodes)
    return Costs(
        snapshot_bytes=len(pickle.dumps(policy.snapshot(0))),
        ticket_bytes=len(pickle.dumps(episodes.tickets[:1])),
        episode_bytes=len(pickle.dumps(episodes)) // len(episodes),
        hand_over_cpu_seconds=Spread.of(taken.learner / plan.episodes for taken in played),
        update_cpu_seconds=Spread.of(updates),
        daemon_cpu_seconds=Spread.of(taken.daemons / plan.episodes for taken in played),
        cpu_time_at_rest=resting,
        start_seconds=start_seconds,
        actor_bytes=actor_bytes,
    )


def play(collector: Collector, policy: ActorCritic, version: int, count: int) -> Episodes:
    """A batch of so many episodes."""
    from workflow_rl.evaluation import evaluate_policy, evaluation_tickets
    from workflow_rl.workflow import Workflow

    snapshot = policy.snapshot(version)
    tickets = evaluation_tickets(
        _WAITS.environment(),
        snapshot,
        run_seed=0,
        episodes=range(count),
        batch=version,
        workflow=Workflow.from_index(0),
    )
    return evaluate_policy(collector, snapshot, tickets)


def actors() -> list[int]:
    """The processes of the actors: children of Ray's daemons, which name them."""
    daemons = processes.children_of(os.getpid())
    children = [child for daemon in daemons for child in processes.children_of(daemon)]
    return [child for child in children if b"ActorWorker" in Path(f"/proc/{child}/cmdline").read_bytes()]


def measure_rest(seconds: float) -> CpuTime:
    """CPU time of a second in which nothing goes on, the mean of so many."""
    before = CpuTime.taken()
    time.sleep(seconds)
    taken = CpuTime.taken().beyond(before)
    return CpuTime(taken.learner / seconds, taken.daemons / seconds)


class BusyPool:
    """A worker that plays and never comes back, as the dispatcher sees it."""

    def __init__(self, size: int, report: Callable[[Report], None]) -> None:  # noqa: ARG002  (never reports)
        self.num_workers = size
        self.calls = {0: Call(0, (), SimpleQueue())}
        self.is_ready = True
        self.num_prefetched = 0

    def look_after(self, episode_timeout: float | None) -> None:
        """Nothing happens to it."""

    def terminate(self) -> list[BaseProcess]:
        """It has no process."""
        return []


def search_cpu_seconds(workers: int) -> float:
    """CPU time of the dispatcher's search for a free one of so many workers."""
    from workflow_rl.collectors.dispatcher import Dispatcher

    dispatcher = Dispatcher([1] * workers, cast("MakePool", BusyPool), None)
    started, count = time.thread_time(), 0
    while time.thread_time() - started < _SEARCHING_SECONDS:
        dispatcher._emptiest()
        count += 1
    seconds = (time.thread_time() - started) / count
    dispatcher.close()
    return seconds


def load_of(cluster: Cluster, costs: Costs) -> dict[str, float]:
    """What a cluster asks of its learner, and what it gets."""
    search = _SEARCHES * search_cpu_seconds(cluster.workers)
    cpu_seconds = costs.hand_over_cpu_seconds.median + search + costs.update_cpu_seconds.median
    possible = cluster.workers / cluster.episode_seconds
    rate = min(possible, 1.0 / cpu_seconds)
    machines = -(-cluster.workers // cluster.workers_per_machine)
    sent = rate * (costs.ticket_bytes + costs.snapshot_bytes * machines / cluster.workers)
    return {
        **asdict(cluster),
        "search_cpu_seconds": search,
        "possible_episodes_per_second": possible,
        "learner_cores_needed": possible * cpu_seconds,
        "episodes_per_second": rate,
        "busy_workers": rate * cluster.episode_seconds,
        "received_bytes_per_second": rate * costs.episode_bytes,
        "sent_bytes_per_second": sent,
        "share_of_1_gbit": possible * costs.episode_bytes / _GIGABIT_BYTES,
        "share_of_10_gbit": possible * costs.episode_bytes / (10 * _GIGABIT_BYTES),
    }


@click.command(help=__doc__)
@click.option("--actors", "num_actors", type=click.IntRange(1), default=4, show_default=True)
@click.option("--episodes", type=click.IntRange(2), default=400, show_default=True, help="In each round.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--n-workers", default="100,1000,10000", show_default=True, help="To compute, comma-separated.")
@click.option("--workers-per-machine", type=click.IntRange(1), default=100, show_default=True)
@click.option(
    "--episode-seconds", default="0.56,5.6,56", show_default=True, help="Mean of an episode, comma-separated."
)
@report.json_option
@click.option("--quick", is_flag=True, help="Two actors and a few episodes, to see that it runs.")
def main(
    num_actors: int,
    episodes: int,
    rounds: int,
    n_workers: str,
    workers_per_machine: int,
    episode_seconds: str,
    json_file: Path | None,
    quick: bool,
) -> None:
    plan = Plan(num_actors, episodes, rounds, rest_seconds=10.0)
    if quick:
        plan = Plan(actors=2, episodes=8, rounds=1, rest_seconds=0.5)
    clusters = [
        Cluster(int(workers), workers_per_machine, float(seconds))
        for seconds in episode_seconds.split(",")
        for workers in n_workers.split(",")
    ]

    def figures() -> dict[str, Any]:
        costs = measure(plan)
        return {
            "plan": asdict(plan),
            "costs": asdict(costs),
            "clusters": [load_of(cluster, costs) for cluster in clusters],
        }

    report.run("cluster", figures, own_load=num_actors + 1, json_file=json_file)


if __name__ == "__main__":
    report.run_program(main)
