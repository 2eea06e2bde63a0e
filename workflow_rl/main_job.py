"""The main job: choose a workflow, train it, evaluate it, tell the search, until the episodes are spent.

Everything a run produces is in its directory. The state from which a run is resumed is written after every
order; training an order is a pure function of that state, so a resumed run repeats the order that was cut off
and ends with the same weights as one that was never stopped.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, Self

from workflow_rl.collectors import Collector
from workflow_rl.environments import cage2_environment, describe
from workflow_rl.episode import EnvironmentSpec, NetworkShape
from workflow_rl.errors import RunDirectoryError
from workflow_rl.evaluate import Score, evaluate_policy, evaluation_tickets, score
from workflow_rl.interruption import Interruption
from workflow_rl.policy import ActorCritic, load_policy, policy_digest, policy_to_bytes
from workflow_rl.ppo import PPO
from workflow_rl.rollout import make_environment, network_shape
from workflow_rl.run_log import SEARCH_LOG, TRAINING_LOG, RunDirectory
from workflow_rl.search import OrderResult, OrderSearch, Suggestion
from workflow_rl.seeding import Stream, generator
from workflow_rl.settings import TrainSettings
from workflow_rl.train import Counters, OrderTraining, UpdateReport
from workflow_rl.workflow import Workflow

STATE = "state.json"
SUMMARY = "summary.json"


class Display(Protocol):
    """Shows a run while it goes on."""

    def show_update(self, report: UpdateReport) -> None:
        """One update is done."""

    def show_order(self, trial: int, suggestion: Suggestion, evaluation: Score) -> None:
        """One order is trained and evaluated."""


@dataclass(frozen=True)
class TrainedPolicy:
    """A policy file of the run."""

    workflow: str
    file: str
    sha256: str


@dataclass
class _Clock:
    """Where the time went, over all sittings of a run."""

    wall_seconds: float = 0.0
    collection_seconds: float = 0.0
    update_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    cold_seconds: float | None = None
    cold_episodes: int = 0
    warm_seconds: float = 0.0
    warm_episodes: int = 0
    round_seconds: float = 0.0
    playing_seconds: float = 0.0

    def count(self, report: UpdateReport, seconds_since_launch: float) -> None:
        """Add one update. The first batch of a run is the cold one: it includes start-up."""
        self.collection_seconds += report.collection_seconds
        self.update_seconds += report.update_seconds
        self.round_seconds += report.round_seconds
        self.playing_seconds += report.playing_seconds
        if self.cold_seconds is None:
            self.cold_seconds = seconds_since_launch
            self.cold_episodes = report.batch_size
        else:
            self.warm_seconds += report.round_seconds
            self.warm_episodes += report.batch_size


@dataclass
class _Progress:
    """What is written after every order, and all that a resumed run needs."""

    search: OrderSearch
    counters: Counters = field(default_factory=Counters)
    clock: _Clock = field(default_factory=_Clock)
    policies: list[TrainedPolicy] = field(default_factory=list)
    training_rows: int = 0
    search_rows: int = 0

    def to_state(self) -> dict[str, Any]:
        return {
            "search": self.search.to_state(),
            "counters": asdict(self.counters),
            "clock": asdict(self.clock),
            "policies": [asdict(policy) for policy in self.policies],
            "training_rows": self.training_rows,
            "search_rows": self.search_rows,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        return cls(
            search=OrderSearch.from_state(state["search"]),
            counters=Counters(**state["counters"]),
            clock=_Clock(**state["clock"]),
            policies=[TrainedPolicy(**policy) for policy in state["policies"]],
            training_rows=state["training_rows"],
            search_rows=state["search_rows"],
        )


class MainJob:
    """One run.

    Args:
        settings: of the run.
        directory: where its results go; holds the state of an interrupted run to go on from, or none.
        collector: plays the episodes.
        display: shows what happens.
        interruption: asked after every update whether to stop.
        launched: when the program started, seconds of the monotonic clock; start-up counts from there.
    """

    def __init__(
        self,
        settings: TrainSettings,
        directory: RunDirectory,
        collector: Collector,
        display: Display,
        interruption: Interruption,
        launched: float,
    ) -> None:
        self._settings = settings
        self._directory = directory
        self._collector = collector
        self._display = display
        self._interruption = interruption
        self._launched = launched
        self._environment = cage2_environment(settings.simulator)
        self._shape = _shape_of(self._environment, settings.ppo.hidden_size)
        self._progress = self._load_progress()
        self._num_learnt = self._progress.counters.episode
        self._seconds_before = self._progress.clock.wall_seconds

    def run(self) -> dict[str, Any]:
        """Spend the budget, or stop when interrupted.

        Returns:
            The contents of summary.json.

        Raises:
            EpisodeError: an environment failed.
            CollectorError: workers died more often than is tolerated.
        """
        while not self._interruption.is_requested and self._remaining_episodes() > 0:
            self._train_next_order()
        summary = self._summary()
        self._directory.write_json(SUMMARY, summary)
        return summary

    def _load_progress(self) -> _Progress:
        state = self._directory.read_json(STATE)
        if state is not None:
            progress = self._progress_of(state)
        else:
            search = OrderSearch(seed=self._settings.run.seed, beta=self._settings.search.ucb_beta)
            progress = _Progress(search)
        self._directory.cut_log(TRAINING_LOG, progress.training_rows)
        self._directory.cut_log(SEARCH_LOG, progress.search_rows)
        return progress

    def _progress_of(self, state: Any) -> _Progress:
        try:
            return _Progress.from_state(state)
        except (KeyError, TypeError, ValueError) as error:
            raise RunDirectoryError(
                f"{self._directory.path / STATE} is damaged or of another version: {error!r}"
            ) from error

    def _remaining_episodes(self) -> int:
        return self._settings.search.total_episodes - self._progress.counters.episode

    def _train_next_order(self) -> None:
        suggestion = self._suggest()
        trial = len(self._progress.policies)
        learner = self._new_learner(suggestion.workflow, trial)
        training = OrderTraining(
            workflow=suggestion.workflow,
            learner=learner,
            environment=self._environment,
            settings=self._settings,
            collector=self._collector,
            counters=self._progress.counters,
            is_interrupted=lambda: self._interruption.is_requested,
        )
        limit = self._settings.search.max_episodes_per_workflow
        if self._settings.search.workflow is not None:
            limit = self._settings.search.total_episodes
        episodes_before = self._progress.counters.episode
        for report in training.run(min(self._remaining_episodes(), limit)):
            self._log_update(report)
        if self._interruption.is_requested:
            self._store_policy(learner.policy, suggestion.workflow, "interrupted")
            return
        evaluation = self._evaluate(learner.policy, suggestion.workflow)
        self._finish_order(
            suggestion, learner.policy, evaluation, self._progress.counters.episode - episodes_before
        )

    def _suggest(self) -> Suggestion:
        if self._settings.search.workflow is not None:
            return Suggestion(Workflow.parse(self._settings.search.workflow), None, None, None)
        return self._progress.search.suggest()

    def _new_learner(self, workflow: Workflow, trial: int) -> PPO:
        """A learner that starts from the closest trained policy, or from fresh weights."""
        closest = self._progress.search.closest_trained(workflow)
        if closest is None:
            draws = generator(self._settings.run.seed, Stream.POLICY_INITIALISATION, trial)
            policy = ActorCritic(self._shape, seed=int(draws.integers(2**63)))
        else:
            trained = [policy for policy in self._progress.policies if policy.workflow == str(closest)]
            policy, _ = load_policy(self._directory.path / trained[-1].file)
        return PPO(policy, self._settings.ppo, seed=self._settings.run.seed, stream_index=trial)

    def _log_update(self, report: UpdateReport) -> None:
        progress = self._progress
        progress.clock.count(report, time.monotonic() - self._launched)
        progress.training_rows += 1
        self._num_learnt = report.total_episodes
        self._directory.append_row(
            TRAINING_LOG,
            {
                "workflow_id": report.workflow.index,
                "workflow_order": str(report.workflow),
                "update": report.update,
                "episodes": report.episodes,
                "total_episodes": report.total_episodes,
                "env_reward": report.env_reward,
                "alignment_reward": report.alignment_reward,
                "total_reward": report.total_reward,
                "compliance": report.compliance,
                "fixes_per_episode": report.fixes_per_episode,
                "collection_seconds": report.collection_seconds,
                "update_seconds": report.update_seconds,
                "episodes_per_second": report.episodes_per_second,
                "policy_lag": report.policy_lag,
            },
        )
        self._directory.write_scalars(
            {
                "reward/environment": report.env_reward,
                "reward/alignment": report.alignment_reward,
                "compliance/rate": report.compliance,
                "compliance/fixes_per_episode": report.fixes_per_episode,
                "speed/episodes_per_second": report.episodes_per_second,
                "speed/collection_seconds": report.collection_seconds,
                "speed/update_seconds": report.update_seconds,
                "speed/learner_idle_fraction": report.collection_seconds / report.round_seconds,
                "speed/worker_busy_fraction": self._busy_fraction(
                    report.playing_seconds, report.round_seconds
                ),
                **{f"ppo/{name}": value for name, value in asdict(report.statistics).items()},
            },
            step=report.total_episodes,
        )
        self._display.show_update(report)

    def _evaluate(self, policy: ActorCritic, workflow: Workflow) -> Score:
        start = time.monotonic()
        counters, settings = self._progress.counters, self._settings
        snapshot = policy.snapshot(counters.version)
        first = counters.evaluation_episode
        tickets = evaluation_tickets(
            self._environment,
            snapshot,
            run_seed=settings.run.seed,
            episodes=range(first, first + settings.search.evaluation_episodes),
            batch=counters.batch,
            workflow=workflow,
        )
        counters.version += 1
        counters.batch += 1
        counters.evaluation_episode += len(tickets)
        episodes = evaluate_policy(self._collector, snapshot, tickets)
        self._progress.clock.evaluation_seconds += time.monotonic() - start
        return score(episodes, workflow, settings.alignment.compliance)

    def _finish_order(
        self, suggestion: Suggestion, policy: ActorCritic, evaluation: Score, num_episodes: int
    ) -> None:
        """Store what an order came to, the state last: a run cut off before then repeats the order."""
        progress = self._progress
        trial = len(progress.policies)
        threshold = self._settings.search.compliance_threshold
        met_threshold = evaluation.compliance is not None and evaluation.compliance >= threshold
        progress.policies.append(self._store_policy(policy, suggestion.workflow, f"{trial:03d}", evaluation))
        progress.search.observe(
            OrderResult(
                workflow=suggestion.workflow,
                reward=evaluation.reward,
                standard_error=evaluation.reward_standard_error,
                compliance=evaluation.compliance,
                episodes=num_episodes,
                met_threshold=met_threshold,
            )
        )
        progress.search_rows += 1
        self._directory.append_row(
            SEARCH_LOG,
            {
                "iteration": trial,
                "workflow": str(suggestion.workflow),
                "ucb": suggestion.upper_confidence_bound,
                "mean": suggestion.mean,
                "std": suggestion.standard_deviation,
                "evaluated_reward": evaluation.reward,
                "evaluated_reward_standard_error": evaluation.reward_standard_error,
                "compliance": evaluation.compliance,
                "episodes": num_episodes,
                "met_threshold": met_threshold,
            },
        )
        progress.clock.wall_seconds = self._wall_seconds()
        self._directory.write_json(STATE, progress.to_state())
        self._display.show_order(trial, suggestion, evaluation)

    def _store_policy(
        self, policy: ActorCritic, workflow: Workflow, name: str, evaluation: Score | None = None
    ) -> TrainedPolicy:
        file = f"policies/{name}-workflow-{workflow.index:03d}.safetensors"
        metadata = {
            "workflow": str(workflow),
            "environment": {"id": self._environment.id, "kwargs": dict(self._environment.kwargs)},
            "compliance": self._settings.alignment.compliance,
            "seed": self._settings.run.seed,
            "evaluation": None if evaluation is None else asdict(evaluation),
        }
        self._directory.write_bytes(file, policy_to_bytes(policy, metadata))
        return TrainedPolicy(str(workflow), file, policy_digest(policy))

    def _wall_seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._launched

    def _busy_fraction(self, playing_seconds: float, round_seconds: float) -> float | None:
        """Share of the players' time in which they played.

        Of a single round it may exceed 1, since part of the batch was played in rounds before it.
        """
        return _rate(playing_seconds, round_seconds * self._settings.collector.num_players)

    def _summary(self) -> dict[str, Any]:
        progress, clock = self._progress, self._progress.clock
        best = progress.search.best()
        digests = "".join(policy.sha256 for policy in progress.policies)
        return {
            "episodes": self._num_learnt,
            "evaluation_episodes": progress.counters.evaluation_episode,
            "is_complete": not self._interruption.is_requested,
            "wall_seconds": self._wall_seconds(),
            "cold_episodes_per_second": _rate(clock.cold_episodes, clock.cold_seconds),
            "warm_episodes_per_second": _rate(clock.warm_episodes, clock.warm_seconds),
            "collection_seconds": clock.collection_seconds,
            "update_seconds": clock.update_seconds,
            "evaluation_seconds": clock.evaluation_seconds,
            "learner_idle_fraction": _rate(clock.collection_seconds, clock.round_seconds),
            "worker_busy_fraction": self._busy_fraction(clock.playing_seconds, clock.round_seconds),
            "retries": self._collector.retries,
            "simulator": describe(self._environment),
            "best_workflow": None if best is None else str(best.workflow),
            "best_reward": None if best is None else best.reward,
            "best_reward_standard_error": None if best is None else best.standard_error,
            "best_compliance": None if best is None else best.compliance,
            "best_met_threshold": None if best is None else best.met_threshold,
            "best_policy": None
            if best is None
            else progress.policies[progress.search.results.index(best)].file,
            "policies": [asdict(policy) for policy in progress.policies],
            "weights_sha256": hashlib.sha256(digests.encode()).hexdigest(),
        }


def _shape_of(environment: EnvironmentSpec, hidden_size: int) -> NetworkShape:
    probe = make_environment(environment)
    try:
        return network_shape(probe, hidden_size=hidden_size, has_workflow=True)
    finally:
        probe.close()


def _rate(count: float, seconds: float | None) -> float | None:
    return count / seconds if seconds else None
