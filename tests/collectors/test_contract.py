"""What every collector promises (`workflow_rl/collectors/interface.py`), held against each of them.

A new collector is one more entry in `COLLECTORS`, and in `ASYNCHRONOUS` if its workers wait for nobody. Those
on Ray, asked for with `-m ray`, join a cluster that is there already.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from awkward_environments import specification
from played import CAGE2, UNEVEN, assert_same, play, played_alone, snapshot, tickets

from workflow_rl.collectors import (
    Collector,
    ExecutorCollector,
    SequentialCollector,
    SynchronousCollector,
    snapshot_directory,
)
from workflow_rl.episode import EnvironmentSpec, Episodes
from workflow_rl.errors import EpisodeError

Maker = Callable[[], Collector]

COLLECTORS: dict[str, Maker] = {
    "sequential": SequentialCollector,
    "executor-1": partial(ExecutorCollector, 1),
    "executor-4": partial(ExecutorCollector, 4),
    "synchronous-1": partial(SynchronousCollector, 1),
    "synchronous-4": partial(SynchronousCollector, 4),
    "threads-1": partial(ExecutorCollector, 1, executor="thread"),
    "threads-4": partial(ExecutorCollector, 4, executor="thread"),
}
ASYNCHRONOUS: dict[str, Maker] = {
    "executor": partial(ExecutorCollector, 2),
    "threads": partial(ExecutorCollector, 2, executor="thread"),
}
ON_RAY = {"ray-1": 1, "ray-4": 4, "ray": 2}


def on_ray(name: str) -> Any:
    return pytest.param(name, marks=pytest.mark.ray)


def maker(request: pytest.FixtureRequest) -> Maker:
    """What makes the collector that a test is held with."""
    if request.param not in ON_RAY:
        return {**COLLECTORS, **ASYNCHRONOUS}[request.param]
    address = request.getfixturevalue("nodes").address
    from workflow_rl.collectors.ray_actors import RayCollector

    return partial(RayCollector, ON_RAY[request.param], address=address)


@pytest.fixture(params=[*COLLECTORS, on_ray("ray-1"), on_ray("ray-4")])
def make_collector(request: pytest.FixtureRequest) -> Maker:
    return maker(request)


@pytest.fixture
def collector(make_collector: Maker) -> Iterator[Collector]:
    with make_collector() as made:
        yield made


@pytest.mark.parametrize("environment", [UNEVEN, CAGE2], ids=["uneven", "cage2"])
@pytest.mark.parametrize("greedy", [False, True], ids=["sampled", "greedy"])
def test_episodes_are_the_same_to_the_last_bit(
    collector: Collector, environment: EnvironmentSpec, greedy: bool
) -> None:
    asked = tickets(range(40), environment=environment, greedy=greedy)
    episodes = play(collector, asked)
    assert_same(episodes, played_alone(asked))
    assert np.any(episodes.compromised), "no fix was judged, so the comparison says less than it seems"


def test_a_batch_is_all_its_episodes_in_index_order(collector: Collector) -> None:
    collector.publish(snapshot(0))
    for indices in ([0, 3, 4], [8], [11, 19]):
        collector.submit(tickets(indices))
    episodes = collector.collect(0)
    assert [ticket.episode for ticket in episodes.tickets] == [0, 3, 4, 8, 11, 19]
    assert episodes.num_steps == episodes.lengths.sum()
    assert len(episodes.observations) == episodes.num_steps + 6


def test_several_batches_in_flight_are_kept_apart(collector: Collector) -> None:
    batches = [tickets(range(5 * b, 5 * b + 5), batch=b, workflow=20 * b) for b in range(4)]
    collector.publish(snapshot(0))
    collector.submit([ticket for row in zip(*batches, strict=True) for ticket in row])
    for number in (2, 0, 3, 1):
        assert_same(collector.collect(number), played_alone(batches[number]))


def test_episodes_stay_the_same_once_the_collector_knows_how_long_they_take(collector: Collector) -> None:
    """Quick episodes may then travel together, which must not show."""
    asked = [tickets(range(30 * b, 30 * b + 30), batch=b, environment=CAGE2) for b in range(3)]
    for batch in asked:
        assert_same(play(collector, batch), played_alone(batch))


def test_versions_and_environments_may_differ_within_a_batch(collector: Collector) -> None:
    longer = specification("Uneven", longest=15)
    asked = tickets([0, 1], version=3) + tickets([2, 3], version=4, environment=longer, workflow=100)
    assert_same(play(collector, asked), played_alone(asked))


def test_a_batch_is_forgotten_once_collected(collector: Collector) -> None:
    play(collector, tickets([0]))
    with pytest.raises(KeyError):
        collector.collect(0)


def test_an_episode_may_be_played_twice(collector: Collector) -> None:
    first = play(collector, tickets([4], batch=0))
    again = play(collector, tickets([4], batch=1))
    assert first.observations.tobytes() == again.observations.tobytes()


def test_a_version_must_be_published_before_it_is_named(collector: Collector) -> None:
    collector.publish(snapshot(1))
    with pytest.raises(ValueError, match="version 2 has not been published"):
        collector.submit(tickets([0], version=2))


@pytest.mark.parametrize("where", ["constructor", "reset", "step"])
def test_a_failing_environment_is_named_with_the_workers_traceback(collector: Collector, where: str) -> None:
    collector.publish(snapshot(6))
    collector.submit(tickets([12], version=6, environment=specification("Failing", where=where), workflow=33))
    with pytest.raises(EpisodeError) as raised:
        collector.collect(0)
    message = str(raised.value)
    assert f"Failing-v0 raised OSError: lost the licence server in {where}" in message
    assert "episode 12 (run seed 5, workflow 33, policy version 6)" in message
    assert "\n" not in message
    assert "awkward_environments.py" in raised.value.worker_traceback
    assert "_fail_in" in raised.value.worker_traceback


def test_a_failure_that_passes_changes_nothing(collector: Collector, tmp_path: Path) -> None:
    passing = specification("Faulty", fault="runs out of memory", marker=str(tmp_path), times=2)
    asked = [*tickets([0]), *tickets([1], environment=passing), *tickets([2])]
    assert_same(play(collector, asked), played_alone(asked))
    assert [retry.failures for retry in collector.retried if retry.ticket == asked[1]] == [1, 2]
    assert collector.retries == len(collector.retried)


def test_a_failed_episode_does_not_spoil_the_others(collector: Collector) -> None:
    good = tickets(range(3), batch=1)
    collector.publish(snapshot(0))
    collector.submit(tickets([9], batch=0, environment=specification("Failing", where="step")) + good)
    with pytest.raises(EpisodeError):
        collector.collect(0)
    assert_same(collector.collect(1), played_alone(good))


def test_close_may_be_called_twice_and_ends_everything(make_collector: Maker) -> None:
    collector = make_collector()
    play(collector, tickets(range(4)))
    collector.submit(tickets(range(4, 8), batch=1))
    collector.close()
    collector.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("workflow_rl-")]
    with pytest.raises(RuntimeError, match="submit after close"):
        collector.submit(tickets([8], batch=2))


def test_close_before_the_first_episode(make_collector: Maker) -> None:
    collector = make_collector()
    collector.publish(snapshot(0))
    collector.close()


def test_tickets_are_not_counted_as_retried_when_nothing_was_lost(collector: Collector) -> None:
    play(collector, tickets(range(4)))
    assert collector.retries == 0


@pytest.fixture(params=[*ASYNCHRONOUS, on_ray("ray")])
def make_asynchronous(request: pytest.FixtureRequest) -> Maker:
    return maker(request)


def finished(episodes: Episodes) -> float:
    """When the last episode ended, seconds of the monotonic clock."""
    return float((episodes.started + episodes.seconds).max())


def has_others_wait_for_a_slow_episode(make: Maker) -> bool:
    slow = tickets([0], batch=0, environment=specification("Uneven", longest=1, step_seconds=1.0))
    quick = [tickets(range(10 * b, 10 * b + 10), batch=b) for b in (1, 2)]
    with make() as collector:
        collector.publish(snapshot(0))
        collector.submit(slow + quick[0] + quick[1])
        last = collector.collect(0)
        others = [collector.collect(batch) for batch in (1, 2)]
    return any(finished(batch) >= finished(last) for batch in others)


def test_one_slow_episode_delays_nobody_else(make_asynchronous: Maker) -> None:
    assert not has_others_wait_for_a_slow_episode(make_asynchronous)


def test_at_a_barrier_everybody_waits_for_the_slowest() -> None:
    assert has_others_wait_for_a_slow_episode(partial(SynchronousCollector, 2))


def test_episodes_are_played_while_nobody_waits_for_them(make_asynchronous: Maker) -> None:
    with make_asynchronous() as collector:
        play(collector, tickets([0], batch=0))
        collector.submit(tickets(range(1, 9), batch=1))
        time.sleep(1.0)
        asked = time.monotonic()
        assert collector.collect(1).started.min() < asked


def test_all_workers_play(make_asynchronous: Maker) -> None:
    unhurried = specification("Uneven", longest=2, step_seconds=0.1)
    with make_asynchronous() as collector:
        episodes = play(collector, tickets(range(8), environment=unhurried))
    assert len(set(episodes.worker.tolist())) == 2


def test_close_does_not_wait_for_a_process_that_hangs() -> None:
    hanging = specification("Uneven", step_seconds=3600.0)
    with ExecutorCollector(2) as collector:
        play(collector, tickets([0, 1]))
        collector.submit(tickets([2, 3], batch=1, environment=hanging))
        time.sleep(0.5)
        asked = time.monotonic()
    assert time.monotonic() - asked < 3.0


def test_snapshot_files_are_kept_as_long_as_a_ticket_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot_directory, "_MEMORY", tmp_path)

    def versions() -> set[str]:
        return {file.stem for file in tmp_path.glob("*/*.*")}

    with ExecutorCollector(2) as collector:
        collector.publish(snapshot(0))
        collector.submit(tickets([0, 1], batch=0, version=0))
        collector.publish(snapshot(1))
        collector.submit(tickets([2, 3], batch=1, version=1))
        collector.publish(snapshot(2))
        assert versions() == {"0", "1", "2"}
        collector.collect(0)
        collector.publish(snapshot(3))
        assert versions() == {"1", "3"}
        collector.collect(1)
    assert list(tmp_path.iterdir()) == []
