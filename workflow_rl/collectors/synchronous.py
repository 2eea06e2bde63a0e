"""A process per environment, a barrier at every step, and one decision for all: how it is usually done.

    reset   the environments that are free take the next tickets; all wait until the slowest has begun
    decide  the policy chooses for all environments, in one compiled call in the learner's process
    step    all of them step; all wait for the slowest

Here it is the rival that barrier-free collection is measured against, so it is made as fast as Gymnasium's
vector environment allows (`lockstep_environments`). Its episodes are those of the other collectors to the
last bit; only the time differs. Nothing goes on while the learner updates, so a lag brings no speed. A
process that is lost ends the run: a vector environment cannot replace it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from workflow_rl.batch_inference import BatchActor
from workflow_rl.collectors.attempts import Attempts, Cause, Failure
from workflow_rl.collectors.lockstep_environments import LockstepEnvironments, ProcessLost
from workflow_rl.collectors.on_demand import OnDemandCollector
from workflow_rl.collectors.remote_environment import Failure as EpisodeFailure
from workflow_rl.collectors.step_record import StepRecord
from workflow_rl.compliance_mask import allowed_by_order
from workflow_rl.environments import POLICY_PRELOAD
from workflow_rl.episode import (
    EnvironmentSpec,
    Episodes,
    NetworkShape,
    Snapshot,
    Ticket,
    context_of,
)
from workflow_rl.errors import CollectorError, EpisodeError, WorkflowRLError
from workflow_rl.open_files import require_open_files
from workflow_rl.rollout import failed_episode
from workflow_rl.seeding import environment_seed, episode_key

_FREE = -1
"""In place of the number of an attempt, where an environment plays none."""


class SynchronousCollector(OnDemandCollector):
    """Environments in processes of their own, which step together.

    There are as many as the largest batch has tickets, and no more than `n_workers`. They stay until another
    environment, another size of the network or more of them are asked for.

    Args:
        n_workers: environments at most.
        preload: what the fork server imports before the first of them (`environments.preload_modules`).

    Raises:
        CollectorError: the system does not let this process have so many workers.
    """

    def __init__(self, n_workers: int, *, preload: Sequence[str] = (POLICY_PRELOAD,)) -> None:
        super().__init__()
        require_open_files(n_workers)
        self._n_workers = n_workers
        self._preload = preload
        self._environments: LockstepEnvironments | None = None
        self._played: tuple[EnvironmentSpec, NetworkShape] | None = None

    @property
    def num_players(self) -> int:
        """The environments."""
        return self._n_workers

    def play(self, tickets: Sequence[Ticket], snapshot: Snapshot) -> Episodes:
        """Play tickets of one version in environments that step together."""
        groups = groupby(tickets, key=lambda t: (t.environment, t.workflow is None, t.mask is None))
        return Episodes.concatenate([self._play_group(tuple(group), snapshot) for _, group in groups])

    def close(self) -> None:
        """Close the environments and end their processes."""
        super().close()
        self._close_environments()

    def _play_group(self, tickets: Sequence[Ticket], snapshot: Snapshot) -> Episodes:
        try:
            environments = self._environments_for(tickets, snapshot.shape)
            return _Lockstep(environments, tickets, snapshot, self.attempts).play()
        except BaseException:
            self._close_environments()  # some are in the middle of an episode
            raise

    def _environments_for(self, tickets: Sequence[Ticket], shape: NetworkShape) -> LockstepEnvironments:
        spec, count = tickets[0].environment, min(self._n_workers, len(tickets))
        if self._environments is None or self._played != (spec, shape) or self._environments.count < count:
            self._close_environments()
            self._environments = LockstepEnvironments(spec, shape, count, self._preload)
            self._played = (spec, shape)
        return self._environments

    def _close_environments(self) -> None:
        if self._environments is not None:
            self._environments.close()
            self._environments = None


@dataclass(slots=True)
class _Attempt:
    """An episode in an environment, as long as it does not fail.

    Attributes:
        ticket: what is played.
        worker: process id of the environment.
        started: seconds of the monotonic clock.
        seconds: that it took, waiting for others included.
        terminated: whether it ended by itself.
        is_complete: whether it ended without a failure.
    """

    ticket: Ticket
    worker: int
    started: float
    seconds: float = 0.0
    terminated: bool = False
    is_complete: bool = False


class _Lockstep:
    """Plays tickets of one environment and version.

    Args:
        environments: at most as many as there are tickets, or some remain idle.
        tickets: all with a workflow or all without, all with a mask or all without.
        snapshot: the weights they name.
        failures: counts what failed.
    """

    def __init__(
        self,
        environments: LockstepEnvironments,
        tickets: Sequence[Ticket],
        snapshot: Snapshot,
        failures: Attempts,
    ) -> None:
        self._environments = environments
        self._tickets = tickets
        self._is_masked = tickets[0].mask is not None
        self._waiting = deque(tickets)
        self._actor = BatchActor(snapshot, environments.count)
        self._failures = failures
        self._attempts: list[_Attempt] = []
        self._current = np.full(environments.count, _FREE)
        self._steps = StepRecord()

    def play(self) -> Episodes:
        """All of them, in the order of the tickets."""
        try:
            while self._begin_episodes():
                self._step()
        except ProcessLost as loss:
            raise self._error_of(loss) from loss
        return self._episodes()

    def _begin_episodes(self) -> bool:
        """Let free environments take the tickets that wait; whether any is playing."""
        while self._waiting and len(free := np.flatnonzero(self._current == _FREE)):
            self._reset([int(number) for number in free[: len(self._waiting)]])
        return bool((self._current != _FREE).any())

    def _reset(self, numbers: Sequence[int]) -> None:
        started = time.monotonic()
        seeds = {number: self._take(number, started) for number in numbers}
        begun = self._environments.reset(seeds, is_judged=self._tickets[0].workflow is not None)
        self._steps.is_bits |= begun.is_bits
        for number, failure in begun.failures.items():
            self._fail(number, failure)

    def _take(self, number: int, started: float) -> int:
        """Give an environment the next ticket; returns the environment's seed."""
        ticket = self._waiting.popleft()
        key = episode_key(ticket.run_seed, ticket.stream, ticket.episode)
        self._actor.begin_episode(number, context_of(ticket), key, greedy=ticket.greedy)
        self._current[number] = len(self._attempts)
        self._attempts.append(_Attempt(ticket, int(self._environments.processes[number]), started))
        return int(environment_seed(key))

    def _step(self) -> None:
        environments = self._environments
        numbers = np.flatnonzero(self._current != _FREE)
        attempts = self._current[numbers]
        seen = environments.observations[numbers]  # a copy
        masks = self._masks(numbers)
        allowed = None if masks is None else masks[numbers]
        actions, log_probs = self._actor.act(environments.observations, numbers, masks)
        stepped = environments.step(numbers, actions)
        self._steps.add_observations(attempts, seen)
        self._steps.add_step(
            attempts,
            allowed,
            actions=actions,
            log_probs=log_probs,
            rewards=stepped.rewards[numbers],
            compromised=stepped.compromised[numbers],
        )
        for number, failure in stepped.failures.items():
            self._fail(number, failure)
        self._end_episodes(numbers[stepped.is_over[numbers]], stepped.terminated)

    def _masks(self, numbers: NDArray[np.int64]) -> NDArray[np.bool_] | None:
        """What the workflow or else the environments allow next, (n, A); of these environments at least."""
        environments = self._environments
        if not self._is_masked:
            return environments.allowed
        allowed = np.ones((environments.count, environments.num_actions), np.bool_)
        for number in numbers:
            ticket = self._attempts[self._current[number]].ticket
            allowed[number] = allowed_by_order(ticket, environments.observations[number])
        return allowed

    def _end_episodes(self, numbers: NDArray[np.int64], terminated: NDArray[np.bool_]) -> None:
        """Finish what has ended, unless it was by a failure."""
        now = time.monotonic()
        numbers = numbers[self._current[numbers] != _FREE]
        self._steps.add_observations(self._current[numbers], self._environments.observations[numbers])
        for number in numbers:
            attempt = self._attempts[self._current[number]]
            attempt.seconds = now - attempt.started
            attempt.terminated = bool(terminated[number])
            attempt.is_complete = True
        self._current[numbers] = _FREE

    def _fail(self, number: int, failure: EpisodeFailure) -> None:
        """Have the ticket of an environment played again.

        Raises:
            WorkflowRLError: it has failed for the last time, or will not be any better next time.
        """
        ticket = self._attempts[self._current[number]].ticket
        self._current[number] = _FREE
        error = failure if isinstance(failure, WorkflowRLError) else failed_episode(ticket, failure)
        if not isinstance(error, EpisodeError):
            raise error
        self._failures.count(ticket, Failure(Cause.RAISED, str(error), error))
        self._waiting.appendleft(ticket)

    def _error_of(self, loss: ProcessLost) -> CollectorError:
        attempt = _FREE if loss.number is None else int(self._current[loss.number])
        playing = "" if attempt == _FREE else f" that played {self._attempts[attempt].ticket}"
        return CollectorError(
            f"an environment process{playing} {loss.ending}; --collector synchronous cannot replace it, "
            "--collector executor would play the episode again"
        )

    def _episodes(self) -> Episodes:
        """What was played, episode by episode."""
        complete = [number for number, attempt in enumerate(self._attempts) if attempt.is_complete]
        complete.sort(key=lambda number: self._attempts[number].ticket.episode)
        order = np.full(len(self._attempts), _FREE)
        order[complete] = np.arange(len(complete))
        done = [self._attempts[number] for number in complete]
        return Episodes(
            tickets=tuple(attempt.ticket for attempt in done),
            **self._steps.columns(order),
            terminated=np.array([attempt.terminated for attempt in done]),
            started=np.array([attempt.started for attempt in done]),
            seconds=np.array([attempt.seconds for attempt in done], np.float32),
            worker=np.array([attempt.worker for attempt in done], np.int32),
        )
