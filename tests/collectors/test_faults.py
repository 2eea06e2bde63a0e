"""Workers that are lost on the way: the run goes on, with the same episodes."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from awkward_environments import FAULTS, specification
from played import CAUSES, UNEVEN, assert_same, play, played_alone, snapshot, tickets
from process_ends import is_running, left_by_a_killed, still_running

from workflow_rl import commands
from workflow_rl.collectors import ExecutorCollector, barrier_free, worker_pool
from workflow_rl.collectors.attempts import Cause
from workflow_rl.environment_job import EnvironmentJob
from workflow_rl.environment_training import EnvironmentReport
from workflow_rl.environments import POLICY_PRELOAD
from workflow_rl.episode import Episodes, Ticket
from workflow_rl.errors import CollectorError, EpisodeError, MissingExtraError
from workflow_rl.fork_server import worker_context
from workflow_rl.settings import EnvironmentTrainSettings

UNHURRIED = specification("Uneven", longest=4, step_seconds=0.05)


@pytest.fixture
def collector() -> Iterator[ExecutorCollector]:
    with ExecutorCollector(2) as made:
        made.publish(snapshot(0))
        yield made


def workers_of(collector: ExecutorCollector) -> list[int]:
    """The process ids of all workers that played something."""
    asked = tickets(range(8), batch=-1, environment=specification("Uneven", longest=1, step_seconds=0.05))
    return sorted(set(play(collector, asked).worker.tolist()))


def kill(process: int) -> None:
    """SIGKILL, and wait until it is gone; the pool may have ended it first, after the loss of another."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
    while psutil.pid_exists(process):
        time.sleep(0.01)


def assert_all_played(collector: ExecutorCollector, batch: int, episodes: range) -> Episodes:
    played = collector.collect(batch)
    assert_same(played, played_alone(tickets(episodes, batch=batch, environment=UNHURRIED)))
    return played


def assert_only_to_blame(collector: ExecutorCollector, ticket: Ticket, *causes: Cause) -> None:
    """One ticket has failed, for these reasons; all others that were played again were in its way."""
    blamed = [retry for retry in collector.retried if retry.failures > 0]
    assert [(retry.ticket, retry.cause) for retry in blamed] == [(ticket, cause) for cause in causes]
    assert [retry.failures for retry in blamed] == list(range(1, len(causes) + 1))
    assert {retry.cause for retry in collector.retried if retry.failures == 0} <= {Cause.BYSTANDER}
    assert collector.retries == len(collector.retried)


def test_a_worker_killed_in_the_middle_of_an_episode(collector: ExecutorCollector) -> None:
    victim, *_ = workers_of(collector)
    for batch in range(2):
        collector.submit(tickets(range(10), batch=batch, environment=UNHURRIED))
    time.sleep(0.1)
    kill(victim)
    played = assert_all_played(collector, 0, range(10))
    assert_all_played(collector, 1, range(10))
    blamed = [retry for retry in collector.retried if retry.failures > 0]
    assert [(retry.cause, retry.detail) for retry in blamed] == [
        (Cause.DIED, "its worker was killed by SIGKILL")
    ]
    assert collector.retries <= 4, "two were being played, at most two more were in the pool"
    assert victim not in played.worker[-2:]


def test_a_worker_killed_by_a_signal_without_a_name(collector: ExecutorCollector) -> None:
    victim, *_ = workers_of(collector)
    asked = tickets(range(2), environment=specification("Uneven", longest=1, step_seconds=1.0))
    collector.submit(asked)
    time.sleep(0.3)
    os.kill(victim, signal.SIGRTMIN + 6)
    assert_same(collector.collect(0), played_alone(asked))
    (blamed,) = [retry for retry in collector.retried if retry.failures > 0]
    assert blamed.detail == f"its worker was killed by signal {signal.SIGRTMIN + 6}"


def test_every_worker_killed_while_nobody_waits(collector: ExecutorCollector) -> None:
    for worker in workers_of(collector):
        kill(worker)
    time.sleep(0.5)  # the pool finds out
    collector.submit(tickets(range(6), batch=0, environment=UNHURRIED))
    assert_all_played(collector, 0, range(6))
    assert not [retry for retry in collector.retried if retry.failures > 0]


