"""The pipeline that trains one order: collect, update, publish, with a fixed lag and no barrier.

    batch u      holds the next `episodes_per_update` episodes, all of them, in index order
    played with  the snapshot after max(0, u - lag) updates

Both are arithmetic, so which policy plays which episode never depends on timing. At lag 0 workers wait for
the learner; at lag 1 they play batch u + 1 while the learner updates on batch u. When training is to end, the
batches already handed out are still learnt from: nothing that was played is dropped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from workflow_rl.alignment import FixCounts, alignment_reward, compliance_of, judge_fixes
from workflow_rl.collectors import Collector
from workflow_rl.episode import EnvironmentSpec, Episodes, Ticket
from workflow_rl.ppo import PPO, UpdateStatistics
from workflow_rl.seeding import Stream
from workflow_rl.settings import AlignmentSettings, SearchSettings, TrainSettings
from workflow_rl.workflow import Workflow


@dataclass
class Counters:
    """Numbers that a run hands out once each, over all its orders."""

    episode: int = 0
    evaluation_episode: int = 0
    batch: int = 0
    version: int = 0


@dataclass(frozen=True, eq=False)
class Judgement:
    """A batch as the workflow sees it.

    Attributes:
        env_returns: sum of the simulator's reward of each episode, (E,) float64.
        alignment_rewards: of each step, (N,) float32.
        alignment_returns: sum of the alignment reward of each episode, (E,) float64.
        compliance: of all fixes of the batch, `None` if there was none to judge.
        fixes_per_episode: mean number of fixes.
    """

    env_returns: NDArray[np.float64]
    alignment_rewards: NDArray[np.float32]
    alignment_returns: NDArray[np.float64]
    compliance: float | None
    fixes_per_episode: float

    @property
    def total_returns(self) -> NDArray[np.float64]:
        """What the learner maximises, unscaled, (E,) float64."""
        return self.env_returns + self.alignment_returns


def judge(episodes: Episodes, workflow: Workflow, settings: AlignmentSettings) -> Judgement:
    """Judge a batch: who fixed what in which order, and what that is worth."""
    judged = [
        judge_fixes(episodes.actions[steps], episodes.compromised[steps], workflow, settings.compliance)
        for steps in episodes.step_slices()
    ]
    rewards = [alignment_reward(j, settings.alignment_scheme, settings.alignment_lambda) for j in judged]
    return Judgement(
        env_returns=episodes.returns(),
        alignment_rewards=np.concatenate(rewards),
        alignment_returns=np.array([reward.sum(dtype=np.float64) for reward in rewards]),
        compliance=compliance_of(judged, settings.compliance),
        fixes_per_episode=sum(FixCounts.of(j).total for j in judged) / len(judged),
    )


@dataclass(frozen=True)
class UpdateReport:
    """One update, for logs and displays.

    Attributes:
        workflow: the order in training.
        update: number of updates of this order, from 1.
        episodes: training episodes of this order so far.
        total_episodes: training episodes of the run so far.
        env_reward: mean return of the batch in the simulator's own reward.
        alignment_reward: mean alignment return of the batch.
        compliance: of the batch, `None` without a fix to judge.
        fixes_per_episode: mean number of fixes.
        collection_seconds: time the learner waited for the batch.
        update_seconds: time of the update.
        round_seconds: from the end of the last update (of the start of training) to the end of this one.
        playing_seconds: that workers played the batch's episodes, summed over workers.
        batch_size: episodes of the batch.
        policy_lag: updates between the policy that played and the one that learnt.
        statistics: of PPO.
    """

    workflow: Workflow
    update: int
    episodes: int
    total_episodes: int
    env_reward: float
    alignment_reward: float
    compliance: float | None
    fixes_per_episode: float
    collection_seconds: float
    update_seconds: float
    round_seconds: float
    playing_seconds: float
    batch_size: int
    policy_lag: int
    statistics: UpdateStatistics

    @property
    def total_reward(self) -> float:
        """What the learner maximises, unscaled."""
        return self.env_reward + self.alignment_reward

    @property
    def episodes_per_second(self) -> float:
        """Episodes of the batch per second of this round, collection and update together."""
        return self.batch_size / self.round_seconds


class Ending:
    """When the training of an order ends before its episodes are spent."""

    def __init__(self, settings: SearchSettings) -> None:
        self._settings = settings
        self._best = -math.inf
        self._updates_since_best = 0

    def is_reached(self, report: UpdateReport) -> bool:
        """Whether to stop, having seen one more update."""
        self._updates_since_best += 1
        if report.total_reward > self._best:
            self._best = report.total_reward
            self._updates_since_best = 0
        is_learnt = (
            self._settings.stop_rule == "threshold"
            and report.compliance is not None
            and report.compliance >= self._settings.compliance_threshold
        )
        return is_learnt or self._updates_since_best >= self._settings.patience_updates


def batch_sizes(num_episodes: int, per_update: int) -> list[int]:
    """Split a budget into batches; the last one may be smaller."""
    whole, rest = divmod(num_episodes, per_update)
    return [per_update] * whole + [rest] * (rest > 0)


@dataclass
class OrderTraining:
    """Trains one order.

    Attributes:
        workflow: the order.
        learner: its policy and optimiser.
        environment: what is played.
        settings: of the run.
        collector: plays the episodes.
        counters: of the run, advanced in place.
        is_interrupted: asked after every update; true ends training at once.
    """

    workflow: Workflow
    learner: PPO
    environment: EnvironmentSpec
    settings: TrainSettings
    collector: Collector
    counters: Counters
    is_interrupted: Callable[[], bool]
    _num_learnt: int = field(default=0, init=False)

    def run(self, num_episodes: int) -> Iterable[UpdateReport]:
        """Train for at most `num_episodes` episodes, yielding a report after every update."""
        lag = self.settings.collector.lag
        sizes = batch_sizes(num_episodes, self.settings.search.episodes_per_update)
        first_version = self._publish()
        first_batch = self.counters.batch
        ending = Ending(self.settings.search)
        num_submitted = update = 0
        is_ending = False
        round_start = time.monotonic()
        while True:
            while not is_ending and num_submitted < min(update + lag + 1, len(sizes)):
                self._submit(sizes[num_submitted], first_version + max(0, num_submitted - lag))
                num_submitted += 1
            if update == num_submitted:
                return
            report = self._learn(first_batch + update, policy_lag=min(update, lag), round_start=round_start)
            round_start = time.monotonic()
            update += 1
            self._publish()
            yield report
            if self.is_interrupted():
                return
            is_ending = is_ending or ending.is_reached(report)

    def _publish(self) -> int:
        version = self.counters.version
        self.counters.version += 1
        self.collector.publish(self.learner.policy.snapshot(version))
        return version

    def _submit(self, size: int, version: int) -> None:
        first = self.counters.episode
        self.collector.submit(
            [
                Ticket(
                    run_seed=self.settings.run.seed,
                    stream=Stream.TRAINING_EPISODE,
                    episode=episode,
                    environment=self.environment,
                    version=version,
                    batch=self.counters.batch,
                    workflow=self.workflow.index,
                )
                for episode in range(first, first + size)
            ]
        )
        self.counters.episode += size
        self.counters.batch += 1

    def _learn(self, batch: int, *, policy_lag: int, round_start: float) -> UpdateReport:
        start = time.monotonic()
        episodes = self.collector.collect(batch)
        collected = time.monotonic()
        judgement = judge(episodes, self.workflow, self.settings.alignment)
        statistics = self.learner.update(
            episodes, episodes.rewards + judgement.alignment_rewards, is_on_policy=policy_lag == 0
        )
        end = time.monotonic()
        last_episode = episodes.tickets[-1].episode
        self._num_learnt += len(episodes)
        return UpdateReport(
            workflow=self.workflow,
            update=self.learner.num_updates,
            episodes=self._num_learnt,
            total_episodes=last_episode + 1,
            env_reward=float(judgement.env_returns.mean()),
            alignment_reward=float(judgement.alignment_returns.mean()),
            compliance=judgement.compliance,
            fixes_per_episode=judgement.fixes_per_episode,
            collection_seconds=collected - start,
            update_seconds=end - collected,
            round_seconds=end - round_start,
            playing_seconds=float(episodes.seconds.sum(dtype=np.float64)),
            batch_size=len(episodes),
            policy_lag=policy_lag,
            statistics=statistics,
        )
