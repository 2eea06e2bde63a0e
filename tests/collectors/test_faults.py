"""Workers that are lost on the way: the run goes on, with the same episodes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from awkward_environments import specification
from played import UNEVEN, assert_same, play, played_alone, snapshot, tickets

from workflow_rl.collectors import ExecutorCollector
from workflow_rl.episode import Episodes
from workflow_rl.errors import CollectorError

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
    """SIGKILL, and wait until it is gone."""
    os.kill(process, signal.SIGKILL)
    while psutil.pid_exists(process):
        time.sleep(0.01)


def is_running(process: psutil.Process) -> bool:
    """Orphans that have ended stay zombies where nobody collects them, as in a container."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def assert_all_played(collector: ExecutorCollector, batch: int, episodes: range) -> Episodes:
    played = collector.collect(batch)
    assert_same(played, played_alone(tickets(episodes, batch=batch, environment=UNHURRIED)))
    return played


def test_a_worker_killed_in_the_middle_of_an_episode(collector: ExecutorCollector) -> None:
    victim, *_ = workers_of(collector)
    for batch in range(2):
        collector.submit(tickets(range(10), batch=batch, environment=UNHURRIED))
    time.sleep(0.1)
    kill(victim)
    played = assert_all_played(collector, 0, range(10))
    assert_all_played(collector, 1, range(10))
    assert 1 <= collector.retries <= 20
    assert victim not in played.worker[-2:]


def test_every_worker_killed_while_nobody_waits(collector: ExecutorCollector) -> None:
    for worker in workers_of(collector):
        kill(worker)
    time.sleep(0.5)  # the pool finds out
    collector.submit(tickets(range(6), batch=0, environment=UNHURRIED))
    assert_all_played(collector, 0, range(6))
    assert collector.retries == 6


def test_what_was_finished_before_the_loss_is_not_played_again(collector: ExecutorCollector) -> None:
    workers = workers_of(collector)
    collector.submit(tickets(range(6), batch=0, environment=UNEVEN))
    time.sleep(0.5)
    kill(workers[0])
    collector.submit(tickets(range(2), batch=1, environment=UNHURRIED))
    assert_all_played(collector, 1, range(2))
    assert_same(collector.collect(0), played_alone(tickets(range(6), batch=0)))
    assert collector.retries == 2


def test_losses_far_apart_do_not_add_up(collector: ExecutorCollector) -> None:
    for batch in range(4):
        kill(workers_of(collector)[0])
        collector.submit(tickets(range(3), batch=batch, environment=UNHURRIED))
        assert_all_played(collector, batch, range(3))


def test_an_environment_that_ends_its_process_once(collector: ExecutorCollector, tmp_path: Path) -> None:
    deadly = specification("Deadly", marker=str(tmp_path / "has happened"))
    asked = tickets(range(6), environment=deadly)
    episodes = play(collector, asked)
    assert collector.retries >= 1
    assert_same(episodes, played_alone(asked))


def test_an_environment_that_always_ends_its_process(collector: ExecutorCollector) -> None:
    collector.submit(tickets([17], batch=3, environment=specification("Deadly"), workflow=2))
    with pytest.raises(CollectorError, match=r"died 4 times .* episode 17 \(run seed 5, workflow 2,"):
        collector.collect(3)


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
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here), str(here.parent)])}
    with subprocess.Popen(
        [sys.executable, "-c", LEARNER], env=environment, stdout=subprocess.PIPE, text=True
    ) as learner:
        assert learner.stdout is not None
        snapshots = Path(learner.stdout.readline().strip())
        processes = psutil.Process(learner.pid).children(recursive=True)
        learner.kill()
        assert len(processes) >= 3 + 1, "three workers and the fork server were running"
        time.sleep(2.0)
    assert not [process for process in processes if is_running(process)]
    assert not snapshots.exists()
