"""The main job: choose a workflow, train it, evaluate it, tell the search, until the episodes are spent.

Everything a run produces is in its directory. A checkpoint is written after the first update in every so many
seconds, at the end of every order, and when a run is interrupted or its episodes cannot be played. All that
happens after a checkpoint is a function of it, so a resumed run goes on between the same two updates and ends
with the same weights and logs as one that was never stopped (`checkpoint` says what exactly is promised).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, Self

from numpy.typing import NDArray

from workflow_rl.checkpoint import Checkpoint, save_checkpoint
from workflow_rl.collectors import Collector
from workflow_rl.environments import cage2_environment, describe
from workflow_rl.episode import Snapshot
from workflow_rl.errors import CollectorError, EpisodeError, PolicyFileError, RunDirectoryError
from workflow_rl.evaluate import Score, evaluate_policy, evaluation_tickets, score
from workflow_rl.interruption import Interruption
from workflow_rl.policy import ActorCritic, load_policy, policy_digest, policy_to_bytes
from workflow_rl.ppo import PPO
from workflow_rl.retry_log import RetryLog
from workflow_rl.rollout import shape_for
from workflow_rl.run_log import SEARCH_LOG, SUMMARY, TRAINING_LOG, RunDirectory
from workflow_rl.search import OrderResult, OrderSearch, Suggestion
from workflow_rl.seeding import Stream, generator
from workflow_rl.settings import TrainSettings
from workflow_rl.train import Counters, OrderProgress, OrderTraining, UpdateReport
from workflow_rl.workflow import Workflow

_LEARNER = "learner."
_SNAPSHOT = "snapshot."
"""What the names of a checkpoint's arrays begin with."""


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
    """What a resumed run needs to know beside the order in training."""

    search: OrderSearch
    counters: Counters = field(default_factory=Counters)
    clock: _Clock = field(default_factory=_Clock)
    policies: list[TrainedPolicy] = field(default_factory=list)
    training_rows: int = 0
    search_rows: int = 0
    num_learnt: int = 0
    retries: int = 0

    def to_state(self) -> dict[str, Any]:
        return {
            "search": self.search.to_state(),
            "counters": asdict(self.counters),
            "clock": asdict(self.clock),
            "policies": [asdict(policy) for policy in self.policies],
            "training_rows": self.training_rows,
            "search_rows": self.search_rows,
            "num_learnt": self.num_learnt,
            "retries": self.retries,
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
            num_learnt=state["num_learnt"],
            retries=state["retries"],
        )


@dataclass(frozen=True)
class _Order:
    """The order in training, and why it was chosen."""

    suggestion: Suggestion
    training: OrderTraining

    def to_state(self) -> dict[str, Any]:
        suggestion = {**asdict(self.suggestion), "workflow": str(self.suggestion.workflow)}
        return {"suggestion": suggestion, "progress": asdict(self.training.progress)}

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        learner = {f"{_LEARNER}{name}": array for name, array in self.training.learner.state().items()}
        snapshots = self.training.snapshots_in_flight.items()
        return learner | {f"{_SNAPSHOT}{version}": snapshot.parameters for version, snapshot in snapshots}


