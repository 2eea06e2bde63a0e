"""What a pool of processes reports when a worker dies at a bad moment, or a thread is not to be had."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

import psutil
import pytest
from awkward_environments import specification
from played import CAGE2, snapshot, tickets
from system_limits import room_for_threads, small_files_only

from workflow_rl.collectors.attempts import Cause
from workflow_rl.collectors.heartbeats import read_beat
from workflow_rl.collectors.pool import Call, CallEnded, PoolBroke, PoolReady, Report
from workflow_rl.collectors.snapshot_directory import SnapshotDirectory
from workflow_rl.collectors.worker_pool import WorkerPool, join
from workflow_rl.environments import POLICY_PRELOAD
from workflow_rl.errors import LearnerError
from workflow_rl.fork_server import worker_context

MANY = 3000
"""Episodes whose result is many times what a pipe holds."""


class BusyReader:
    """Takes the reports of a pool; does not return from the first result's before it is told to.

    Meanwhile the executor's thread reads nothing, so another worker's result stays half written.
    """

    def __init__(self) -> None:
        self.reports: SimpleQueue[Report] = SimpleQueue()
        self.may_go_on = threading.Event()

    def __call__(self, report: Report) -> None:
        self.reports.put(report)
        if isinstance(report, CallEnded):
            self.may_go_on.wait(30)


@pytest.fixture
def directory() -> Iterator[SnapshotDirectory]:
    directory = SnapshotDirectory()
    directory.write(snapshot(0, CAGE2))
    yield directory
    directory.close()


def worker_playing(call: int, directory: Path) -> int:
    """The process that has begun a call."""
    while True:
        for file in (directory / "workers").iterdir():
            beat = read_beat(directory, int(file.name))
            if beat is not None and beat.call == call:
                return int(file.name)


def test_a_worker_whose_exit_code_arrives_after_the_end_of_its_results(directory: SnapshotDirectory) -> None:
    reports: SimpleQueue[Report] = SimpleQueue()
    pool = WorkerPool(1, worker_context([POLICY_PRELOAD]), directory.path, reports.put)
    slow = specification("Uneven", longest=1, step_seconds=30.0)
    call = Call(0, tuple(tickets([0], environment=slow)), SimpleQueue())
    pool.start()
    assert isinstance(reports.get(timeout=60), PoolReady)
    pool.hand_in(call)
    worker = psutil.Process(worker_playing(0, directory.path))
    server = worker.parent()
    assert server is not None
    server.suspend()
    try:
        worker.kill()
        time.sleep(0.3)
    finally:
        server.resume()
    assert isinstance(reports.get(timeout=20), PoolBroke)
    assert pool.failure_of(call).cause is Cause.DIED, "rather than a result that could not be read"
    pool.kill()


def test_a_worker_that_dies_while_it_writes_a_result(directory: SnapshotDirectory) -> None:
    reader = BusyReader()
    pool = WorkerPool(3, worker_context([POLICY_PRELOAD]), directory.path, reader)
    calls = [
        Call(number, tuple(tickets(range(size), environment=CAGE2)), SimpleQueue())
        for number, size in enumerate((1, MANY))
    ]
    pool.start()
    assert isinstance(reader.reports.get(timeout=60), PoolReady)
    for call in calls:
        pool.hand_in(call)
    ended = reader.reports.get(timeout=60)
    assert isinstance(ended, CallEnded)
    pool.take_back(ended.call)
    writer = worker_playing(1, directory.path)
    time.sleep(2)  # more than enough to play; it waits for the pipe then
    os.kill(writer, signal.SIGKILL)
    thread = pool._executor._executor_manager_thread
    reader.may_go_on.set()
    broke = None
    deadline = time.monotonic() + 20
    while broke is None and time.monotonic() < deadline:
        time.sleep(0.2)
        pool.look_after(None)
        broke = None if reader.reports.empty() else reader.reports.get()
    assert isinstance(broke, PoolBroke)
    assert pool.failure_of(calls[1]).cause is Cause.DIED
    pool.kill()
    thread.join(20)
    assert not thread.is_alive()


@pytest.mark.parametrize("number", [0, 1], ids=["for the executor", "for the calls to its workers"])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_cannot_be_started(directory: SnapshotDirectory, number: int) -> None:
    reports: SimpleQueue[Report] = SimpleQueue()
    pool = WorkerPool(2, worker_context([POLICY_PRELOAD]), directory.path, reports.put)
    with room_for_threads(number):
        pool.start()
        deadline = time.monotonic() + 20
        while reports.empty() and time.monotonic() < deadline:
            time.sleep(0.1)
            pool.look_after(None)
    broke = reports.get_nowait()
    assert isinstance(broke, PoolBroke)
    assert "no more threads" in str(broke.error)
    processes = pool._processes()
    pool.kill()
    join(processes)
    assert not any(process.is_alive() for process in processes)


def test_a_policy_for_which_there_is_no_room(directory: SnapshotDirectory) -> None:
    message = r"^the policy .* bytes to \S+ \(.*\): is it full\?$"
    with small_files_only(1000), pytest.raises(LearnerError, match=message):
        directory.write(snapshot(1, CAGE2))
    assert 1 not in directory
    directory.write(snapshot(1, CAGE2))
    assert 1 in directory
