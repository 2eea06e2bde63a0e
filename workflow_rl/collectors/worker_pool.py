"""A few workers on one `concurrent.futures.ProcessPoolExecutor`, and who is to blame when it breaks.

One worker's abrupt death breaks its executor: every pending future fails and the other workers are ended
(`concurrent/futures/process.py`, `_terminate_broken`). The futures fail first, in the executor's own thread,
and their callbacks run there before it ends anybody: at that moment the processes that are gone are exactly
those that died by themselves, and their heartbeats name the calls they were playing.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import connection
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from queue import SimpleQueue

from workflow_rl.collectors import worker
from workflow_rl.collectors.attempts import Cause, Failure
from workflow_rl.collectors.heartbeats import forget_beat, read_beat
from workflow_rl.episode import Episodes, Ticket
from workflow_rl.errors import EpisodeError, WorkflowRLError

_PREFETCHED = 2
"""Calls in a pool beyond its workers, so that one who is done finds the next at once. They are tied to the
pool, and wait for its workers while others may be idle: no more than needed."""

_JOIN_SECONDS = 5.0
_HAND_IN_SECONDS = 1.0
_BYSTANDER = Failure(Cause.BYSTANDER, "another worker of its pool was lost")
_UNREADABLE = Failure(Cause.RAISED, "it or another one sent a result that could not be read")


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """Tickets that travel together.

    Attributes:
        number: never used twice.
        tickets: of one batch and version.
        inbox: where their episodes go, or the error that ends the batch.
    """

    number: int
    tickets: tuple[Ticket, ...]
    inbox: SimpleQueue[Episodes | WorkflowRLError]


@dataclass(frozen=True, slots=True, eq=False)
class CallEnded:
    """A pool reports that a call has come back, with episodes or with an exception."""

    pool: WorkerPool
    call: Call
    future: Future[Episodes]


@dataclass(frozen=True, slots=True, eq=False)
class PoolBroke:
    """A pool reports that it has lost a worker, and with it all of its calls."""

    pool: WorkerPool


class WorkerPool:
    """Worker processes that live and die together. Once broken it stays so; make another one.

    All methods are called by one thread.

    Args:
        num_workers: processes, started when there is something to do for them.
        context: how they are started.
        directory: of snapshots and heartbeats.
        report: called in another thread, with what happened.

    Attributes:
        num_workers: as above.
        calls: handed in and not come back, by number.
        has_played: whether a call has come back.
    """

    def __init__(
        self,
        num_workers: int,
        context: BaseContext,
        directory: Path,
        report: Callable[[CallEnded | PoolBroke], None],
    ) -> None:
        self.num_workers = num_workers
        self.calls: dict[int, Call] = {}
        self.has_played = False
        self._directory = directory
        self._report = report
        self._failures: dict[int, Failure] = {}
        self._overdue: dict[int, Failure] = {}
        self._is_broken = False
        self._is_refusing = False
        self._handing_in = threading.Lock()
        self._executor = ProcessPoolExecutor(
            num_workers, mp_context=context, initializer=worker.start, initargs=(directory,)
        )

    @property
    def room(self) -> int:
        """How many more calls it takes; none once it has refused one."""
        return 0 if self._is_refusing else self.num_workers + _PREFETCHED - len(self.calls)

    def hand_in(self, call: Call) -> None:
        """Queue a call.

        Raises:
            BrokenProcessPool: a worker was lost. If there are calls in the pool, it has yet to report who is
                to blame; if there are none, it has nothing to report.
        """
        self.calls[call.number] = call
        try:
            with self._handing_in:
                future = self._executor.submit(worker.play, call.number, call.tickets)
        except BrokenProcessPool:
            self._is_refusing = True
            del self.calls[call.number]
            raise
        future.add_done_callback(partial(self._on_done, call))

    def take_back(self, call: Call) -> None:
        """Count a call as come back."""
        del self.calls[call.number]
        self.has_played = True

    def failure_of(self, call: Call) -> Failure:
        """What became of a call that was in the pool when it broke."""
        return self._failures.get(call.number, _BYSTANDER)

    def end_overdue(self, seconds: float) -> None:
        """Kill the workers whose call began more than so many seconds ago; the pool then breaks."""
        now = time.monotonic()
        for process in self._processes():
            beat = read_beat(self._directory, process.pid or 0)
            if beat is not None and beat.call in self.calls and now - beat.started > seconds:
                detail = f"it took more than {seconds:g} seconds and its worker was killed"
                self._overdue[beat.call] = Failure(Cause.HUNG, detail)
                process.kill()

    def kill(self) -> None:
        """End the workers at once, without waiting for them."""
        processes = self._processes()
        self._executor.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.kill()
            forget_beat(self._directory, process.pid or 0)

    def terminate(self) -> list[BaseProcess]:
        """Ask the workers to end; returns them, for `join`."""
        processes = self._processes()
        self._executor.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()
        return processes

    def _processes(self) -> list[BaseProcess]:
        return list((self._executor._processes or {}).values())  # no public way before Python 3.14

    def _on_done(self, call: Call, future: Future[Episodes]) -> None:
        if future.cancelled():
            return
        if not isinstance(future.exception(), BrokenProcessPool):
            self._report(CallEnded(self, call, future))
        elif not self._is_broken:
            self._is_broken = True
            self._wait_for_hand_in()
            self._failures = self._blame()
            self._report(PoolBroke(self))

    def _wait_for_hand_in(self) -> None:
        """Let a call that is being handed in, and may be starting a worker for it, get into the executor.

        Python 3.11's executor thread would stumble over the new worker while it ends the others. Later ones
        may hold the lock that handing in waits for, and have nothing to fear: hence the limit.
        """
        if self._handing_in.acquire(timeout=_HAND_IN_SECONDS):
            self._handing_in.release()

    def _blame(self) -> dict[int, Failure]:
        """The calls that the dead were playing. If nobody is dead, a result could not be read: any may be."""
        processes = {process.sentinel: process for process in self._processes()}
        if not (ended := connection.wait(list(processes), timeout=0)):
            return dict.fromkeys(self.calls, _UNREADABLE)
        failures = {}
        for sentinel in ended:
            assert isinstance(sentinel, int)
            process = processes[sentinel]
            beat = read_beat(self._directory, process.pid or 0)
            if beat is not None and beat.call in self.calls:
                death = Failure(Cause.DIED, f"its worker {_ending(process.exitcode)}")
                failures[beat.call] = self._overdue.get(beat.call, death)
        return failures


def join(processes: list[BaseProcess]) -> None:
    """Wait for workers that were asked to end, and kill those that do not."""
    deadline = time.monotonic() + _JOIN_SECONDS
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()


def failure_of_exception(error: BaseException, call: Call) -> Failure:
    """What a call's exception means; other than an `EpisodeError` it is about sending the episodes back."""
    if not isinstance(error, EpisodeError):
        message = f"the result of {call.tickets[0]} could not be sent: {type(error).__name__}: {error}"
        error = EpisodeError(message, str(error.__cause__ or ""))
    return Failure(Cause.RAISED, str(error), error)


def _ending(exit_code: int | None) -> str:
    """How a process ended, in words."""
    if exit_code is not None and exit_code < 0:
        return f"was killed by {signal.Signals(-exit_code).name}"
    return f"ended with exit code {exit_code}"
