"""The training pipeline: hand out, collect, learn, publish, with a fixed lag and no barrier.

    batch u      so many episodes, all of them, in index order
    played with  the snapshot after max(0, u - lag) updates

A batch is handed out as soon as the learner is `lag` updates behind it, and played by the policy as it is
then. That is arithmetic, so which policy plays which episode never depends on timing. At lag 0 workers wait
for the learner; at lag 1 they play batch u + 1 while the learner updates on batch u. When training is to end,
the batches already handed out are still learnt from: nothing that was played is dropped. For the same reason
a batch that was in flight when a run was cut off can be handed out again, the same to the last bit.

How large the next batch is, and what is learnt from one, is up to the training that runs the pipeline.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from workflow_rl.collectors import Collector
from workflow_rl.episode import EnvironmentSpec, Episodes, Snapshot, Ticket
from workflow_rl.ppo import PPO
from workflow_rl.seeding import Stream

_LEARNER = "learner."
_SNAPSHOT = "snapshot."
"""What the names of a saved pipeline's arrays begin with."""

_Outcome = TypeVar("_Outcome")


@dataclass
class Counters:
    """Numbers that a run hands out once each, over all its pipelines."""

    episode: int = 0
    evaluation_episode: int = 0
    batch: int = 0
    version: int = 0


@dataclass(frozen=True)
class Handout:
    """A batch that was handed out.

    Attributes:
        batch: its number in the run.
        version: of the policy that plays it.
        first_episode: number of its first episode.
        num_episodes: how many it has.
    """

    batch: int
    version: int
    first_episode: int
    num_episodes: int


@dataclass(frozen=True, kw_only=True)
class Round:
    """One round of the pipeline: a batch was awaited and learnt from.

    Attributes:
        update: number of updates of the learner, from 1.
        batch_size: episodes of the batch.
        policy_lag: updates between the policy that played and the one that learnt.
        collection_seconds: time the learner waited for the batch.
        update_seconds: time of the update.
        round_seconds: from the end of the last update (of the start of training) to the end of this one.
        playing_seconds: that workers played the batch's episodes, summed over workers.
    """

    update: int
    batch_size: int
    policy_lag: int
    collection_seconds: float
    update_seconds: float
    round_seconds: float
    playing_seconds: float


@dataclass(frozen=True, eq=False)
class Learnt(Generic[_Outcome]):
    """A batch, and what came of learning from it.

    Attributes:
        round: when and how.
        episodes: the batch.
        outcome: what `learn` returned.
    """

    round: Round
    episodes: Episodes
    outcome: _Outcome


