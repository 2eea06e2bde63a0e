"""Trains a policy on one Gymnasium environment: the pipeline, without a workflow.

Episodes differ in length, and grow or shrink as the policy learns. So a batch is sized in steps: it gets as
many episodes as would have given `steps_per_update` with the mean length of the batch learnt from last. That
is arithmetic on what was learnt, so who plays what depends on no timing. An episode that was handed out is
always learnt from: counting steps first come would favour short episodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workflow_rl.collectors import Collector
from workflow_rl.environments import constructor_errors, gymnasium_environment
from workflow_rl.episode import EnvironmentSpec, Episodes, NetworkShape
from workflow_rl.evaluation import EnvironmentScore, evaluation_tickets, score_environment
from workflow_rl.normalization import RewardScaling, RunningMoments
from workflow_rl.pipeline import Counters, Learnt, Pipeline, Round, arrays_with
from workflow_rl.policy import ActorCritic
from workflow_rl.ppo import PPO, UpdateStatistics
from workflow_rl.rollout import shape_for
from workflow_rl.seeding import Stream, policy_seed
from workflow_rl.settings import EnvironmentTrainSettings

_FIRST_EPISODES = 8
"""Episodes of a batch that is handed out before the length of any is known."""

_MOST_EPISODES = 2**32
"""Of one training: from here on numbers are those of the next one of the run."""

_OBSERVATIONS = "observations."
_REWARDS = "rewards."
"""What the names of the moments' arrays in a checkpoint begin with."""


@dataclass(frozen=True, kw_only=True)
class EnvironmentReport(Round):
    """One update.

    Attributes:
        episodes: learnt from so far.
        steps: learnt from so far.
        mean_return: of the batch's episodes, undiscounted, in the environment's own reward.
        mean_length: of the batch's episodes, in steps.
        statistics: of PPO.
    """

    episodes: int
    steps: int
    mean_return: float
    mean_length: float
    statistics: UpdateStatistics


@dataclass
class EnvironmentProgress:
    """How far the training has come; whole numbers, so that JSON holds it exactly.

    Attributes:
        episodes: learnt from so far.
        steps: learnt from so far.
        batch_size: episodes that the next batch is to have.
    """

    episodes: int = 0
    steps: int = 0
    batch_size: int = _FIRST_EPISODES


