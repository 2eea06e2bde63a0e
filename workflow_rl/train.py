"""The pipeline that trains one order: collect, update, publish, with a fixed lag and no barrier.

    batch u      holds the next `episodes_per_update` episodes, all of them, in index order
    played with  the snapshot after max(0, u - lag) updates

Both are arithmetic, so which policy plays which episode never depends on timing. At lag 0 workers wait for
the learner; at lag 1 they play batch u + 1 while the learner updates on batch u. When training is to end, the
batches already handed out are still learnt from: nothing that was played is dropped. For the same reason a
batch that was in flight when a run was cut off can be handed out again, the same to the last bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Self

import numpy as np
from numpy.typing import NDArray

from workflow_rl.alignment import FixCounts, alignment_reward, compliance_of, judge_fixes
from workflow_rl.collectors import Collector
from workflow_rl.episode import EnvironmentSpec, Episodes, Snapshot, Ticket
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


@dataclass
class OrderProgress:
    """How far the training of an order has come; whole numbers and rewards, so that JSON holds it exactly.

    Which episodes a batch of the order holds and which policy plays them follows from these numbers alone.

    Attributes:
        num_episodes: the budget of the order.
        first_episode: number of its first training episode.
        first_batch: number of its first batch.
        first_version: version of the policy it starts with.
        num_submitted: batches handed out so far.
        num_learnt: batches learnt from so far; those between the two numbers are in flight.
        best_reward: of the batches learnt from, in what the learner maximises; `None` before the first.
        updates_since_best: updates without a better batch.
        is_ending: whether no more batches are to be handed out.
    """

    num_episodes: int
    first_episode: int
    first_batch: int
    first_version: int
    num_submitted: int = 0
    num_learnt: int = 0
    best_reward: float | None = None
    updates_since_best: int = 0
    is_ending: bool = False

    @classmethod
    def start(cls, num_episodes: int, counters: Counters) -> Self:
        """The progress of an order that begins where the run is now."""
        return cls(num_episodes, counters.episode, counters.batch, counters.version)

    @property
    def in_flight(self) -> range:
        """The order's batches that were handed out and not learnt from, counted from 0."""
        return range(self.num_learnt, self.num_submitted)

    def count_update(self, report: UpdateReport, settings: SearchSettings) -> None:
        """Take in one more update; see whether training ends before the episodes are spent."""
        self.num_learnt += 1
        self.updates_since_best += 1
        if report.total_reward > (-math.inf if self.best_reward is None else self.best_reward):
            self.best_reward = report.total_reward
            self.updates_since_best = 0
        is_learnt = (
            settings.stop_rule == "threshold"
            and report.compliance is not None
            and report.compliance >= settings.compliance_threshold
        )
        if is_learnt or self.updates_since_best >= settings.patience_updates:
            self.is_ending = True


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
        progress: how far it has come; with `snapshots_in_flight`, the learner and the counters it is, between
            updates, all that `resume` needs.
    """

    workflow: Workflow
    learner: PPO
    environment: EnvironmentSpec
    settings: TrainSettings
    collector: Collector
    counters: Counters
    is_interrupted: Callable[[], bool]
    progress: OrderProgress = field(init=False)
    _snapshots: dict[int, Snapshot] = field(default_factory=dict, init=False)

    @property
    def snapshots_in_flight(self) -> dict[int, Snapshot]:
        """Those that play the batches in flight, by version."""
        return {version: self._snapshots[version] for version in self._versions_in_flight}

    def run(self, num_episodes: int) -> Iterable[UpdateReport]:
        """Train for at most `num_episodes` episodes, yielding a report after every update."""
        self.progress = OrderProgress.start(num_episodes, self.counters)
        return self._updates()

    def resume(self, progress: OrderProgress, snapshots: Mapping[int, Snapshot]) -> Iterable[UpdateReport]:
        """Go on where another process was cut off: its batches in flight are handed out again, as they were.

        Args:
            progress: its `progress` after an update; the learner and the counters are those of that moment.
            snapshots: its `snapshots_in_flight`.
        """
        self.progress = progress
        self._snapshots = dict(snapshots)
        return self._updates()

    def _updates(self) -> Iterable[UpdateReport]:
        progress = self.progress
        lag = self.settings.collector.lag
        self._hand_out_again()
        round_start = time.monotonic()
        while True:
            limit = min(progress.num_learnt + lag + 1, self._num_batches)
            while not progress.is_ending and progress.num_submitted < limit:
                self._submit(progress.num_submitted)
                progress.num_submitted += 1
            if not progress.in_flight:
                return
            report = self._learn(progress.num_learnt, round_start=round_start)
            round_start = time.monotonic()
            progress.count_update(report, self.settings.search)
            self._publish()
            yield report
            if self.is_interrupted():
                return

    def _hand_out_again(self) -> None:
        """Publish and submit what was in flight, if anything was, and publish the policy as it is now."""
        for version, batches in groupby(self.progress.in_flight, key=self._version_playing):
            self.collector.publish(self._snapshots[version])
            for index in batches:
                self._submit(index)
        if self._version not in self._versions_in_flight:
            self._publish()

    @property
    def _num_batches(self) -> int:
        return math.ceil(self.progress.num_episodes / self.settings.search.episodes_per_update)

    @property
    def _version(self) -> int:
        """Of the learner's policy as it is now."""
        return self.progress.first_version + self.progress.num_learnt

    def _version_playing(self, index: int) -> int:
        """The version that plays one of the order's batches."""
        return self.progress.first_version + max(0, index - self.settings.collector.lag)

    @property
    def _versions_in_flight(self) -> set[int]:
        return {self._version_playing(index) for index in self.progress.in_flight}

    def _publish(self) -> None:
        snapshot = self.learner.policy.snapshot(self._version)
        self._snapshots = {**self.snapshots_in_flight, snapshot.version: snapshot}
        self.counters.version = snapshot.version + 1
        self.collector.publish(snapshot)

    def _submit(self, index: int) -> None:
        """Hand out one of the order's batches; the last one may be smaller than the others."""
        per_update = self.settings.search.episodes_per_update
        first = self.progress.first_episode + index * per_update
        end = self.progress.first_episode + min((index + 1) * per_update, self.progress.num_episodes)
        batch = self.progress.first_batch + index
        self.counters.episode = end
        self.counters.batch = batch + 1
        self.collector.submit(
            [
                Ticket(
                    run_seed=self.settings.run.seed,
                    stream=Stream.TRAINING_EPISODE,
                    episode=episode,
                    environment=self.environment,
                    version=self._version_playing(index),
                    batch=batch,
                    workflow=self.workflow.index,
                )
                for episode in range(first, end)
            ]
        )

    def _learn(self, index: int, *, round_start: float) -> UpdateReport:
        start = time.monotonic()
        episodes = self.collector.collect(self.progress.first_batch + index)
        collected = time.monotonic()
        policy_lag = self._version - self._version_playing(index)
        judgement = judge(episodes, self.workflow, self.settings.alignment)
        statistics = self.learner.update(
            episodes, episodes.rewards + judgement.alignment_rewards, is_on_policy=policy_lag == 0
        )
        end = time.monotonic()
        total_episodes = episodes.tickets[-1].episode + 1
        return UpdateReport(
            workflow=self.workflow,
            update=self.learner.num_updates,
            episodes=total_episodes - self.progress.first_episode,
            total_episodes=total_episodes,
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
