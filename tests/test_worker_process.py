"""Worker processes as several threads see them."""

from __future__ import annotations

import os
import signal
import threading
import time

import psutil

from workflow_rl.fork_server import worker_context
from workflow_rl.worker_process import WorkerContext

NUM_PROCESSES = 10
NUM_THREADS = 4


def rest() -> None:
    time.sleep(3600.0)


def context() -> WorkerContext:
    made = worker_context([])
    assert isinstance(made, WorkerContext)
    return made


def test_every_thread_learns_how_a_process_ended() -> None:
    """Python's own class tells all but one of them 255."""
    codes: list[int | None] = []
    for _ in range(NUM_PROCESSES):
        process = context().Process(target=rest)
        process.start()

        def join(process: WorkerContext.Process = process) -> None:
            process.join()
            codes.append(process.exitcode)

        threads = [threading.Thread(target=join) for _ in range(NUM_THREADS)]
        for thread in threads:
            thread.start()
        process.kill()
        for thread in threads:
            thread.join()
    assert codes == [-signal.SIGKILL] * NUM_PROCESSES * NUM_THREADS


def test_a_process_does_not_outlive_its_fork_server() -> None:
    process = context().Process(target=rest)
    process.start()
    assert process.exitcode is None
    assert process.pid is not None
    worker = psutil.Process(process.pid)
    server = worker.parent()
    assert server is not None
    os.kill(server.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    worker.wait(5.0)
