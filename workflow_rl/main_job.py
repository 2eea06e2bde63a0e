"""The main job: choose a workflow, train it, evaluate it, tell the search, until the episodes are spent.

A universal run chooses nothing: it trains one policy on all workflows and evaluates it on each of them.

Everything a run produces is in its directory. A checkpoint is written after the first update in every so many
seconds, at the end of every order, and when a run is interrupted or its training episodes cannot be played.
All that happens after a checkpoint is a function of it, so a resumed run goes on between the same two updates
and ends with the same weights and logs as one that was never stopped (`checkpoint` says what exactly is
promised).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol, Self

from workflow_rl.alignment_schemes import mask_of
from workflow_rl.checkpoint import Checkpoint
from workflow_rl.collectors import Collector
from workflow_rl.environments import cage2_environment, describe
from workflow_rl.equivalent_orders import OrderClasses
from workflow_rl.errors import CollectorError, EpisodeError, PolicyFileError
from workflow_rl.evaluation import (
    KeptOrder,
    Score,
    evaluate_policy,
    evaluation_tickets,
    kept_orders,
    score,
)
from workflow_rl.interruption import Interruption
from workflow_rl.learner_files import LearnerFiles
from workflow_rl.order_search import OrderSearch
from workflow_rl.order_training import OrderTraining, UpdateReport
from workflow_rl.pipeline import Counters
from workflow_rl.policy import ActorCritic, load_policy, policy_digest, policy_to_bytes
from workflow_rl.ppo import PPO
from workflow_rl.ranking import RankedOrder, best_trained, rank_orders
from workflow_rl.rollout import shape_for
from workflow_rl.run_directory import SUMMARY, RunDirectory
from workflow_rl.run_log import SEARCH_LOG, TRAINING_LOG, RankingRow
from workflow_rl.run_record import RunRecord
from workflow_rl.seeding import Stream, generator, policy_seed
from workflow_rl.settings import TrainSettings
from workflow_rl.trials import OrderResult, Trial, trained_orders
from workflow_rl.workflow import ALL_ORDERS, Workflow, all_workflows

_MOST_ANNEALINGS = 20
"""If each is a halving, steps are a millionth of the first ones by then; smaller ones change nothing."""


class Display(Protocol):
    """Shows a run while it goes on."""

    def show_update(self, report: UpdateReport) -> None:
        """One update is done."""

    def show_order(self, trial: int, workflow: Workflow, evaluation: Score) -> None:
        """One order is trained and evaluated."""


@dataclass(frozen=True)
class TrainedPolicy:
    """A policy file of the run; its workflow is `ALL_ORDERS` if it was trained on all."""

    workflow: str
    file: str
    sha256: str


@dataclass(frozen=True)
class _Evaluation:
    """What a policy came to, and the orders that it keeps to."""

    score: Score
    kept_orders: tuple[KeptOrder, ...]


@dataclass
class _Progress:
    """What a resumed run needs to know beside the order in training."""

    search: OrderSearch
    counters: Counters = field(default_factory=Counters)
    policies: list[TrainedPolicy] = field(default_factory=list)
    learners: list[str] = field(default_factory=list)
    num_learnt: int = 0

    def to_state(self) -> dict[str, Any]:
        return {
            "search": self.search.to_state(),
            "counters": asdict(self.counters),
            "policies": [asdict(policy) for policy in self.policies],
            "learners": self.learners,
            "num_learnt": self.num_learnt,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any], search: OrderSearch) -> Self:
        """What `to_state` described, with a search as at the start of the run."""
        search.restore(state["search"])
        return cls(
            search=search,
            counters=Counters(**state["counters"]),
            policies=[TrainedPolicy(**policy) for policy in state["policies"]],
            learners=state["learners"],
            num_learnt=state["num_learnt"],
        )


@dataclass(frozen=True)
class _Order:
    """The order in training, and the trial that it is trained for; without one it is all orders."""

    trial: Trial | None
    training: OrderTraining

    def to_state(self) -> dict[str, Any]:
        return {
            "trial": None if self.trial is None else self.trial.to_state(),
            "training": self.training.to_state(),
        }


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
        self._environment = cage2_environment(settings.simulator)
        self._classes = OrderClasses.in_training(settings.simulator.red_agent, settings.alignment)
        self._shape = shape_for(self._environment, hidden_size=settings.ppo.hidden_size, has_workflow=True)
        self._checkpoint = checkpoint
        self._record = RunRecord(directory, collector, settings, launched, checkpoint)
        self._learners = LearnerFiles(directory)
        self._progress = self._initial_progress()
        self._check_policies()
        self._record.cut_logs(TRAINING_LOG, SEARCH_LOG)

    def run(self) -> dict[str, Any]:
        """Spend the budget, or stop when interrupted.

        Returns:
            The contents of summary.json.

        Raises:
            EpisodeError: an environment failed.
            CollectorError: workers died more often than is tolerated.
        """
        with self._record.keeping_retries():
            if (resumed := self._resumed_order()) is not None:
                self._train(*resumed)
            while not self._interruption.is_requested and not self._is_done():
                self._train(*self._next_order())
        ranking = self._ranking()
        self._directory.write_ranking(map(self._row, ranking))
        summary = self._summary(best_trained(ranking))
        self._directory.write_json(SUMMARY, summary)
        return summary

    def _initial_progress(self) -> _Progress:
        search = OrderSearch(self._settings.search, self._classes, seed=self._settings.run.seed)
        if self._checkpoint is None:
            return _Progress(search)
        with self._record.version_errors():
            return _Progress.from_state(self._checkpoint.state, search)

    def _check_policies(self) -> None:
        """See that the policies of earlier sittings are whole, before any time is spent."""
        for policy in self._progress.policies:
            file = self._directory.path / policy.file
            if policy_digest(load_policy(file)[0]) != policy.sha256:
                raise PolicyFileError(f"{file} is damaged: its weights are not those that the run stored")

    def _save(self, order: _Order | None) -> None:
        """Write a checkpoint; valid between two updates of an order, or with `None` between two orders."""
        state = {**self._progress.to_state(), "order": None if order is None else order.to_state()}
        self._record.save(state, {} if order is None else order.training.to_arrays())

    def _is_done(self) -> bool:
        is_served = self._settings.search.universal and bool(self._progress.policies)
        return is_served or self._remaining_episodes() <= 0

    def _remaining_episodes(self) -> int:
        return self._settings.search.total_episodes - self._progress.counters.episode

    def _train(self, order: _Order, reports: Iterable[UpdateReport]) -> None:
        """Train an order, or the rest of it, and evaluate what it came to."""
        try:
            for report in reports:
                self._log_update(report)
                if self._record.is_checkpoint_due:
                    self._save(order)
        except (CollectorError, EpisodeError):
            self._save(order)
            raise
        training = order.training
        policy = training.learner.policy
        if self._interruption.is_requested:
            self._save(order)
            self._store_policy(policy, training.workflow, "interrupted")
            return
        num_episodes = self._progress.counters.episode - training.progress.first_episode
        if order.trial is None:
            self._finish_all_orders(policy, num_episodes)
            self._save(None)
        else:
            self._finish_order(order.trial, training, num_episodes)
            self._save(None)
            self._tidy_learners()

    def _next_order(self) -> tuple[_Order, Iterable[UpdateReport]]:
        trial = None if self._settings.search.universal else self._next_trial()
        training = self._training(trial, self._first_policy(None if trial is None else trial.begins_with))
        if trial is not None and trial.continues is not None and trial.goes_on:
            with self._record.version_errors():
                training.go_on_from(self._learners.load(self._progress.learners[trial.continues]))
        left = self._remaining_episodes()
        return _Order(trial, training), training.run(left if trial is None else min(trial.episodes, left))

    def _resumed_order(self) -> tuple[_Order, Iterable[UpdateReport]] | None:
        """The order that the checkpoint was written in, and what is left of its training."""
        checkpoint = self._checkpoint
        if checkpoint is None or checkpoint.state["order"] is None:
            return None
        with self._record.version_errors():
            state = checkpoint.state["order"]
            stored = state["trial"]
            trial = None if stored is None else Trial.from_state(stored)
            training = self._training(trial, ActorCritic(self._shape))
            return _Order(trial, training), training.resume(state["training"], checkpoint.arrays)

    def _training(self, trial: Trial | None, policy: ActorCritic) -> OrderTraining:
        settings = self._settings
        step_size = settings.ppo.learning_rate
        if trial is not None:
            further_trainings = max(0, trial.rung - settings.search.halvings)
            step_size *= settings.search.annealing ** min(further_trainings, _MOST_ANNEALINGS)
        return OrderTraining(
            workflow=None if trial is None else trial.workflow,
            learner=PPO(
                policy,
                replace(settings.ppo, learning_rate=step_size),
                seed=settings.run.seed,
                stream_index=len(self._progress.policies),
            ),
            environment=self._environment,
            settings=settings,
            collector=self._collector,
            counters=self._progress.counters,
            is_interrupted=lambda: self._interruption.is_requested,
        )

    def _next_trial(self) -> Trial:
        settings, search = self._settings.search, self._progress.search
        if settings.workflow is None:
            return search.suggest()
        last = len(search.results) - 1
        return Trial(
            Workflow.parse(settings.workflow),
            settings.total_episodes,
            continues=None if last < 0 else last,
            begins_with=None if last < 0 else last,
            rung=settings.halvings + last + 1,
        )

    def _first_policy(self, begins_with: int | None) -> ActorCritic:
        """What a training starts from: the policy of an earlier trial, or fresh weights."""
        if begins_with is not None:
            return self._policy_of(begins_with)
        return ActorCritic(self._shape, policy_seed(self._settings.run.seed, len(self._progress.policies)))

    def _log_update(self, report: UpdateReport) -> None:
        self._progress.num_learnt = report.total_episodes
        self._record.count_round(report)
        self._record.append_row(
            TRAINING_LOG,
            {
                "workflow_id": None if report.workflow is None else report.workflow.index,
                "workflow_order": _name_of(report.workflow),
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
                "observed_compliance": report.observed_compliance,
                "alignment_weight": report.alignment_weight,
            },
        )
        self._directory.write_scalars(
            {
                "reward/environment": report.env_reward,
                "reward/alignment": report.alignment_reward,
                "reward/alignment_weight": report.alignment_weight,
                "compliance/rate": report.compliance,
                "compliance/observed_rate": report.observed_compliance,
                "compliance/fixes_per_episode": report.fixes_per_episode,
                "speed/episodes_per_second": report.episodes_per_second,
                **self._record.speed_scalars(report),
                **{f"ppo/{name}": value for name, value in asdict(report.statistics).items()},
            },
            step=report.total_episodes,
        )
        self._display.show_update(report)

    def _evaluate(self, workflow: Workflow, *policies: ActorCritic) -> list[_Evaluation]:
        """Score policies that are told an order, each on the same fresh episodes."""
        counters, settings = self._progress.counters, self._settings
        definition, threshold = settings.alignment.compliance, settings.search.compliance_threshold
        first = counters.evaluation_episode
        counters.evaluation_episode += settings.search.evaluation_episodes
        evaluations = []
        for policy in policies:
            snapshot = policy.snapshot(counters.version)
            tickets = evaluation_tickets(
                self._environment,
                snapshot,
                run_seed=settings.run.seed,
                episodes=range(first, counters.evaluation_episode),
                batch=counters.batch,
                workflow=workflow,
                mask=mask_of(settings.alignment),
            )
            counters.version += 1
            counters.batch += 1
            with self._record.evaluating():
                episodes = evaluate_policy(self._collector, snapshot, tickets)
            evaluations.append(
                _Evaluation(
                    score(episodes, workflow, definition),
                    kept_orders(episodes, self._classes, definition, threshold=threshold),
                )
            )
        return evaluations

    def _finish_order(self, trial: Trial, training: OrderTraining, num_episodes: int) -> None:
        """Evaluate an order and store what it came to; a run cut off before the checkpoint does it again."""
        policy = training.learner.policy
        if trial.continues is None:
            (evaluation,) = self._evaluate(trial.workflow, policy)
            self._keep_new(trial, training, evaluation)
        else:
            evaluation, earlier = self._evaluate(trial.workflow, policy, self._policy_of(trial.continues))
            if self._is_better(earlier.score, evaluation.score):
                evaluation = earlier
                self._keep_earlier(trial.continues)
            else:
                self._keep_new(trial, training, evaluation)
        self._record_result(trial, evaluation, num_episodes)

    def _is_better(self, earlier: Score, evaluation: Score) -> bool:
        """Whether more training spoilt a policy that met the threshold: it earned more, or alone met it."""
        if not self._met_threshold(earlier):
            return False
        return not self._met_threshold(evaluation) or earlier.reward > evaluation.reward

    def _met_threshold(self, evaluation: Score) -> bool:
        threshold = self._settings.search.compliance_threshold
        return evaluation.compliance is not None and evaluation.compliance >= threshold

    def _keep_new(self, trial: Trial, training: OrderTraining, evaluation: _Evaluation) -> None:
        """Store the policy that a trial ended with, and its learner."""
        progress, policy = self._progress, training.learner.policy
        number = len(progress.policies)
        progress.policies.append(
            self._store_policy(policy, trial.workflow, f"{number:03d}", evaluation.score)
        )
        progress.learners.append(self._learners.store(number, training.learnt()))

    def _keep_earlier(self, trial: int) -> None:
        """Stay with what an earlier trial came to."""
        progress = self._progress
        progress.policies.append(progress.policies[trial])
        progress.learners.append(progress.learners[trial])

    def _policy_of(self, trial: int) -> ActorCritic:
        return load_policy(self._directory.path / self._progress.policies[trial].file)[0]

    def _tidy_learners(self) -> None:
        """Delete learners that no trial will go on from, whichever of the two last checkpoints is resumed."""
        results = self._progress.search.results
        needed = {order.trial for order in trained_orders(results)} | {results[-1].continues}
        self._learners.keep([name for trial, name in enumerate(self._progress.learners) if trial in needed])

    def _finish_all_orders(self, policy: ActorCritic, num_episodes: int) -> None:
        """Store a universal policy, and evaluate it on each order."""
        self._progress.policies.append(self._store_policy(policy, None, "000"))
        for workflow in all_workflows():
            (evaluation,) = self._evaluate(workflow, policy)
            trial = Trial(workflow, num_episodes, rung=self._settings.search.halvings)
            self._record_result(trial, evaluation, num_episodes)

    def _record_result(self, trial: Trial, evaluation: _Evaluation, num_episodes: int) -> None:
        """Tell the search, the log and the display what an order came to."""
        search, workflow, came_to = self._progress.search, trial.workflow, evaluation.score
        number = len(search.results)
        met_threshold = self._met_threshold(came_to)
        search.observe(
            OrderResult(
                workflow=workflow,
                reward=came_to.reward,
                standard_error=came_to.reward_standard_error,
                compliance=came_to.compliance,
                observed_compliance=came_to.observed_compliance,
                episodes=num_episodes,
                met_threshold=met_threshold,
                continues=trial.continues,
                rung=trial.rung,
                kept_orders=evaluation.kept_orders,
            )
        )
        self._record.append_row(
            SEARCH_LOG,
            {
                "iteration": number,
                "workflow": str(workflow),
                "ucb": trial.upper_confidence_bound,
                "mean": trial.mean,
                "std": trial.standard_deviation,
                "evaluated_reward": came_to.reward,
                "evaluated_reward_standard_error": came_to.reward_standard_error,
                "compliance": came_to.compliance,
                "episodes": num_episodes,
                "met_threshold": met_threshold,
                "observed_compliance": came_to.observed_compliance,
                "continues": trial.continues,
                "begins_with": trial.begins_with,
                "policy": self._file_of(number),
            },
        )
        self._display.show_order(number, workflow, came_to)

    def _store_policy(
        self, policy: ActorCritic, workflow: Workflow | None, name: str, evaluation: Score | None = None
    ) -> TrainedPolicy:
        purpose = "universal" if workflow is None else f"workflow-{workflow.index:03d}"
        file = f"policies/{name}-{purpose}.safetensors"
        metadata = {
            "workflow": _name_of(workflow),
            "mask": mask_of(self._settings.alignment),
            "environment": {"id": self._environment.id, "kwargs": dict(self._environment.kwargs)},
            "compliance": self._settings.alignment.compliance,
            "seed": self._settings.run.seed,
            "evaluation": None if evaluation is None else asdict(evaluation),
        }
        self._directory.write_bytes(file, policy_to_bytes(policy, metadata))
        return TrainedPolicy(_name_of(workflow), file, policy_digest(policy))

    def _file_of(self, trial: int) -> str:
        """The policy file that earned the result of a trial."""
        return self._progress.policies[0 if self._settings.search.universal else trial].file

    def _ranking(self) -> list[RankedOrder]:
        """All orders, best first; none before the first result."""
        search = self._progress.search
        if not search.results:
            return []
        draws = generator(self._settings.run.seed, Stream.RANKING)
        ranking = rank_orders(search.results, search.belief(), self._classes, draws)
        if self._settings.search.universal:  # whose one training is that of every order
            return [replace(order, episodes=search.results[0].episodes) for order in ranking]
        return ranking

    def _row(self, order: RankedOrder) -> RankingRow:
        training = order.training
        return RankingRow(
            rank=order.rank,
            workflow=str(order.workflow),
            status=order.status,
            reward=order.reward,
            lower=order.lower,
            upper=order.upper,
            chance_to_be_best=order.chance_to_be_best,
            compliance=order.compliance,
            observed_compliance=order.observed_compliance,
            episodes=order.episodes,
            policy_of=None if training is None else str(training.result.workflow),
            policy=None if training is None else self._file_of(training.trial),
            equivalent_orders=";".join(map(str, order.equivalent)),
        )

    def _summary(self, best_order: RankedOrder | None) -> dict[str, Any]:
        progress = self._progress
        training = None if best_order is None else best_order.training
        best = None if training is None else training.result
        digests = "".join(policy.sha256 for policy in progress.policies)
        return {
            "episodes": progress.num_learnt,
            "evaluation_episodes": progress.counters.evaluation_episode,
            "is_complete": not self._interruption.is_requested,
            **self._record.summary(),
            "simulator": describe(self._environment),
            "best_workflow": None if best is None else str(best.workflow),
            "best_reward": None if best is None else best.reward,
            "best_reward_standard_error": None if best is None else best.standard_error,
            "best_compliance": None if best is None else best.compliance,
            "best_observed_compliance": None if best is None else best.observed_compliance,
            "best_met_threshold": None if best is None else best.met_threshold,
            "best_policy": None if training is None else self._file_of(training.trial),
            "policies": [asdict(policy) for policy in progress.policies],
            "weights_sha256": hashlib.sha256(digests.encode()).hexdigest(),
        }


def _name_of(workflow: Workflow | None) -> str:
    return ALL_ORDERS if workflow is None else str(workflow)