@dataclass
class Pipeline:
    """Trains one policy, batch by batch.

    Between two rounds all that is to come follows from the counters, `to_state` and `to_arrays`.

    Attributes:
        learner: the policy and its optimiser.
        collector: plays the episodes.
        environment: what is played.
        workflow_of: index of the order that the policy is told in an episode, by the episode's number; `None`
            for a policy without workflow.
        mask: see `Ticket.mask`.
        run_seed: seed of the run.
        lag: updates by which the policy that plays may be behind the learner.
        counters: of the run, advanced in place.
    """

    learner: PPO
    collector: Collector
    environment: EnvironmentSpec
    workflow_of: Callable[[int], int | None]
    run_seed: int
    lag: int
    counters: Counters
    mask: str | None = None
    _version: int = field(init=False)
    _in_flight: list[Handout] = field(default_factory=list, init=False)
    _snapshots: dict[int, Snapshot] = field(default_factory=dict, init=False)
    _has_begun: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._version = self.counters.version

    def run(
        self, next_size: Callable[[], int], learn: Callable[[Episodes, int], _Outcome]
    ) -> Iterator[Learnt[_Outcome]]:
        """Train until no batch is wanted any more, yielding after every update.

        Args:
            next_size: says how many episodes the next batch is to have; 0 if none is wanted.
            learn: learns from a batch, given its episodes and its policy lag.

        Raises:
            EpisodeError: an environment failed.
            CollectorError: workers died more often than is tolerated.
            LearnerError: the policy cannot be handed to the workers; or what `learn` raises.
        """
        self.begin()
        round_start = time.monotonic()
        while self._fill(next_size):
            start = time.monotonic()
            handout = self._in_flight[0]
            episodes = self.collector.collect(handout.batch)
            collected = time.monotonic()
            policy_lag = self._version - handout.version
            outcome = learn(episodes, policy_lag)
            end = time.monotonic()
            done = Round(
                update=self.learner.num_updates,
                batch_size=len(episodes),
                policy_lag=policy_lag,
                collection_seconds=collected - start,
                update_seconds=end - collected,
                round_seconds=end - round_start,
                playing_seconds=float(episodes.seconds.sum(dtype=np.float64)),
            )
            self._advance()
            yield Learnt(done, episodes, outcome)
            round_start = end

    def begin(self) -> Snapshot:
        """Publish the policy as it is now, and hand out again what was in flight; once, at the start.

        Returns:
            The policy as it is now, which the collector knows.
        """
        if not self._has_begun:
            self._has_begun = True
            for version, handouts in groupby(self._in_flight, key=lambda handout: handout.version):
                self.collector.publish(self._snapshots[version])
                for handout in handouts:
                    self._submit(handout)
            if self._version not in self._snapshots:
                self._publish()
        return self._snapshots[self._version]

    def discard(self) -> None:
        """Await what is in flight and learn nothing from it; what `to_state` says stays as it was."""
        if self._has_begun:
            for handout in self._in_flight:
                self.collector.collect(handout.batch)

    def to_state(self) -> dict[str, Any]:
        """What `restore` needs beside `to_arrays`, JSON values."""
        return {"version": self._version, "in_flight": [asdict(handout) for handout in self._in_flight]}

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """The learner's state, and the snapshots that play the batches in flight."""
        learner = {f"{_LEARNER}{name}": array for name, array in self.learner.state().items()}
        versions = {handout.version for handout in self._in_flight}
        return learner | {f"{_SNAPSHOT}{v}": self._snapshots[v].parameters for v in versions}

    def restore(self, state: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Go on where another process was cut off, before `run`; the counters are those of that moment.

        Args:
            state: its `to_state`.
            arrays: its `to_arrays`, among others.

        Raises:
            KeyError, RuntimeError, TypeError, ValueError: they are those of something else.
        """
        self.learner.restore(arrays_with(_LEARNER, arrays))
        self._version = state["version"]
        self._in_flight = [Handout(**handout) for handout in state["in_flight"]]
        shape = self.learner.policy.shape
        parameters = arrays_with(_SNAPSHOT, arrays)
        self._snapshots = {
            handout.version: Snapshot(handout.version, shape, parameters[str(handout.version)])
            for handout in self._in_flight
        }

    def _fill(self, next_size: Callable[[], int]) -> bool:
        """Hand out as many batches as the lag allows and as are wanted; whether any is in flight."""
        while len(self._in_flight) <= self.lag and (size := next_size()) > 0:
            handout = Handout(self.counters.batch, self._version, self.counters.episode, size)
            self.counters.batch += 1
            self.counters.episode += size
            self._in_flight.append(handout)
            self._submit(handout)
        return bool(self._in_flight)

    def _advance(self) -> None:
        """The oldest batch in flight is learnt from, and the policy is another one."""
        del self._in_flight[0]
        self._version += 1
        needed = {handout.version for handout in self._in_flight}
        self._snapshots = {v: snapshot for v, snapshot in self._snapshots.items() if v in needed}
        self._publish()

    def _publish(self) -> None:
        snapshot = self.learner.policy.snapshot(self._version)
        self._snapshots[snapshot.version] = snapshot
        self.counters.version = snapshot.version + 1
        self.collector.publish(snapshot)

    def _submit(self, handout: Handout) -> None:
        self.collector.submit(
            [
                Ticket(
                    run_seed=self.run_seed,
                    stream=Stream.TRAINING_EPISODE,
                    episode=episode,
                    environment=self.environment,
                    version=handout.version,
                    batch=handout.batch,
                    workflow=self.workflow_of(episode),
                    mask=self.mask,
                )
                for episode in range(handout.first_episode, handout.first_episode + handout.num_episodes)
            ]
        )


def arrays_with(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The arrays whose names begin with the prefix, by the rest of their names."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
