"""The training of one order: the pipeline, with batches judged by the order's workflow.

An order is trained for a number of episodes, in batches of `episodes_per_update`; the last one may be
smaller. It ends sooner when the order is learnt or no longer gets better.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from workflow_rl.alignment import FixCounts, alignment_reward, compliance_of, judge_fixes
from workflow_rl.collectors import Collector
from workflow_rl.episode import EnvironmentSpec, Episodes
from workflow_rl.pipeline import Counters, Learnt, Pipeline, Round
from workflow_rl.ppo import PPO, UpdateStatistics
from workflow_rl.settings import AlignmentSettings, SearchSettings, TrainSettings
from workflow_rl.workflow import Workflow


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


@dataclass(frozen=True, kw_only=True)
class UpdateReport(Round):
    """One update, for logs and displays.

    Attributes:
        workflow: the order in training.
        episodes: training episodes of this order so far.
        total_episodes: training episodes of the run so far.
        env_reward: mean return of the batch in the simulator's own reward.
        alignment_reward: mean alignment return of the batch.
        compliance: of the batch, `None` without a fix to judge.
        fixes_per_episode: mean number of fixes.
        statistics: of PPO.
    """

    workflow: Workflow
    episodes: int
    total_episodes: int
    env_reward: float
    alignment_reward: float
    compliance: float | None
    fixes_per_episode: float
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

    Attributes:
        num_episodes: the budget of the order.
        first_episode: number of its first training episode.
        best_reward: of the batches learnt from, in what the learner maximises; `None` before the first.
        updates_since_best: updates without a better batch.
        is_ending: whether no more batches are to be handed out.
    """

    num_episodes: int
    first_episode: int
    best_reward: float | None = None
    updates_since_best: int = 0
    is_ending: bool = False

    @classmethod
    def start(cls, num_episodes: int, counters: Counters) -> Self:
        """The progress of an order that begins where the run is now."""
        return cls(num_episodes, counters.episode)

    def count_update(self, report: UpdateReport, settings: SearchSettings) -> None:
        """Take in one more update; see whether training ends before the episodes are spent."""
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
        progress: how far it has come.
    """

    workflow: Workflow
    learner: PPO
    environment: EnvironmentSpec
    settings: TrainSettings
    collector: Collector
    counters: Counters
    is_interrupted: Callable[[], bool]
    progress: OrderProgress = field(init=False)
    _pipeline: Pipeline = field(init=False)

    def __post_init__(self) -> None:
        self._pipeline = Pipeline(
            learner=self.learner,
            collector=self.collector,
            environment=self.environment,
            workflow=self.workflow.index,
            run_seed=self.settings.run.seed,
            lag=self.settings.collector.lag,
            counters=self.counters,
        )

    def run(self, num_episodes: int) -> Iterator[UpdateReport]:
        """Train for at most `num_episodes` episodes, yielding a report after every update."""
        self.progress = OrderProgress.start(num_episodes, self.counters)
        return self._updates()

    def resume(self, state: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Iterator[UpdateReport]:
        """Go on where another process was cut off.

        Args:
            state: its `to_state` after an update; the counters are those of that moment.
            arrays: its `to_arrays`.

        Raises:
            KeyError, RuntimeError, TypeError, ValueError: they are those of something else.
        """
        self.progress = OrderProgress(**state["progress"])
        self._pipeline.restore(state["pipeline"], arrays)
        return self._updates()

    def to_state(self) -> dict[str, Any]:
        """What `resume` needs beside the counters and `to_arrays`, JSON values; valid between two updates."""
        return {"progress": asdict(self.progress), "pipeline": self._pipeline.to_state()}

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """The learner's state, and the snapshots that play the batches in flight."""
        return self._pipeline.to_arrays()

    def _updates(self) -> Iterator[UpdateReport]:
        for learnt in self._pipeline.run(self._next_size, self._learn):
            report = self._report(learnt)
            self.progress.count_update(report, self.settings.search)
            yield report
            if self.is_interrupted():
                return

    def _next_size(self) -> int:
        if self.progress.is_ending:
            return 0
        left = self.progress.first_episode + self.progress.num_episodes - self.counters.episode
        return min(self.settings.search.episodes_per_update, left)

    def _learn(self, episodes: Episodes, policy_lag: int) -> tuple[Judgement, UpdateStatistics]:
        judgement = judge(episodes, self.workflow, self.settings.alignment)
        rewards = episodes.rewards + judgement.alignment_rewards
        return judgement, self.learner.update(episodes, rewards, is_on_policy=policy_lag == 0)

    def _report(self, learnt: Learnt[tuple[Judgement, UpdateStatistics]]) -> UpdateReport:
        judgement, statistics = learnt.outcome
        total_episodes = learnt.episodes.tickets[-1].episode + 1
        return UpdateReport(
            **vars(learnt.round),
            workflow=self.workflow,
            episodes=total_episodes - self.progress.first_episode,
            total_episodes=total_episodes,
            env_reward=float(judgement.env_returns.mean()),
            alignment_reward=float(judgement.alignment_returns.mean()),
            compliance=judgement.compliance,
            fixes_per_episode=judgement.fixes_per_episode,
            statistics=statistics,
        )
