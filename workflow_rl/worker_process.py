"""Processes of the fork server whose end any thread may ask about.

The fork server says once how a process ended, through a pipe, and Python's own class reads that pipe without
a lock: of two threads that see it ready, one reads the exit code, the other finds nothing there and reports
255. There are always two: each executor's thread joins its workers, and whoever starts a process looks after
all that were ever started (`multiprocessing.process._cleanup`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from multiprocessing import connection, forkserver, popen_forkserver
from multiprocessing.context import ForkServerContext, ForkServerProcess
from multiprocessing.process import BaseProcess


class _Handle(popen_forkserver.Popen):
    """Reads the exit code once, and has it for everybody."""

    def __init__(self, process: BaseProcess) -> None:
        self._reading = threading.Lock()
        super().__init__(process)

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """The exit code, `None` as long as there is none; waits for it unless told not to."""
        if self.returncode is None and flag != os.WNOHANG:
            connection.wait([self.sentinel])
        with self._reading:
            if self.returncode is None and connection.wait([self.sentinel], timeout=0):
                self.returncode = self._read_exit_code()
        return self.returncode

    def _read_exit_code(self) -> int:
        try:
            return int(forkserver.read_signed(self.sentinel))
        except EOFError:  # the fork server is gone: its workers live on, and nobody would see them end
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            return -signal.SIGKILL


class WorkerProcess(ForkServerProcess):
    """A process of the fork server whose handle any thread may use."""

    @staticmethod
    def _Popen(process: BaseProcess) -> _Handle:
        return _Handle(process)


class WorkerContext(ForkServerContext):
    """Starts such processes."""

    Process = WorkerProcess
