"""Hands calls to the worker pools, in a thread of its own, and hands them out again when they are lost.

    learner's thread                dispatcher's thread                     pools of workers
    hand_in(tickets, inbox) ----->  waiting calls  -- to the emptiest --->  play
    inbox.get() <--- episodes ----  report of a pool  <-------------------  episodes
                <--- an error when a ticket has failed for the last time

                                    a pool is needed  --> starter's thread: start its processes, one by one

The thread owns all that changes here; the others send it messages. It works while the learner learns, so a
worker lost during an update is replaced, and its ticket played again, before anybody waits for it. It never
waits for a process to start, which takes long where many compete for few cores.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import BrokenExecutor
from queue import Empty, SimpleQueue

from workflow_rl.collectors.attempts import Attempts, Cause, Failure
from workflow_rl.collectors.interface import Inbox
from workflow_rl.collectors.pool import (
    Call,
    CallEnded,
    MakePool,
    Pool,
    PoolBroke,
    PoolReady,
    Report,
    failure_of_exception,
)
from workflow_rl.collectors.starter import Starter
from workflow_rl.collectors.worker_pool import join
from workflow_rl.episode import Episodes, Ticket
from workflow_rl.errors import CollectorError, EpisodeError, WorkflowRLError

_MAX_USELESS_POOLS = 3
"""Pools in a row that break before they have played anything, with no ticket to blame: it is not the episodes
that kill the workers then, and a fourth pool would not fare better."""

_USELESS = "workers die before they play anything; what they wrote to stderr says why"

_CHECKS_PER_TIMEOUT = 10
_CHECK_SECONDS = 1.0
"""Between two looks at the workers, if no limit for episodes asks for more."""
_IN_THE_WAY = Failure(Cause.BYSTANDER, "it travelled with one that failed")


class Dispatcher:
    """Keeps pools of workers busy.

    Args:
        pool_sizes: workers of each pool.
        make_pool: makes one.
        episode_timeout: seconds after which an episode counts as hanging; `None` for never. Compiled episodes
            that are played together may take so long each, all in all.

    Attributes:
        attempts: what failed, and what was handed out again.
    """

    def __init__(
        self,
        pool_sizes: Sequence[int],
        make_pool: MakePool,
        episode_timeout: float | None,
    ) -> None:
        self.attempts = Attempts()
        self._make_pool = make_pool
        self._episode_timeout = episode_timeout
        self._check_seconds = min(_CHECK_SECONDS, (episode_timeout or math.inf) / _CHECKS_PER_TIMEOUT)
        self._messages: SimpleQueue[Call | Report | None] = SimpleQueue()
        self._waiting: deque[Call] = deque()
        self._numbers = itertools.count()
        self._useless_pools = 0
        self._next_check = 0.0
        self._ending: CollectorError | None = None
        self._starter = Starter()
        self._unstarted: deque[Pool] = deque()
        self._starting: set[Pool] = set()
        self._pools = [self._new_pool(size) for size in pool_sizes]
        self._thread = threading.Thread(target=self._run, name="workflow_rl-dispatcher", daemon=True)
        self._thread.start()

    def hand_in(self, tickets: tuple[Ticket, ...], inbox: Inbox) -> None:
        """Have tickets of one batch and version played; returns at once.

        Args:
            tickets: they travel together.
            inbox: takes their episodes, perhaps in parts, or the error that ends the batch.
        """
        self._messages.put(self._call(tickets, inbox))
        if self._ending is not None:
            self._refuse_unread(self._ending)

    def close(self) -> None:
        """End the workers at once, whatever they are doing; calls that are open end with an error."""
        self._messages.put(None)
        self._thread.join()
        self._starter.stop()
        join([process for pool in self._pools for process in pool.terminate()])

    def _run(self) -> None:
        ending = CollectorError("the collector has ended")
        try:
            while (message := self._next_message()) is not None:
                self._handle(message)
                self._hand_out()
        except Exception as error:  # noqa: BLE001  (whatever it is, who waits for episodes would wait for ever)
            ending = CollectorError(f"the collector cannot go on: {type(error).__name__}: {error}")
            ending.__cause__ = error
        self._ending = ending  # before the last look at the messages, or one could come between
        self._give_up([*self._waiting, *self._open_calls()], ending)
        self._refuse_unread(ending)

    def _next_message(self) -> Call | Report | None:
        """The next message; meanwhile look after the workers. `None` is the end."""
        while True:
            if (wait := self._next_check - time.monotonic()) > 0:
                with contextlib.suppress(Empty):
                    return self._messages.get(timeout=wait)
            for pool in self._pools:
                pool.look_after(self._episode_timeout)
            self._next_check = time.monotonic() + self._check_seconds

    def _handle(self, message: Call | Report) -> None:
        if isinstance(message, Call):
            self._waiting.append(message)
        elif message.pool not in self._pools:
            return  # it has been replaced, and its calls were handed out again
        elif isinstance(message, PoolReady):
            self._starting.discard(message.pool)
        elif isinstance(message, PoolBroke):
            self._replace(message)
        else:
            self._take_back(message)

    def _take_back(self, ended: CallEnded) -> None:
        call, outcome = ended.call, ended.outcome
        ended.pool.take_back(call)
        self._useless_pools = 0
        if isinstance(outcome, Episodes):
            call.inbox.put(outcome)
        elif isinstance(outcome, WorkflowRLError) and not isinstance(outcome, EpisodeError):
            call.inbox.put(outcome)  # a setting that is not allowed, a part that is missing: lasting
        else:
            self._play_again(call, failure_of_exception(outcome, call))

    def _replace(self, broke: PoolBroke) -> None:
        """A new pool for a broken one; its calls come first, in their old order."""
        pool = broke.pool
        pool.kill()
        self._starting.discard(pool)
        self._pools[self._pools.index(pool)] = self._new_pool(pool.num_workers)
        failures = [(call, pool.failure_of(call)) for call in pool.calls.values()]
        for call, failure in reversed(failures):
            self._play_again(call, failure)
        is_useless = not pool.has_played and all(f.cause is Cause.BYSTANDER for _, f in failures)
        self._useless_pools += is_useless
        is_hopeless = self._useless_pools > _MAX_USELESS_POOLS * len(self._pools)
        if broke.error is not None or is_hopeless:
            error = broke.error or CollectorError(_USELESS)
            self._give_up(self._waiting, error)
            self._waiting.clear()

    def _play_again(self, call: Call, failure: Failure) -> None:
        """Put a call before all others.

        Tickets that may be at fault travel alone from now on, so that only the one that is fails again.
        """
        suspects = range(len(call.tickets)) if failure.suspects is None else failure.suspects
        try:
            for position, ticket in enumerate(call.tickets):
                self.attempts.count(ticket, failure if position in suspects else _IN_THE_WAY)
        except WorkflowRLError as error:
            call.inbox.put(error)
            return
        if failure.cause is Cause.BYSTANDER:
            parts = [call.tickets]
        else:
            alone = [(ticket,) for ticket in call.tickets[suspects.start : suspects.stop]]
            parts = [call.tickets[: suspects.start], *alone, call.tickets[suspects.stop :]]
        self._waiting.extendleft(self._call(part, call.inbox) for part in reversed(parts) if part)

    def _hand_out(self) -> None:
        while self._waiting and (pool := self._emptiest()) is not None:
            call = self._waiting.popleft()
            try:
                pool.hand_in(call)
            except BrokenExecutor:
                self._waiting.appendleft(call)
        num_starting = sum(pool.num_workers for pool in self._starting)
        while self._unstarted and num_starting < len(self._waiting):
            pool = self._unstarted.popleft()
            self._starting.add(pool)
            self._starter.start(pool)
            num_starting += pool.num_workers

    def _emptiest(self) -> Pool | None:
        """The pool that the next call goes to, if there is one that takes it."""
        pool = max(self._pools, key=_idleness)
        is_rising = bool(self._starting or self._unstarted)  # a place in a queue can wait for them
        return pool if _idleness(pool) > (0 if is_rising else -pool.num_prefetched) else None

    def _call(self, tickets: tuple[Ticket, ...], inbox: Inbox) -> Call:
        return Call(next(self._numbers), tickets, inbox)

    def _new_pool(self, size: int) -> Pool:
        pool = self._make_pool(size, self._messages.put)
        self._unstarted.append(pool)
        return pool

    def _open_calls(self) -> list[Call]:
        return [call for pool in self._pools for call in pool.calls.values()]

    def _refuse_unread(self, error: WorkflowRLError) -> None:
        """End calls that nobody will read any more."""
        with contextlib.suppress(Empty):
            while True:
                message = self._messages.get_nowait()
                if isinstance(message, Call):
                    message.inbox.put(error)

    def _give_up(self, calls: Iterable[Call], error: WorkflowRLError) -> None:
        for call in calls:
            call.inbox.put(error)


def _idleness(pool: Pool) -> int:
    """Workers of a pool without a call; negative if calls wait behind others."""
    return pool.num_workers - len(pool.calls) if pool.is_ready else -sys.maxsize
