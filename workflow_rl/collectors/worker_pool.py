"""A worker, or a few, on one `concurrent.futures.ProcessPoolExecutor`, and who is to blame when it breaks.

    start()     in the thread of the starter: the executor's first call starts its processes
    hand_in()   from then on: more calls, which start nothing
    reports     in the executor's own thread: ready, a call has come back, broken

One worker's abrupt death breaks its executor: every pending future fails and the other workers are ended
(`concurrent/futures/process.py`, `_terminate_broken`). Until Python 3.12 that goes wrong if a process is
being started meanwhile: it may be missed, and the executor's thread waits for it. So all processes are
started before the executor has a thread, as Python itself does where it forks.

The futures fail first, and their callbacks run before anybody is ended: at that moment the processes that are
gone are those that died by themselves, and their heartbeats name what they were playing.

A worker that dies while it writes a result leaves a part of it in the pipe. The executor's thread reads that
before it looks for the dead, and waits for the rest as long as anybody could write it. So losses are looked
for from outside as well, and only the workers can write to the pipe: when they end, so does the wait.

The executor's thread starts another one for its first call. Where the system gives the process no more
threads it dies of that, and nobody is told; so that is looked for too.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import connection
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TypeGuard

from workflow_rl.collectors import worker
from workflow_rl.collectors.attempts import Cause, Failure
from workflow_rl.collectors.child_process import ending_of
from workflow_rl.collectors.heartbeats import Beat, forget_beat, read_beat
from workflow_rl.collectors.pool import Call, CallEnded, PoolBroke, PoolReady, Report
from workflow_rl.episode import Episodes
from workflow_rl.errors import CollectorError

_PREFETCHED = 2
"""They are tied to the pool, and wait for its workers while others may be idle: no more than needed, and none
where they would wait for a single worker."""

_JOIN_SECONDS = 5.0
_EXIT_CODE_SECONDS = 1.0
"""The end of the last worker's results is seen at once, its exit code when the fork server has sent it."""
_START_SECONDS = 300.0
"""A worker that takes longer to start will not come. Generous: where there is no fork server a hundred of
them load all they need at the same time."""

_BYSTANDER = Failure(Cause.BYSTANDER, "a worker of its pool was lost")
_UNREADABLE = Failure(Cause.RAISED, "it or another one sent a result that could not be read")


@dataclass(frozen=True, slots=True)
class _Idle:
    """A worker that begins nothing.

    Attributes:
        beat: its last one, `None` if it has not come so far as to have one.
        since: when that was first seen while a call waited, seconds of the monotonic clock.
    """

    beat: Beat | None
    since: float


