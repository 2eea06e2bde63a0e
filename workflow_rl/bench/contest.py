"""Systems take turns at the same training: same policy, same batches, same machine, one at a time.

Every turn (`turn`) starts its system from nothing and ends it, so that nobody's idle workers disturb anybody
else, start-up is measured as often as anything else, and what a system takes of the machine is what has been
started. Turns are equally long in time rather than in episodes, since systems differ a hundredfold. A round
is a turn of each system, in an order that is turned round from one to the next.

The learner is PPO on the environment's own reward, always from the same fresh policy.
"""

from __future__ import annotations

import math
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from workflow_rl.bench.regimes import Regime
from workflow_rl.bench.turn import Turn, Watch
from workflow_rl.collectors import Collector, SequentialCollector, SynchronousCollector, make_collector
from workflow_rl.environments import preload_modules
from workflow_rl.episode import Episodes
from workflow_rl.fork_server import worker_context
from workflow_rl.pipeline import Counters, Learnt, Pipeline
from workflow_rl.policy import ActorCritic
from workflow_rl.ppo import PPO
from workflow_rl.settings import CollectorSettings, PPOSettings

_SEED = 0
_CATCHING_UP = 3
"""Updates, beyond the lag, after which a learner that fell behind in its first update has caught up; counted
among them, batches that had been waiting for it would show more episodes than are played."""

_ALONE_SECONDS = 0.4


@dataclass(frozen=True)
class System:
    """Somebody who collects.

    Attributes:
        name: unique among those it is compared with.
        settings: of its collector.
        batch_size: episodes of an update.
        regime: what it plays.
        most_seconds: counted in a turn of it, however long those of others are.
    """

    name: str
    settings: CollectorSettings
    batch_size: int
    regime: Regime
    most_seconds: float = math.inf


@dataclass(frozen=True)
class Alone:
    """What an episode costs one environment in the learner's process.

    Attributes:
        episode_seconds: wall time.
        episode_cpu_seconds: CPU time, if there is nothing to wait for: who sleeps wakes up with cold caches,
            and the more often the fewer others there are.
    """

    episode_seconds: float
    episode_cpu_seconds: float

    @classmethod
    def of(cls, turns: Sequence[Turn]) -> Self:
        """The medians of turns of one environment in which nobody waits for anything."""
        return cls(
            statistics.median(turn.waiting_seconds / turn.episodes for turn in turns),
            statistics.median(turn.playing_cpu_per_episode for turn in turns),
        )


@dataclass(frozen=True)
class Schedule:
    """How long systems are compared.

    Attributes:
        rounds: turns of each system.
        seconds: counted in each turn, at least, and at least two updates.
        show: told what is going on.
    """

    rounds: int
    seconds: float
    show: Callable[[str], None]


def play_rounds(systems: Sequence[System], schedule: Schedule) -> dict[str, list[Turn]]:
    """Let the systems take turns.

    Returns:
        By the systems' names, a turn for each round.

    Raises:
        WorkflowRLError: a system could not start, or its episodes could not be played.
    """
    turns: dict[str, list[Turn]] = {system.name: [] for system in systems}
    for number in range(schedule.rounds):
        for system in systems if number % 2 == 0 else reversed(systems):
            schedule.show(f"round {number + 1} of {schedule.rounds}: {system.name}")
            turns[system.name].append(take_turn(system, min(schedule.seconds, system.most_seconds)))
    return turns


def take_turn(system: System, seconds: float) -> Turn:
    """One turn, in which at least so many seconds and at least two updates count."""
    lag = system.settings.lag
    watch = Watch(system.batch_size, seconds, num_uncounted=lag + _CATCHING_UP if lag > 0 else 1)
    with make_collector(system.settings, system.regime.environment) as collector:
        for _ in _train(system.regime, collector, lag, watch):
            pass
        return watch.turn(collector.num_players)


def prepare(regime: Regime) -> Alone:
    """Have everything compiled and loaded, here and in the fork server, before anybody's time is taken.

    Returns:
        What an episode costs one environment in this process.
    """
    worker_context(preload_modules(regime.environment))
    first = multiprocessing.get_context("forkserver").Process(target=time.sleep, args=(0,))
    first.start()  # runs once the fork server has loaded everything
    _play_alone(regime.without_waits(), SynchronousCollector(1, preload=preload_modules(regime.environment)))
    busy = _play_alone(regime.without_waits(), SequentialCollector())
    turn = busy if regime.waits is None else _play_alone(regime, SequentialCollector())
    first.join()
    return Alone(turn.waiting_seconds / turn.episodes, busy.playing_cpu_per_episode)


def _play_alone(regime: Regime, collector: Collector) -> Turn:
    """A turn of a few episodes, one an update; the collector is closed."""
    watch = Watch(1, _ALONE_SECONDS, num_uncounted=1)
    with collector:
        for _ in _train(regime, collector, 0, watch):
            pass
        return watch.turn(collector.num_players)


def _train(regime: Regime, collector: Collector, lag: int, watch: Watch) -> Iterator[Learnt[None]]:
    """Train a fresh policy as long as the watch wants batches."""
    learner = PPO(ActorCritic(regime.shape, seed=_SEED), PPOSettings(), seed=_SEED)

    def learn(episodes: Episodes, policy_lag: int) -> None:
        with watch.updating(episodes):
            learner.update(episodes, episodes.rewards, is_on_policy=policy_lag == 0)

    pipeline = Pipeline(
        learner=learner,
        collector=collector,
        environment=regime.environment,
        workflow_of=lambda _: regime.workflow,
        run_seed=_SEED,
        lag=lag,
        counters=Counters(),
    )
    yield from pipeline.run(watch.next_size, learn)
