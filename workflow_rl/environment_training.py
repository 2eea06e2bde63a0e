"""Trains a policy on one Gymnasium environment: the pipeline of `train`, without a workflow.

    batch u      whole episodes, all of them, in index order
    played with  the snapshot after max(0, u - lag) updates

Episodes differ in length, and grow or shrink as the policy learns. So a batch is sized in steps: it gets as
many episodes as would have given `steps_per_update` with the mean length of the batch learnt from last. That
is arithmetic on what was learnt, so who plays what depends on no timing. An episode that was handed out is
always learnt from: counting steps first come would favour short episodes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workflow_rl.collectors import Collector
from workflow_rl.environments import gymnasium_environment
from workflow_rl.episode import EnvironmentSpec, Episodes, NetworkShape, Ticket
from workflow_rl.errors import SettingError, WorkflowRLError
from workflow_rl.evaluate import evaluate_policy, evaluation_tickets
from workflow_rl.normalization import RewardScaling, RunningMoments
from workflow_rl.policy import ActorCritic
from workflow_rl.ppo import PPO, UpdateStatistics
from workflow_rl.rollout import shape_for
from workflow_rl.seeding import Stream, generator
from workflow_rl.settings import EnvironmentTrainSettings

_FIRST_EPISODES = 8
"""Episodes of a batch that is handed out before the length of any is known."""


@dataclass(frozen=True)
class EnvironmentReport:
    """One update.

    Attributes:
        update: number of updates, from 1.
        episodes: learnt from so far.
        steps: learnt from so far.
        mean_return: of the batch's episodes, undiscounted, in the environment's own reward.
        mean_length: of the batch's episodes, in steps.
        collection_seconds: time the learner waited for the batch.
        update_seconds: time of the update.
        policy_lag: updates between the policy that played and the one that learnt.
        statistics: of PPO.
    """

    update: int
    episodes: int
    steps: int
    mean_return: float
    mean_length: float
    collection_seconds: float
    update_seconds: float
    policy_lag: int
    statistics: UpdateStatistics


@dataclass(frozen=True)
class EnvironmentScore:
    """What a policy earned over fresh episodes.

    Attributes:
        episodes: how many.
        mean_return: undiscounted, in the environment's own reward.
        standard_error: of that mean.
    """

    episodes: int
    mean_return: float
    standard_error: float


class EnvironmentTraining:
    """Trains one policy from fresh weights.

    Args:
        settings: of the run.
        collector: plays the episodes.
        is_interrupted: asked after every update; true ends training at once.

    Attributes:
        environment: what is played.
        learner: its policy and optimiser.
        is_interrupted: as above.

    Raises:
        SettingError: the environment cannot be made, or a space of it is not supported.
    """

    def __init__(
        self,
        settings: EnvironmentTrainSettings,
        collector: Collector,
        is_interrupted: Callable[[], bool] = lambda: False,
    ) -> None:
        self.environment = gymnasium_environment(settings.environment)
        self._settings = settings
        self._collector = collector
        self.is_interrupted = is_interrupted
        seed = settings.run.seed
        initial = int(generator(seed, Stream.POLICY_INITIALISATION, 0).integers(2**63))
        shape = _shape_of(self.environment, settings.ppo.hidden_size)
        normalizes = settings.environment.normalize_observations
        policy = ActorCritic(shape, initial, normalizes_observations=normalizes)
        self.learner = PPO(policy, settings.ppo, seed=seed)
        self._observations = RunningMoments(shape.num_observations)
        self._reward_scaling = RewardScaling(settings.ppo.discount)
        self._num_batches = 0
        self._num_episodes = 0
        self._episodes_learnt = 0
        self._steps_learnt = 0
        self._batch_size = _FIRST_EPISODES

    def run(self) -> Iterator[EnvironmentReport]:
        """Train until the steps are spent, yielding a report after every update."""
        self._publish()
        while True:
            while self._may_submit():
                self._submit()
            if self.learner.num_updates == self._num_batches:
                return
            yield self._learn()
            if self.is_interrupted():
                return

    def evaluate(self) -> EnvironmentScore:
        """Score the policy as it is now, taking its most probable actions."""
        snapshot = self.learner.policy.snapshot(self.learner.num_updates + 1)
        tickets = evaluation_tickets(
            self.environment,
            snapshot,
            run_seed=self._settings.run.seed,
            episodes=range(self._settings.environment.evaluation_episodes),
            batch=self._num_batches,
            workflow=None,
            greedy=True,
        )
        returns = evaluate_policy(self._collector, snapshot, tickets).returns()
        error = returns.std(ddof=1) / np.sqrt(len(returns))
        return EnvironmentScore(len(returns), float(returns.mean()), float(error))

    def _may_submit(self) -> bool:
        """Whether another batch is wanted, and not further ahead of the learner than the lag."""
        is_wanted = self._steps_learnt < self._settings.environment.total_steps
        return is_wanted and self._num_batches <= self.learner.num_updates + self._settings.collector.lag

    def _publish(self) -> None:
        self._collector.publish(self.learner.policy.snapshot(self.learner.num_updates))

    def _submit(self) -> None:
        first, batch = self._num_episodes, self._num_batches
        self._num_episodes += self._batch_size
        self._num_batches += 1
        self._collector.submit(
            [
                Ticket(
                    run_seed=self._settings.run.seed,
                    stream=Stream.TRAINING_EPISODE,
                    episode=episode,
                    environment=self.environment,
                    version=max(0, batch - self._settings.collector.lag),
                    batch=batch,
                )
                for episode in range(first, self._num_episodes)
            ]
        )

    def _learn(self) -> EnvironmentReport:
        start = time.monotonic()
        batch = self.learner.num_updates
        episodes = self._collector.collect(batch)
        collected = time.monotonic()
        policy_lag = batch - episodes.tickets[0].version
        statistics = self.learner.update(episodes, self._rewards_of(episodes), is_on_policy=policy_lag == 0)
        self._renew_normalization(episodes)
        self._publish()
        self._count(episodes)
        return EnvironmentReport(
            update=self.learner.num_updates,
            episodes=self._episodes_learnt,
            steps=self._steps_learnt,
            mean_return=float(episodes.returns().mean()),
            mean_length=float(episodes.lengths.mean()),
            collection_seconds=collected - start,
            update_seconds=time.monotonic() - collected,
            policy_lag=policy_lag,
            statistics=statistics,
        )

    def _rewards_of(self, episodes: Episodes) -> NDArray[np.float32]:
        """What the learner maximises, (N,) float32."""
        if self._settings.environment.normalize_rewards:
            return self._reward_scaling.scale(episodes)
        return episodes.rewards

    def _renew_normalization(self, episodes: Episodes) -> None:
        """Between updates: within one, the policy that learns is the one that played, at lag 0."""
        if self._settings.environment.normalize_observations:
            self._observations.add(episodes.observations)
            self.learner.policy.set_normalization(self._observations.mean, self._observations.deviation)

    def _count(self, episodes: Episodes) -> None:
        self._episodes_learnt += len(episodes)
        self._steps_learnt += episodes.num_steps
        wanted = self._settings.environment.steps_per_update * len(episodes) / episodes.num_steps
        self._batch_size = max(1, round(wanted))


def _shape_of(environment: EnvironmentSpec, hidden_size: int) -> NetworkShape:
    try:
        return shape_for(environment, hidden_size=hidden_size, has_workflow=False)
    except WorkflowRLError:
        raise
    except Exception as error:
        raise SettingError(
            f"--env {environment.id} cannot be made: {type(error).__name__}: {error}"
        ) from error