def test_what_was_finished_before_the_loss_is_not_played_again(collector: ExecutorCollector) -> None:
    workers = workers_of(collector)
    collector.submit(tickets(range(6), batch=0, environment=UNEVEN))
    time.sleep(1.5)
    kill(workers[0])
    collector.submit(tickets(range(2), batch=1, environment=UNHURRIED))
    assert_all_played(collector, 1, range(2))
    assert_same(collector.collect(0), played_alone(tickets(range(6), batch=0)))
    assert {retry.ticket.batch for retry in collector.retried} <= {1}
    assert {retry.cause for retry in collector.retried} <= {Cause.BYSTANDER}


def test_losses_far_apart_do_not_add_up(collector: ExecutorCollector) -> None:
    for batch in range(4):
        kill(workers_of(collector)[0])
        collector.submit(tickets(range(3), batch=batch, environment=UNHURRIED))
        assert_all_played(collector, batch, range(3))


def test_only_the_pool_of_a_lost_worker_starts_anew() -> None:
    with ExecutorCollector(6, workers_per_pool=2) as collector:
        collector.publish(snapshot(0))
        asked = tickets(range(24), batch=0, environment=specification("Uneven", longest=1, step_seconds=0.2))
        before = set(play(collector, asked).worker.tolist())
        assert len(before) == 6
        collector.submit(tickets(range(24), batch=1, environment=asked[0].environment))
        time.sleep(0.1)
        kill(min(before))
        collector.collect(1)
        assert sum(psutil.pid_exists(worker) for worker in before) == 4


PASSING = [
    *((fault, where) for fault in ("exits", "hangs", "leaves") for where in ("constructor", "reset", "step")),
    *((fault, "step") for fault in FAULTS if fault not in ("exits", "hangs", "leaves")),
    ("is unpicklable", "step"),
]


@pytest.fixture
def impatient() -> Iterator[ExecutorCollector]:
    with ExecutorCollector(2, episode_timeout=1.0) as made:
        made.publish(snapshot(0))
        yield made


@pytest.mark.parametrize(("fault", "where"), PASSING)
def test_a_fault_that_passes_changes_nothing(
    impatient: ExecutorCollector, tmp_path: Path, fault: str, where: str
) -> None:
    times = 1 if fault == "hangs" else 2
    environment = specification("Faulty", fault=fault, where=where, marker=str(tmp_path), times=times)
    asked = [*tickets([0], environment=UNHURRIED), *tickets([1], environment=environment)]
    asked += tickets(range(2, 6), environment=UNHURRIED)
    impatient.submit(asked)
    episodes = impatient.collect(0)
    assert_only_to_blame(impatient, asked[1], *[CAUSES[fault]] * times)
    assert_same(episodes, played_alone(asked))


LASTING = {
    "exits": r"episode 17 \(run seed 5, workflow 7, .* failed 3 times; .* its worker ended with exit code 3$",
    "segfaults": r"episode 17 .* failed 3 times; the last time its worker was killed by SIGSEGV$",
    "hangs": r"episode 17 .* failed 3 times; the last time it took more than 1 seconds and its",
    "leaves": r"Faulty-v0 raised SystemExit: 4 while playing episode 17 \(",
    "is unpicklable": r"result of episode 17 \(.* could not be sent: TypeError: cannot be sent",
}


@pytest.mark.parametrize("fault", LASTING)
def test_a_fault_that_stays_is_named_although_others_are_ahead(
    impatient: ExecutorCollector, fault: str
) -> None:
    faulty = tickets([17], environment=specification("Faulty", fault=fault))
    unhurried = specification("Uneven", longest=1, step_seconds=0.4)
    others = [*tickets([16], environment=unhurried), *tickets([18, 19], environment=unhurried)]
    innocent = tickets(range(3), batch=1)
    impatient.submit(others[:1] + faulty + others[1:] + innocent)
    error = EpisodeError if CAUSES[fault] is Cause.RAISED else CollectorError
    with pytest.raises(error, match=LASTING[fault]) as raised:
        impatient.collect(0)
    assert "\n" not in str(raised.value)
    assert_only_to_blame(impatient, faulty[0], CAUSES[fault], CAUSES[fault])
    assert_same(impatient.collect(1), played_alone(innocent))
    with pytest.raises(error):
        impatient.collect(0)