class EnvironmentTraining:
    """Trains one policy from fresh weights.

    Args:
        settings: of the run.
        collector: plays the episodes.
        is_interrupted: asked after every update; true ends training at once.
        beginning: tells apart the trainings of a run that begins more than once, from 0. Each has weights,
            minibatches and episodes of its own.

    Attributes:
        beginning: as above.
        environment: what is played.
        learner: its policy and optimiser.
        is_interrupted: as above.
        progress: how far it has come.

    Raises:
        SettingError: the environment cannot be made, or a space of it is not supported.
    """

    def __init__(
        self,
        settings: EnvironmentTrainSettings,
        collector: Collector,
        is_interrupted: Callable[[], bool] = lambda: False,
        *,
        beginning: int = 0,
    ) -> None:
        self.beginning = beginning
        self.environment = gymnasium_environment(settings.environment)
        self.is_interrupted = is_interrupted
        self.progress = EnvironmentProgress()
        self._settings = settings
        self._collector = collector
        seed = settings.run.seed
        shape = shape_of(settings)
        normalizes = settings.environment.normalize_observations
        policy = ActorCritic(shape, policy_seed(seed, beginning), normalizes_observations=normalizes)
        self.learner = PPO(policy, settings.ppo, seed=seed, stream_index=beginning)
        self._observations = RunningMoments(shape.num_observations)
        self._reward_scaling = RewardScaling(settings.ppo.discount)
        self._pipeline = Pipeline(
            learner=self.learner,
            collector=collector,
            environment=self.environment,
            workflow_of=lambda _: None,
            run_seed=seed,
            lag=settings.collector.lag,
            counters=Counters(*[beginning * _MOST_EPISODES] * len(fields(Counters))),
        )

    def run(self, until: int | None = None) -> Iterator[EnvironmentReport]:
        """Train until the steps are spent, yielding a report after every update.

        Args:
            until: pause after so many steps; the next `run` goes on as if there had been no pause.

        Raises:
            EpisodeError: the environment failed.
            CollectorError: workers died more often than is tolerated.
        """
        if self._is_reached(until):
            return
        for learnt in self._pipeline.run(self._next_size, self._learn):
            self._count(learnt.episodes)
            yield self._report(learnt)
            if self.is_interrupted() or self._is_reached(until):
                return

    def discard(self) -> None:
        """Leave the collector to another training: await what it still plays, and learn nothing from it.

        A training that is restored from the state as it was before goes on all the same.

        Raises:
            EpisodeError: the environment failed.
            CollectorError: workers died more often than is tolerated.
        """
        self._pipeline.discard()

    def evaluate(self) -> EnvironmentScore:
        """Score the policy as it is now, taking its most probable actions: always on the same episodes.

        May be called after any update.

        Raises:
            EpisodeError: the environment failed.
            CollectorError: workers died more often than is tolerated.
        """
        episodes = range(self._settings.environment.evaluation_episodes)
        return score_environment(self.play(self.environment, episodes))

    def play(
        self,
        environment: EnvironmentSpec,
        episodes: Iterable[int],
        stream: Stream = Stream.EVALUATION_EPISODE,
    ) -> Episodes:
        """Play the policy as it is now, taking its most probable actions.

        May be called after any update.

        Args:
            environment: with the spaces that the policy was made for.
            episodes: their numbers in the stream.
            stream: of random numbers, another one than training's.

        Raises:
            EpisodeError: the environment failed.
            CollectorError: workers died more often than is tolerated.
        """
        batch = self._pipeline.counters.batch
        self._pipeline.counters.batch += 1
        tickets = evaluation_tickets(
            environment,
            self._pipeline.begin(),
            run_seed=self._settings.run.seed,
            episodes=episodes,
            batch=batch,
            workflow=None,
            greedy=True,
        )
        self._collector.submit([replace(ticket, stream=stream) for ticket in tickets])
        return self._collector.collect(batch)

    def to_state(self) -> dict[str, Any]:
        """What `restore` needs beside `to_arrays`, JSON values; valid between two updates."""
        return {
            "counters": asdict(self._pipeline.counters),
            "progress": asdict(self.progress),
            "pipeline": self._pipeline.to_state(),
        }

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """The learner's state, the snapshots that play the batches in flight, the moments that normalise."""
        observations, rewards = self._observations.state(), self._reward_scaling.moments.state()
        return {
            **self._pipeline.to_arrays(),
            **{f"{_OBSERVATIONS}{name}": array for name, array in observations.items()},
            **{f"{_REWARDS}{name}": array for name, array in rewards.items()},
        }

    def restore(self, state: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Go on where another process was cut off, before `run`.

        Args:
            state: its `to_state` after an update.
            arrays: its `to_arrays`.

        Raises:
            KeyError, RuntimeError, TypeError, ValueError: they are those of something else.
        """
        self._pipeline.counters = Counters(**state["counters"])
        self.progress = EnvironmentProgress(**state["progress"])
        self._pipeline.restore(state["pipeline"], arrays)
        self._observations.restore(arrays_with(_OBSERVATIONS, arrays))
        self._reward_scaling.moments.restore(arrays_with(_REWARDS, arrays))

    def _is_reached(self, steps: int | None) -> bool:
        return steps is not None and self.progress.steps >= steps

    def _next_size(self) -> int:
        is_wanted = self.progress.steps < self._settings.environment.total_steps
        return self.progress.batch_size if is_wanted else 0

    def _learn(self, episodes: Episodes, policy_lag: int) -> UpdateStatistics:
        self._anneal()
        rewards = self._rewards_of(episodes)
        statistics = self.learner.update(episodes, rewards, is_on_policy=policy_lag == 0)
        self._renew_normalization(episodes)
        return statistics

    def _anneal(self) -> None:
        """Set learning rate and entropy bonus for what of the training is over."""
        schedule = self._settings.schedule
        spent = min(1.0, self.progress.steps / self._settings.environment.total_steps)
        self.learner.anneal(
            learning_rate=1.0 - spent * (1.0 - schedule.final_learning_rate),
            entropy=schedule.final_entropy**spent,
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
        self.progress.episodes += len(episodes)
        self.progress.steps += episodes.num_steps
        wanted = self._settings.environment.steps_per_update * len(episodes) / episodes.num_steps
        self.progress.batch_size = max(1, round(wanted))

    def _report(self, learnt: Learnt[UpdateStatistics]) -> EnvironmentReport:
        return EnvironmentReport(
            **vars(learnt.round),
            episodes=self.progress.episodes,
            steps=self.progress.steps,
            mean_return=float(learnt.episodes.returns().mean()),
            mean_length=float(learnt.episodes.lengths.mean()),
            statistics=learnt.outcome,
        )


def shape_of(settings: EnvironmentTrainSettings) -> NetworkShape:
    """The policy's shape, which the environment is built for.

    Raises:
        SettingError: the environment cannot be made, or a space of it is not supported.
    """
    environment = gymnasium_environment(settings.environment)
    with constructor_errors(f"--env {environment.id}"):
        return shape_for(environment, hidden_size=settings.ppo.hidden_size, has_workflow=False)
