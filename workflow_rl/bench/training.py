"""A training with warm workers, measured in rounds.

Every round trains the same fresh policy on one order, through the pieces that the main job is made of, so
rounds repeat each other's work. The first and the last batches of a round, as many as the lag, are not
counted: the pipeline fills during the ones and runs dry during the others. In between, it is measured from
the end of one update to the end of another, when the workers are equally far ahead, so nothing is counted
that was not paid for.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from workflow_rl.bench import processes
from workflow_rl.closing import Closing
from workflow_rl.collectors import make_collector
from workflow_rl.environments import cage2_environment
from workflow_rl.episode import EnvironmentSpec, Snapshot
from workflow_rl.evaluation import evaluate_policy, evaluation_tickets
from workflow_rl.order_training import OrderTraining, UpdateReport
from workflow_rl.pipeline import Counters
from workflow_rl.policy import ActorCritic
from workflow_rl.ppo import PPO
from workflow_rl.rollout import shape_for
from workflow_rl.settings import TrainSettings
from workflow_rl.workflow import Workflow


@dataclass(frozen=True)
class TrainingRound:
    """What one round came to; the uncounted batches are in none of the figures.

    Attributes:
        episodes: learnt from.
        wall_seconds: of all counted updates, collection included.
        collection_seconds: that the learner waited for batches.
        update_seconds: that it updated.
        worker_cpu_seconds: of all workers.
        learner_cpu_seconds: of the learner's process, all threads.
    """

    episodes: int
    wall_seconds: float
    collection_seconds: float
    update_seconds: float
    worker_cpu_seconds: float
    learner_cpu_seconds: float


@dataclass(frozen=True)
class _Instant:
    wall_seconds: float
    worker_cpu_seconds: float
    learner_cpu_seconds: float


class WarmTraining(Closing):
    """Workers that are ready, and a learner to train with them again and again; a context manager.

    Args:
        settings: of the simulator, the collector, PPO and a batch; what ends an order's training early should
            be out of reach.
        environment: what is played; by default what the settings of the simulator ask for.

    Attributes:
        cold_seconds: until as many episodes as workers were played, start-up of the workers included.
        startup_seconds: until as many again were played.
        workers: process ids of the workers that the warm-up started: all of them, unless episodes are so
            short that the executor found idle ones instead.
        environment: what they play.
        initial: the policy that every round starts with.
    """

    def __init__(self, settings: TrainSettings, environment: EnvironmentSpec | None = None) -> None:
        processes.check_supported()
        started = time.monotonic()
        self._settings = settings
        self._workflow = Workflow.from_index(0)
        self._counters = Counters()
        self.environment = environment or cage2_environment(settings.simulator)
        self._collector = make_collector(settings.collector, self.environment)
        self.initial = self._fresh_policy().snapshot(0)
        self._play_one_each(self.initial)
        self.cold_seconds = time.monotonic() - started
        self._play_one_each(self.initial)
        server = processes.fork_server_of(os.getpid())
        self.workers = [] if server is None else processes.children_of(server)
        self.startup_seconds = time.monotonic() - started

    def play(self, num_updates: int, *, lag: int | None = None) -> TrainingRound:
        """Train for a round of `num_updates` counted updates, at least 1; by default at the settings' lag."""
        num_uncounted = max(1, self._settings.collector.lag if lag is None else lag)
        reports = self.updates(num_updates + 2 * num_uncounted, lag=lag)
        for _ in range(num_uncounted):
            next(reports)
        before = self._now()
        counted = [next(reports) for _ in range(num_updates)]
        after = self._now()
        for _ in reports:
            pass
        return TrainingRound(
            episodes=sum(report.batch_size for report in counted),
            wall_seconds=after.wall_seconds - before.wall_seconds,
            collection_seconds=sum(report.collection_seconds for report in counted),
            update_seconds=sum(report.update_seconds for report in counted),
            worker_cpu_seconds=after.worker_cpu_seconds - before.worker_cpu_seconds,
            learner_cpu_seconds=after.learner_cpu_seconds - before.learner_cpu_seconds,
        )

    def updates(self, num_updates: int, *, lag: int | None = None) -> Iterator[UpdateReport]:
        """Train a fresh policy, yielding after every update; by default at the settings' lag."""
        settings = self._settings
        if lag is not None:
            settings = replace(settings, collector=replace(settings.collector, lag=lag))
        learner = PPO(self._fresh_policy(), settings.ppo, seed=settings.run.seed)
        training = OrderTraining(
            workflow=self._workflow,
            learner=learner,
            environment=self.environment,
            settings=settings,
            collector=self._collector,
            counters=self._counters,
            is_interrupted=lambda: False,
        )
        yield from training.run(num_updates * settings.search.episodes_per_update)

    def close(self) -> None:
        """End the workers. May be called twice."""
        self._collector.close()

    def _fresh_policy(self) -> ActorCritic:
        shape = shape_for(self.environment, hidden_size=self._settings.ppo.hidden_size, has_workflow=True)
        return ActorCritic(shape, seed=self._settings.run.seed)

    def _play_one_each(self, snapshot: Snapshot) -> None:
        """Play as many episodes as workers, so that these are started, environments built and code loaded."""
        tickets = evaluation_tickets(
            self.environment,
            snapshot,
            run_seed=self._settings.run.seed,
            episodes=range(self._settings.collector.n_workers),
            batch=self._counters.batch,
            workflow=self._workflow,
        )
        self._counters.version += 1
        self._counters.batch += 1
        evaluate_policy(self._collector, snapshot, tickets)

    def _now(self) -> _Instant:
        return _Instant(
            wall_seconds=time.monotonic(),
            worker_cpu_seconds=sum(processes.cpu_seconds(worker) for worker in self.workers),
            learner_cpu_seconds=time.process_time(),
        )