class WorkerPool:
    """Worker processes that live and die together. Once broken it stays so; make another one.

    All methods but `start` are called by one thread.

    Args:
        num_workers: processes.
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
        report: Callable[[Report], None],
    ) -> None:
        self.num_workers = num_workers
        self.calls: dict[int, Call] = {}
        self.has_played = False
        self._directory = directory
        self._report = report
        self._failures: dict[int, Failure] = {}
        self._overdue: dict[int, Failure] = {}
        self._idle: dict[BaseProcess, _Idle] = {}
        self._is_ready = False
        self._is_broken = False
        self._is_loss_seen = False
        self._breaking = threading.Lock()
        self._executor = ProcessPoolExecutor(
            num_workers, mp_context=context, initializer=worker.start, initargs=(directory,)
        )
        # All of them at the first call, not one a call: a later start is not as safe as Python believes.
        self._executor._safe_to_dynamically_spawn_children = False  # type: ignore[attr-defined]

    @property
    def is_ready(self) -> bool:
        """Whether it takes calls: its workers have started and none is lost, as far as is known."""
        return self._is_ready and not self._is_broken

    @property
    def num_prefetched(self) -> int:
        """Calls that it should have beyond its workers, so that one who is done finds the next at once."""
        return _PREFETCHED if self.num_workers > 1 else 0

    def start(self) -> None:
        """Start the workers; returns when their processes are there. The pool reports when it takes calls."""
        results = self._executor._result_queue
        try:
            future = self._executor.submit(worker.show_up)
        except (OSError, EOFError):  # a process ended while it was being started
            self._on_broken()
        except RuntimeError as error:
            self._on_broken(_no_threads(str(error)))
        else:
            results._writer.close()  # type: ignore[attr-defined]
            future.add_done_callback(self._on_shown_up)

    def hand_in(self, call: Call) -> None:
        """Queue a call.

        Raises:
            BrokenProcessPool: a worker was lost; the pool reports that, or has done so.
        """
        self.calls[call.number] = call
        try:
            future = self._executor.submit(worker.play, call.number, call.tickets)
        except BrokenProcessPool:
            del self.calls[call.number]
            self._on_broken()
            raise
        future.add_done_callback(partial(self._on_done, call))
        if self._executor._broken:
            self._on_broken()  # until Python 3.12 it forgets a future that it receives while it breaks

    def take_back(self, call: Call) -> None:
        """Count a call as come back."""
        del self.calls[call.number]
        self.has_played = True

    def failure_of(self, call: Call) -> Failure:
        """What became of a call that was in the pool when it broke."""
        return self._failures.get(call.number, _BYSTANDER)

    def look_after(self, episode_timeout: float | None) -> None:
        """Kill the workers that hang, and report losses that nobody else does.

        The executor reports a loss at once or never: what was there the last time as well is never.
        """
        if episode_timeout is not None:
            self._end_overdue(episode_timeout)
        if self._is_loss_seen:
            self._on_broken()
        elif self._is_thread_lost():
            self._on_broken(_no_threads("the thread of an executor has ended"))
        is_any_dead = any(process.exitcode is not None for process in self._processes())
        self._is_loss_seen = self._is_ready and is_any_dead

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

    def _end_overdue(self, seconds: float) -> None:
        """Kill the workers that hang; the pool then breaks.

        They are those whose episode, or each of several compiled ones, takes longer than so many seconds, and
        those that have not begun a call for so long although one waits: somebody has stopped them.
        """
        now = time.monotonic()
        beats = {process: read_beat(self._directory, process.pid or 0) for process in self._processes()}
        self._idle = self._still_idle(beats, now)
        for process, idle in self._idle.items():
            if now - idle.since > (seconds if idle.beat is not None else max(seconds, _START_SECONDS)):
                process.kill()
        for process, beat in beats.items():
            if self._is_of_a_call(beat) and now - beat.started > seconds * beat.count:
                detail = f"it took more than {seconds:g} seconds and its worker was killed"
                self._overdue[beat.call] = Failure(Cause.HUNG, detail, suspects=beat.positions)
                process.kill()

    def _still_idle(self, beats: Mapping[BaseProcess, Beat | None], now: float) -> dict[BaseProcess, _Idle]:
        """Workers that have begun nothing although a call waits, and since when that has been so."""
        begun = {beat.call for beat in beats.values() if beat is not None}
        if self._is_ready and self.calls.keys() <= begun:
            return {}
        idle = {}
        for process, beat in beats.items():
            if not self._is_of_a_call(beat):
                before = self._idle.get(process)
                idle[process] = before if before is not None and before.beat == beat else _Idle(beat, now)
        return idle

    def _is_of_a_call(self, beat: Beat | None) -> TypeGuard[Beat]:
        """Whether a worker with this beat is playing, and not idle or still starting."""
        return beat is not None and beat.call in self.calls

    def _is_thread_lost(self) -> bool:
        """Whether the executor's thread has ended otherwise than by breaking."""
        thread: threading.Thread | None = self._executor._executor_manager_thread  # type: ignore[assignment]
        has_ended = thread is not None and thread.ident is not None and not thread.is_alive()
        return has_ended and not self._executor._broken

    def _processes(self) -> list[BaseProcess]:
        return list((self._executor._processes or {}).values())  # no public way before Python 3.14

    def _on_shown_up(self, future: Future[None]) -> None:
        if future.cancelled():
            return
        error = future.exception()
        if error is not None:
            self._on_broken(_refused_thread(error))
        else:
            self._is_ready = True
            self._report(PoolReady(self))

    def _on_done(self, call: Call, future: Future[Episodes]) -> None:
        if future.cancelled():
            return
        if isinstance(future.exception(), BrokenProcessPool):
            self._on_broken()
        else:
            self._report(CallEnded(self, call, future.exception() or future.result()))

    def _on_broken(self, error: CollectorError | None = None) -> None:
        """Report it, once; whoever notices first, in whatever thread.

        Args:
            error: why another pool would not fare better, if that is known.
        """
        with self._breaking:
            if not self._is_broken:
                self._failures = self._blame() if error is None else {}
                self._is_broken = True
                self._report(PoolBroke(self, error))

    def _blame(self) -> dict[int, Failure]:
        """The calls that the dead were playing. If nobody is dead, a result could not be read: any may be."""
        processes = self._processes()
        connection.wait([process.sentinel for process in processes], _EXIT_CODE_SECONDS)
        codes = {process: code for process in processes if (code := process.exitcode) is not None}
        if not codes:
            return dict.fromkeys(self.calls, _UNREADABLE)
        by_themselves = {process: code for process, code in codes.items() if code != -signal.SIGTERM}
        failures = {}
        for process, code in (
            by_themselves or codes
        ).items():  # the executor may have begun to end the others
            beat = read_beat(self._directory, process.pid or 0)
            if self._is_of_a_call(beat):
                death = Failure(Cause.DIED, f"its worker {ending_of(code)}", suspects=beat.positions)
                failures[beat.call] = self._overdue.get(beat.call, death)
        return failures


def _refused_thread(error: BaseException) -> CollectorError | None:
    """Why a pool broke before its workers showed up, if it was that the system refused it a thread.

    An executor that cannot start the thread which passes calls on breaks, and hands over the reason as text.
    Before Python 3.12 it did not: its own thread ended.
    """
    refusal = "can't start new thread"
    return _no_threads(refusal) if refusal in str(error.__cause__) else None


def _no_threads(what_happened: str) -> CollectorError:
    return CollectorError(
        f"the system gives this process no more threads ({what_happened}); allow it more processes and "
        "memory (ulimit -u, ulimit -v, the container's limits) or use fewer --n-workers"
    )


def join(processes: list[BaseProcess]) -> None:
    """Wait for workers that were asked to end, and kill those that do not."""
    deadline = time.monotonic() + _JOIN_SECONDS
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()