def test_the_traceback_of_the_worker_comes_along(collector: ExecutorCollector) -> None:
    collector.submit(tickets([4], environment=specification("Faulty", fault="leaves", where="reset")))
    with pytest.raises(EpisodeError) as raised:
        collector.collect(0)
    assert "_fail_in" in raised.value.worker_traceback


def test_a_result_that_cannot_be_read_ends_the_run(collector: ExecutorCollector) -> None:
    collector.submit(tickets([4], environment=specification("Faulty", fault="is unreadable")))
    with pytest.raises(CollectorError, match=r"episode 4 .* failed 3 times.* could not be read"):
        collector.collect(0)


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Episodes travel in one call, once the collector knows how long they take."""
    monkeypatch.setattr(barrier_free, "_CHUNK_SECONDS", 10.0)


@pytest.mark.usefixtures("together")
@pytest.mark.parametrize("fault", ["exits", "hangs"])
def test_of_episodes_that_travelled_together_the_one_at_fault_is_named(
    impatient: ExecutorCollector, fault: str
) -> None:
    quick = tickets(range(20), batch=0)
    assert_same(play(impatient, quick), played_alone(quick))
    faulty = tickets([5], batch=1, environment=specification("Faulty", fault=fault))
    others = [*tickets(range(5), batch=1), *tickets(range(6, 9), batch=1)]
    impatient.submit(others[:5] + faulty + others[5:])
    with pytest.raises(CollectorError, match=r"episode 5 .* failed 3 times"):
        impatient.collect(1)
    assert_only_to_blame(impatient, faulty[0], *[CAUSES[fault]] * 2)
    travelled = [retry.ticket for retry in impatient.retried if retry.detail.startswith("it travelled")]
    assert travelled == others, "once, with the first failure"


@pytest.mark.usefixtures("together")
def test_the_time_limit_is_for_each_of_the_episodes_that_travel_together(
    impatient: ExecutorCollector,
) -> None:
    play(impatient, tickets(range(20), batch=0))
    unhurried = tickets(range(12), batch=1, environment=specification("Uneven", longest=1, step_seconds=0.25))
    episodes = play(impatient, unhurried)
    assert np.unique(episodes.worker, return_counts=True)[1].max() * 0.25 > 2.0, "they did travel together"
    assert impatient.retries == 0


def test_waiting_for_a_worker_is_not_hanging() -> None:
    unhurried = specification("Uneven", longest=1, step_seconds=0.3)
    with ExecutorCollector(1, episode_timeout=1.0) as collector:
        asked = tickets(range(6), environment=unhurried)
        assert_same(play(collector, asked), played_alone(asked))
        time.sleep(1.2)  # nor is having nothing to do
        play(collector, tickets([6], batch=1))
        assert collector.retries == 0


def test_a_hanging_episode_is_found_while_others_are_busy(
    impatient: ExecutorCollector, tmp_path: Path
) -> None:
    hanging = specification("Faulty", fault="hangs", marker=str(tmp_path))
    unhurried = specification("Uneven", longest=1, step_seconds=0.03)
    impatient.submit(tickets([0], batch=0, environment=hanging))
    impatient.submit(tickets(range(1, 101), batch=1, environment=unhurried))
    ended = impatient.collect(0)
    others = impatient.collect(1)
    assert ended.started[0] < others.started.max(), "it was played again before the others were done"


def test_a_worker_that_is_stopped_counts_as_hanging(impatient: ExecutorCollector) -> None:
    workers = workers_of(impatient)
    asked = tickets(range(4), environment=specification("Uneven", longest=1, step_seconds=0.6))
    impatient.submit(asked)
    time.sleep(0.2)
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    assert_same(impatient.collect(0), played_alone(asked))
    assert Cause.HUNG in {retry.cause for retry in impatient.retried}


def test_workers_that_are_stopped_while_they_have_nothing_to_do(impatient: ExecutorCollector) -> None:
    for worker in workers_of(impatient):
        os.kill(worker, signal.SIGSTOP)
    time.sleep(1.5)
    assert impatient.retries == 0, "nobody waits for them"
    asked = tickets(range(4), environment=UNHURRIED)
    impatient.submit(asked)
    assert_same(impatient.collect(0), played_alone(asked))
    assert {retry.cause for retry in impatient.retried} == {Cause.BYSTANDER}


def test_a_missing_part_is_reported_at_once(collector: ExecutorCollector) -> None:
    collector.submit(tickets([0], environment=specification("Unequipped")))
    with pytest.raises(MissingExtraError, match=r"pip install 'workflow-rl\[cyborg\]'"):
        collector.collect(0)
    assert collector.retries == 0


def test_a_collector_that_cannot_go_on_says_so_to_all_who_wait_now_or_later(
    impatient: ExecutorCollector,
) -> None:
    beat = Path(impatient._snapshots.path, "workers", str(workers_of(impatient)[0]))
    impatient.submit(tickets([0], environment=specification("Uneven", longest=1, step_seconds=60.0)))
    beat.unlink()
    beat.mkdir()  # who looks after the workers cannot read it
    reason = r"^the collector cannot go on: IsADirectoryError: "
    with pytest.raises(CollectorError, match=reason) as raised:
        impatient.collect(0)
    assert isinstance(raised.value.__cause__, IsADirectoryError)
    impatient.submit(tickets([1], batch=1))
    with pytest.raises(CollectorError, match=reason):
        impatient.collect(1)


@contextlib.contextmanager
def treating_fresh_workers(sign: signal.Signals, times: int) -> Iterator[list[int]]:
    """Send a signal to so many processes of the fork server, each as soon as it exists; yields their ids."""
    (server,) = (child for child in psutil.Process().children() if "forkserver" in str(child.cmdline()))
    known = {child.pid for child in server.children()}
    treated: list[int] = []
    is_over = threading.Event()

    def treat() -> None:
        while len(treated) < times and not is_over.is_set():
            for child in server.children():
                if child.pid not in known and len(treated) < times:
                    os.kill(child.pid, sign)
                    known.add(child.pid)
                    treated.append(child.pid)

    thread = threading.Thread(target=treat)
    thread.start()
    try:
        yield treated
    finally:
        is_over.set()
        thread.join()


def test_workers_that_are_killed_while_they_start() -> None:
    worker_context([POLICY_PRELOAD])
    asked = tickets(range(8), environment=UNHURRIED)
    with treating_fresh_workers(signal.SIGKILL, times=5) as killed, ExecutorCollector(4) as collector:
        assert_same(play(collector, asked), played_alone(asked))
        assert len(killed) == 5
        assert {retry.cause for retry in collector.retried} <= {Cause.BYSTANDER}, "they had begun nothing"


def test_a_worker_that_is_stopped_while_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_pool, "_START_SECONDS", 1.0)
    worker_context([POLICY_PRELOAD])
    asked = tickets(range(3), environment=UNHURRIED)
    with (
        treating_fresh_workers(signal.SIGSTOP, times=1) as stopped,
        ExecutorCollector(1, episode_timeout=1.0) as collector,
    ):
        assert_same(play(collector, asked), played_alone(asked))
        assert len(stopped) == 1
        assert not psutil.pid_exists(stopped[0])


def test_a_lost_fork_server_takes_all_workers_along_and_is_replaced(collector: ExecutorCollector) -> None:
    workers = [psutil.Process(worker) for worker in workers_of(collector)]
    collector.submit(tickets(range(6), batch=0, environment=UNHURRIED))
    server = workers[0].parent()
    assert server is not None
    server.kill()
    assert_all_played(collector, 0, range(6))
    _, alive = psutil.wait_procs(workers, timeout=5.0)
    assert not [worker for worker in alive if is_running(worker)]


def test_many_of_a_pool_killed_within_a_moment() -> None:
    with ExecutorCollector(8, workers_per_pool=4) as collector:
        collector.publish(snapshot(0))
        slow = specification("Uneven", longest=1, step_seconds=0.3)
        victims = set(play(collector, tickets(range(16), batch=-1, environment=slow)).worker.tolist())
        collector.submit(tickets(range(16), batch=0, environment=UNHURRIED))
        for victim in sorted(victims)[:6]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
            time.sleep(0.01)
        assert_all_played(collector, 0, range(16))


class Switch:
    """Turns the fault of a `Faulty` environment on and off, in all processes.

    Args:
        directory: its marker.
    """

    TIMES = 100

    def __init__(self, directory: Path) -> None:
        self._markers = [directory / str(number) for number in range(self.TIMES)]

    def turn_off(self) -> None:
        for marker in self._markers:
            marker.touch()

    def turn_on(self) -> None:
        for marker in self._markers:
            marker.unlink()


def environment_run(directory: Path, marker: Path) -> EnvironmentTrainSettings:
    """Some forty updates on an environment whose fault a switch turns on."""
    faulty = {"fault": "exits", "marker": str(marker), "times": Switch.TIMES}
    return EnvironmentTrainSettings.from_flat(
        {
            "env": "awkward_environments:Faulty-v0",
            "env_kwargs": json.dumps(faulty),
            "total_steps": 4000,
            "steps_per_update": 100,
            "minibatch_size": 50,
            "hidden_size": 8,
            "evaluation_episodes": 2,
            "n_workers": 2,
            "run_dir": str(directory),
        }
    )


def weights_of(directory: Path) -> str:
    return str(json.loads((directory / "summary.json").read_text())["weights_sha256"])


def test_a_run_stopped_by_a_fault_that_stays_goes_on_once_it_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    switch = Switch(tmp_path)
    switch.turn_off()
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    finish_update = EnvironmentJob._finish_update

    def turn_on_when_learnt(job: EnvironmentJob, report: EnvironmentReport) -> None:
        finish_update(job, report)
        if report.update == 5:
            switch.turn_on()

    commands.start(environment_run(whole, tmp_path), launched=time.monotonic())
    with monkeypatch.context() as patched:
        patched.setattr(EnvironmentJob, "_finish_update", turn_on_when_learnt)
        with pytest.raises(CollectorError, match=r"^episode \d+ .* failed 3 times; .* with exit code 3$"):
            commands.start(environment_run(stopped, tmp_path), launched=time.monotonic())
    switch.turn_off()
    commands.resume(stopped, {}, launched=time.monotonic())
    assert weights_of(stopped) == weights_of(whole)


@pytest.mark.endurance
def test_workers_killed_again_and_again_at_random_moments(collector: ExecutorCollector) -> None:
    draws = random.Random(0)
    server = psutil.Process(workers_of(collector)[0]).parent()
    assert server is not None
    is_over = threading.Event()

    def kill_now_and_then() -> None:
        while not is_over.wait(draws.uniform(0.6, 2.0)):
            if workers := server.children():
                draws.choice(workers).kill()

    killer = threading.Thread(target=kill_now_and_then)
    killer.start()
    try:
        for batch in range(10):
            asked = tickets(range(12), batch=batch, version=batch, environment=UNHURRIED)
            assert_same(play(collector, asked), played_alone(asked))
    finally:
        is_over.set()
        killer.join()
    assert collector.retries > 0


LEARNER = """
import time
from awkward_environments import specification
from played import snapshot, tickets
from workflow_rl.collectors import ExecutorCollector

collector = ExecutorCollector(3)
collector.publish(snapshot(0))
collector.submit(tickets(range(9), batch=0, environment=specification("Uneven", longest=1)))
collector.submit(tickets(range(9, 18), batch=1, environment=specification("Uneven", step_seconds=3600.0)))
collector.collect(0)
print(collector._snapshots.path, flush=True)
time.sleep(3600.0)
"""


def test_a_killed_learner_leaves_no_worker_and_no_snapshot() -> None:
    said, processes = left_by_a_killed(LEARNER)
    assert len(processes) >= 3 + 1, "three workers and the fork server were running"
    assert not still_running(processes, seconds=2.0)
    assert not Path(said).exists()
