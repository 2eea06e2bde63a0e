"""The training of one order, or of all: the pipeline, with every episode judged by its workflow.

A training lasts for a number of episodes, in batches of `episodes_per_update`; the last one may be smaller.
It ends sooner when the policy no longer gets better (`plateau`). A universal training has no order of its
own: each episode draws one of the 120, all with the same chance, and one policy learns to keep to whichever
it is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from workflow_rl.alignment import FixCounts, compliance_of, judge_episodes
from workflow_rl.alignment_schemes import Alignment, mask_of
from workflow_rl.checkpoint import Checkpoint
from workflow_rl.collectors import Collector
from workflow_rl.episode import EnvironmentSpec, Episodes
from workflow_rl.pipeline import Counters, Learnt, Pipeline, Round
from workflow_rl.plateau import Plateau
from workflow_rl.ppo import PPO, UpdateStatistics
from workflow_rl.seeding import Stream, episode_key
from workflow_rl.settings import SearchSettings, TrainSettings
from workflow_rl.workflow import NUM_WORKFLOWS, Workflow


@dataclass(frozen=True, eq=False)
class Judgement:
    """A batch as the workflow sees it.

    Attributes:
        env_returns: sum of the simulator's reward of each episode, (E,) float64.
        alignment_weight: lambda.
        alignment_rewards: of each step, (N,) float32.
        alignment_returns: sum of the alignment reward of each episode, (E,) float64.
        compliance: of all fixes of the batch, judged by the true state; `None` if there was none to judge.
        observed_compliance: the same, judged by what blue's observation showed.
        fixes_per_episode: mean number of fixes.
    """

    env_returns: NDArray[np.float64]
    alignment_weight: float
    alignment_rewards: NDArray[np.float32]
    alignment_returns: NDArray[np.float64]
    compliance: float | None
    observed_compliance: float | None
    fixes_per_episode: float


def judge(episodes: Episodes, alignment: Alignment) -> Judgement:
    """Judge a batch by the orders that its tickets name: who fixed what when, and what that is worth."""
    workflows = [Workflow.from_index(cast(int, ticket.workflow)) for ticket in episodes.tickets]
    judged = judge_episodes(episodes, workflows, alignment.definition)
    rewards = alignment.rewards(judged.true)
    return Judgement(
        env_returns=episodes.returns(),
        alignment_weight=alignment.weight,
        alignment_rewards=np.concatenate(rewards),
        alignment_returns=np.array([reward.sum(dtype=np.float64) for reward in rewards]),
        compliance=compliance_of(judged.true, alignment.definition),
        observed_compliance=compliance_of(judged.observed, alignment.definition),
        fixes_per_episode=sum(FixCounts.of(fixes).total for fixes in judged.true) / len(episodes),
    )


@dataclass(frozen=True, kw_only=True)
class UpdateReport(Round):
    """One update, for logs and displays.

    Attributes:
        workflow: the order in training; `None` for all.
        episodes: episodes of this training so far.
        total_episodes: training episodes of the run so far.
        env_reward: mean return of the batch in the simulator's own reward.
        alignment_reward: mean alignment return of the batch.
        alignment_weight: lambda, by which it was weighed.
        compliance: of the batch by the true state, `None` without a fix to judge.
        observed_compliance: by what blue's observation showed.
        fixes_per_episode: mean number of fixes.
        statistics: of PPO.
    """

    workflow: Workflow | None
    episodes: int
    total_episodes: int
    env_reward: float
    alignment_reward: float
    alignment_weight: float
    compliance: float | None
    observed_compliance: float | None
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


def drawn_workflow(run_seed: int, episode: int) -> int:
    """The order of an episode of a universal training: index 0..119, each with the same chance."""
    return int(episode_key(run_seed, Stream.WORKFLOW, episode)) % NUM_WORKFLOWS


@dataclass
class OrderProgress:
    """How far a training has come; whole numbers and rewards, so that JSON holds it exactly.

    Attributes:
        num_episodes: its budget.
        first_episode: number of its first training episode.
        is_ending: whether no more batches are to be handed out.
        plateau: whether it still gets better.
    """

    num_episodes: int
    first_episode: int
    is_ending: bool = False
    plateau: Plateau = field(default_factory=Plateau)

    @classmethod
    def start(cls, num_episodes: int, counters: Counters) -> Self:
        """The progress of a training that begins where the run is now."""
        return cls(num_episodes, counters.episode)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The progress that `dataclasses.asdict` made `state` of."""
        return cls(**{**state, "plateau": Plateau(**state["plateau"])})

    def count_update(self, report: UpdateReport, settings: SearchSettings) -> None:
        """Take in one more update; see whether training ends before the episodes are spent."""
        threshold, compliance = settings.compliance_threshold, report.compliance
        self.plateau.count(report.env_reward, compliance, threshold)
        is_learnt = settings.stop_rule == "threshold" and compliance is not None and compliance >= threshold
        is_no_better = self.plateau.updates_since_best >= settings.patience_updates
        if settings.stop_rule != "budget" and (is_learnt or is_no_better):
            self.is_ending = True


