"""What one of several systems takes of the machine: the processes it starts, and the learner's own.

Workers of the executor and environments of the synchronous collector are children of the fork server; actors
belong to daemons of Ray's. What they have in common: they were not there before. The fork server was, and is
counted with the learner.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass

from workflow_rl.bench import processes


@dataclass(frozen=True)
class CpuSeconds:
    """CPU time of the learner's process, of all processes that it started, and of the whole machine."""

    learner: float
    others: float
    machine: float

    @property
    def foreign(self) -> float:
        """Of processes that have nothing to do with this."""
        return max(0.0, self.machine - self.learner - self.others)

    def __sub__(self, earlier: CpuSeconds) -> CpuSeconds:
        return CpuSeconds(
            self.learner - earlier.learner, self.others - earlier.others, self.machine - earlier.machine
        )


@dataclass(frozen=True)
class Memory:
    """PSS in bytes (see `memory`) of the learner with its fork server, and of the processes started."""

    learner: int
    others: int
    num_processes: int

    @property
    def total(self) -> int:
        """Of all together."""
        return self.learner + self.others


class Footprint:
    """Watches what is started from now on."""

    def __init__(self) -> None:
        self._before = processes.descendants_of(os.getpid())
        self._cpu_seconds: dict[int, float] = {}

    def cpu_seconds(self) -> CpuSeconds:
        """CPU time so far; a process that has ended counts with what was last seen of it."""
        for process in self._started():
            with contextlib.suppress(OSError):
                self._cpu_seconds[process] = processes.cpu_seconds(process)
        return CpuSeconds(
            time.process_time(), sum(self._cpu_seconds.values()), processes.machine_cpu_seconds()
        )

    def memory(self) -> Memory:
        """Memory now."""
        started = self._started()
        server = processes.fork_server_of(os.getpid())
        own = [os.getpid()] if server is None else [os.getpid(), server]
        return Memory(
            learner=sum(_memory_of(process) for process in own),
            others=sum(_memory_of(process) for process in started),
            num_processes=len(started),
        )

    def _started(self) -> set[int]:
        return processes.descendants_of(os.getpid()) - self._before


def _memory_of(process: int) -> int:
    """0 if it has ended."""
    with contextlib.suppress(OSError):
        return processes.proportional_set_bytes(process)
    return 0