class MainJob:
    """One run.

    Args:
        settings: of the run.
        directory: where its results go.
        collector: plays the episodes.
        display: shows what happens.
        interruption: asked after every update whether to stop.
        launched: when the program started, seconds of the monotonic clock; start-up counts from there.
        checkpoint: to go on from; `None` starts from the beginning.

    Raises:
        PolicyFileError: a policy of an earlier sitting is damaged.
        RunDirectoryError: the checkpoint or the logs are of another version, or the logs are damaged.
    """

    def __init__(
        self,
        settings: TrainSettings,
        directory: RunDirectory,
        collector: Collector,
        display: Display,
        interruption: Interruption,
        launched: float,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self._settings = settings
        self._directory = directory
        self._collector = collector
        self._display = display
        self._interruption = interruption
        self._launched = launched
        self._environment = cage2_environment(settings.simulator)
        self._shape = shape_for(self._environment, hidden_size=settings.ppo.hidden_size, has_workflow=True)
        self._checkpoint = checkpoint
        self._checkpoint_time = time.monotonic()
        self._progress = self._initial_progress()
        self._seconds_before = self._progress.clock.wall_seconds
        self._retries_before = self._progress.retries
        self._retry_log = RetryLog(directory, collector)
        self._check_policies()
        directory.cut_log(TRAINING_LOG, self._progress.training_rows)
        directory.cut_log(SEARCH_LOG, self._progress.search_rows)

    def run(self) -> dict[str, Any]:
        """Spend the budget, or stop when interrupted.

        Returns:
            The contents of summary.json.

        Raises:
            EpisodeError: an environment failed.
            CollectorError: workers died more often than is tolerated.
        """
        try:
            if (resumed := self._resumed_order()) is not None:
                self._train(*resumed)
            while not self._interruption.is_requested and self._remaining_episodes() > 0:
                self._train(*self._next_order())
        finally:
            self._retry_log.update()
        summary = self._summary()
        self._directory.write_json(SUMMARY, summary)
        return summary

    def _initial_progress(self) -> _Progress:
        if self._checkpoint is None:
            return _Progress(OrderSearch(seed=self._settings.run.seed, beta=self._settings.search.ucb_beta))
        with self._version_errors():
            return _Progress.from_state(self._checkpoint.state)

    def _check_policies(self) -> None:
        """See that the policies of earlier sittings are whole, before any time is spent."""
        for policy in self._progress.policies:
            file = self._directory.path / policy.file
            if policy_digest(load_policy(file)[0]) != policy.sha256:
                raise PolicyFileError(f"{file} is damaged: its weights are not those that the run stored")

    @contextmanager
    def _version_errors(self) -> Iterator[None]:
        """A checkpoint is only read if it is whole, so what does not fit comes from another version."""
        try:
            yield
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise RunDirectoryError(
                f"the checkpoint in {self._directory.path} is of another version: {error!r}"
            ) from error

    def _save(self, order: _Order | None) -> None:
        """Write a checkpoint; valid between two updates of an order, or with `None` between two orders."""
        progress = self._progress
        progress.clock.wall_seconds = self._wall_seconds()
        progress.retries = self._retries_before + self._collector.retries
        state = {**progress.to_state(), "order": None if order is None else order.to_state()}
        self._directory.flush()  # it tells how many rows the logs have
        save_checkpoint(self._directory, Checkpoint(state, {} if order is None else order.to_arrays()))
        self._checkpoint_time = time.monotonic()

    def _remaining_episodes(self) -> int:
        return self._settings.search.total_episodes - self._progress.counters.episode

    def _train(self, order: _Order, reports: Iterable[UpdateReport]) -> None:
        """Train an order, or the rest of it, and evaluate what it came to."""
        try:
            for report in reports:
                self._log_update(report)
                if time.monotonic() - self._checkpoint_time >= self._settings.checkpoints.checkpoint_seconds:
                    self._save(order)
        except (CollectorError, EpisodeError):
            self._save(order)
            raise
        policy, workflow = order.training.learner.policy, order.suggestion.workflow
        if self._interruption.is_requested:
            self._save(order)
            self._store_policy(policy, workflow, "interrupted")
            return
        num_episodes = self._progress.counters.episode - order.training.progress.first_episode
        self._finish_order(order.suggestion, policy, self._evaluate(policy, workflow), num_episodes)

    def _next_order(self) -> tuple[_Order, Iterable[UpdateReport]]:
        suggestion = self._suggest()
        limit = self._settings.search.max_episodes_per_workflow
        if self._settings.search.workflow is not None:
            limit = self._settings.search.total_episodes
        policy = self._initial_policy(suggestion.workflow, trial=len(self._progress.policies))
        training = self._training(suggestion.workflow, policy)
        return _Order(suggestion, training), training.run(min(self._remaining_episodes(), limit))

    def _resumed_order(self) -> tuple[_Order, Iterable[UpdateReport]] | None:
        """The order that the checkpoint was written in, and what is left of its training."""
        checkpoint = self._checkpoint
        if checkpoint is None or checkpoint.state["order"] is None:
            return None
        with self._version_errors():
            state = checkpoint.state["order"]
            workflow = Workflow.parse(state["suggestion"]["workflow"])
            training = self._training(workflow, ActorCritic(self._shape))
            training.learner.restore(_with_prefix(_LEARNER, checkpoint.arrays))
            snapshots = {
                int(version): Snapshot(int(version), self._shape, parameters)
                for version, parameters in _with_prefix(_SNAPSHOT, checkpoint.arrays).items()
            }
            order = _Order(Suggestion(**{**state["suggestion"], "workflow": workflow}), training)
            return order, training.resume(OrderProgress(**state["progress"]), snapshots)

    def _training(self, workflow: Workflow, policy: ActorCritic) -> OrderTraining:
        settings = self._settings
        return OrderTraining(
            workflow=workflow,
            learner=PPO(
                policy, settings.ppo, seed=settings.run.seed, stream_index=len(self._progress.policies)
            ),
            environment=self._environment,
            settings=settings,
            collector=self._collector,
            counters=self._progress.counters,
            is_interrupted=lambda: self._interruption.is_requested,
        )

    def _suggest(self) -> Suggestion:
        if self._settings.search.workflow is not None:
            return Suggestion(Workflow.parse(self._settings.search.workflow), None, None, None)
        return self._progress.search.suggest()

    def _initial_policy(self, workflow: Workflow, trial: int) -> ActorCritic:
        """What an order starts from: the closest trained policy, or fresh weights."""
        closest = self._progress.search.closest_trained(workflow)
        if closest is None:
            draws = generator(self._settings.run.seed, Stream.POLICY_INITIALISATION, trial)
            return ActorCritic(self._shape, seed=int(draws.integers(2**63)))
        trained = [policy for policy in self._progress.policies if policy.workflow == str(closest)]
        return load_policy(self._directory.path / trained[-1].file)[0]

    def _log_update(self, report: UpdateReport) -> None:
        progress = self._progress
        progress.clock.count(report, time.monotonic() - self._launched)
        progress.training_rows += 1
        self._retry_log.update()
        progress.num_learnt = report.total_episodes
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
        """Store what an order came to, the checkpoint last: a run cut off before then evaluates it again."""
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
        self._save(None)
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
            "episodes": progress.num_learnt,
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
            "retries": self._retries_before + self._collector.retries,
            "retries_by_cause": self._retry_log.count_by_cause(),
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


def _with_prefix(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The arrays whose names begin with the prefix, by the rest of their names."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _rate(count: float, seconds: float | None) -> float | None:
    return count / seconds if seconds else None