@dataclass
class OrderTraining:
    """Trains one order, or all.

    Attributes:
        workflow: the order; `None` draws one for each episode.
        learner: its policy and optimiser.
        environment: what is played.
        settings: of the run.
        collector: plays the episodes.
        counters: of the run, advanced in place.
        is_interrupted: asked after every update; true ends training at once.
        progress: how far it has come.
    """

    workflow: Workflow | None
    learner: PPO
    environment: EnvironmentSpec
    settings: TrainSettings
    collector: Collector
    counters: Counters
    is_interrupted: Callable[[], bool]
    progress: OrderProgress = field(init=False)
    _alignment: Alignment = field(init=False)
    _pipeline: Pipeline = field(init=False)

    def __post_init__(self) -> None:
        self._alignment = Alignment(self.settings.alignment, self.settings.search.compliance_threshold)
        self._pipeline = Pipeline(
            learner=self.learner,
            collector=self.collector,
            environment=self.environment,
            workflow_of=self._workflow_of,
            mask=mask_of(self.settings.alignment),
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
        self.progress = OrderProgress.from_state(state["progress"])
        self._alignment.restore(state["alignment"])
        self._pipeline.restore(state["pipeline"], arrays)
        return self._updates()

    def go_on_from(self, trained: Checkpoint) -> None:
        """Begin, before `run`, where another training of the order ended.

        Args:
            trained: its `learnt`.

        Raises:
            KeyError, RuntimeError, TypeError, ValueError: it is that of something else.
        """
        self._alignment.restore(trained.state)
        self.learner.restore(trained.arrays)

    def learnt(self) -> Checkpoint:
        """What `go_on_from` needs: the learner with its optimiser, and the weight of the alignment reward."""
        return Checkpoint(self._alignment.to_state(), self.learner.state())

    def to_state(self) -> dict[str, Any]:
        """What `resume` needs beside the counters and `to_arrays`, JSON values; valid between two updates."""
        return {
            "progress": asdict(self.progress),
            "alignment": self._alignment.to_state(),
            "pipeline": self._pipeline.to_state(),
        }

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

    def _workflow_of(self, episode: int) -> int:
        if self.workflow is None:
            return drawn_workflow(self.settings.run.seed, episode)
        return self.workflow.index

    def _next_size(self) -> int:
        if self.progress.is_ending:
            return 0
        left = self.progress.first_episode + self.progress.num_episodes - self.counters.episode
        return min(self.settings.search.episodes_per_update, left)

    def _learn(self, episodes: Episodes, policy_lag: int) -> tuple[Judgement, UpdateStatistics]:
        judgement = judge(episodes, self._alignment)
        self._alignment.adapt(judgement.compliance)
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
            alignment_weight=judgement.alignment_weight,
            compliance=judgement.compliance,
            observed_compliance=judgement.observed_compliance,
            fixes_per_episode=judgement.fixes_per_episode,
            statistics=statistics,
        )
