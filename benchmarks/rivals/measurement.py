"""One system, started, watched while it is warm, and ended.

Every round starts a system anew, so that no two share the machine or its memory. It is warm once it has
learnt from two batches, which leaves out start-up, the first environments and a pipeline that is still
filling. Then it is measured from the end of one update to the end of another.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from task import Update

from workflow_rl.bench import processes

_WARM_BATCHES = 2
_WATCHED_UPDATES = 2
_PATIENCE_SECONDS = 240.0
_LOOK_SECONDS = 0.5
_END_SECONDS = 20.0
_REASON_LENGTH = 200


@dataclass(frozen=True)
class Run:
    """What a system did in one round.

    Attributes:
        first_batch_seconds: from its launch until it had learnt from a whole batch.
        steps: learnt from while it was watched.
        wall_seconds: that it was watched.
        cpu_seconds: of all its processes in that time.
        num_processes: at the end.
        pss_bytes: of all of them at the end.
    """

    first_batch_seconds: float
    steps: int
    wall_seconds: float
    cpu_seconds: float
    num_processes: int
    pss_bytes: int


class Died(Exception):
    """A system ended or got stuck; the message says how."""


def run_system(command: Sequence[str], variables: Mapping[str, str], batch_steps: int, seconds: float) -> Run:
    """Start a system, watch it and end it.

    Args:
        command: its script, with the task.
        variables: environment variables.
        batch_steps: steps of an update.
        seconds: for which it is watched at least; two updates at least.

    Raises:
        Died: it did not get through it.
    """
    launched = time.monotonic()
    with _started(command, variables) as system:
        updates = _Updates(system)
        first = updates.until(batch_steps)
        begin = updates.until(_WARM_BATCHES * batch_steps)
        cpu_before = _cpu_seconds(system.process.pid)
        end = updates.next()
        count = 1
        while end.seconds - begin.seconds < seconds or count < _WATCHED_UPDATES:
            end = updates.next()
            count += 1
        cpu_after = _cpu_seconds(system.process.pid)
        num_processes, pss_bytes = _memory(system.process.pid)
    return Run(
        first_batch_seconds=first.seconds - launched,
        steps=end.steps - begin.steps,
        wall_seconds=end.seconds - begin.seconds,
        cpu_seconds=cpu_after - cpu_before,
        num_processes=num_processes,
        pss_bytes=pss_bytes,
    )


@dataclass(frozen=True)
class _System:
    process: subprocess.Popen[str]
    errors: IO[str]


@contextlib.contextmanager
def _started(command: Sequence[str], variables: Mapping[str, str]) -> Iterator[_System]:
    """The running system, in a folder of its own; all its processes are gone afterwards."""
    with (
        tempfile.TemporaryDirectory(prefix="workflow-rl-rival-", ignore_cleanup_errors=True) as folder,
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            command,
            env=variables,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,  # so that processes whose parent has died are still known as its own
        ) as process,
    ):
        try:
            yield _System(process, errors)
        finally:
            _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    """Interrupt it, so that it can tidy up, and kill whatever is left of it."""
    family = [process.pid, *processes.descendants_of(process.pid)]
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.send_signal(signal.SIGINT)
        process.wait(_END_SECONDS)
    for member in family:
        with contextlib.suppress(ProcessLookupError):
            os.kill(member, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


class _Updates:
    """The updates that a system reports, as it reports them."""

    def __init__(self, system: _System) -> None:
        self._system = system
        self._reported: queue.Queue[Update] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def until(self, steps: int) -> Update:
        """The first one after which so many steps were learnt from.

        Raises:
            Died: as `next`.
        """
        update = self.next()
        while update.steps < steps:
            update = self.next()
        return update

    def next(self) -> Update:
        """Wait for the next one.

        Raises:
            Died: there is none for too long, or ever.
        """
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < deadline:
            has_ended = self._system.process.poll() is not None
            with contextlib.suppress(queue.Empty):
                return self._reported.get(timeout=_LOOK_SECONDS)
            if has_ended:  # its output may still be open, in the hands of processes that it has left behind
                raise Died(f"ended with exit code {self._system.process.returncode}: {self._last_words()}")
        raise Died(f"no update for {_PATIENCE_SECONDS:g} s")

    def _read(self) -> None:
        assert self._system.process.stdout is not None
        for line in self._system.process.stdout:
            if update := Update.of_line(line):
                self._reported.put(update)

    def _last_words(self) -> str:
        self._system.errors.seek(0)
        lines = self._system.errors.read().strip().splitlines()
        return lines[-1].strip()[:_REASON_LENGTH] if lines else "without a word"


def _cpu_seconds(root: int) -> float:
    """Of a process and its descendants so far."""
    total = 0.0
    for member in (root, *processes.descendants_of(root)):
        with contextlib.suppress(OSError):  # it may have ended since
            total += processes.cpu_seconds(member)
    return total


def _memory(root: int) -> tuple[int, int]:
    """Number of a process and its descendants, and their PSS together in bytes."""
    sizes = []
    for member in (root, *processes.descendants_of(root)):
        with contextlib.suppress(OSError):
            sizes.append(processes.proportional_set_bytes(member))
    return len(sizes), sum(sizes)
