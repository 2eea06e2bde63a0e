"""What is particular to Ray: a Ray of our own, faults of actors, places for workers, absent clusters."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from awkward_environments import FAULTS, specification
from played import CAUSES, assert_same, play, played_alone, snapshot, tickets
from process_ends import still_running
from ray_nodes import RayNodes

pytest.importorskip("ray", reason="needs workflow-rl[ray]")

from workflow_rl.collectors.attempts import Cause
from workflow_rl.collectors.ray_actors import RayCollector
from workflow_rl.collectors.ray_connection import cpus_per_worker
from workflow_rl.errors import CollectorError, EpisodeError, SettingError

UNHURRIED = specification("Uneven", longest=4, step_seconds=0.05)
LASTING = {
    "exits": r"episode 17 \(run seed 5, workflow 7, .* failed 3 times; .* its Ray actor was lost: .*",
    "hangs": r"episode 17 .* failed 3 times; the last time it took more than 1 seconds and its worker",
    "leaves": r"Faulty-v0 raised SystemExit: 4 while playing episode 17 \(",
    "is unpicklable": r"result of episode 17 \(.* could not be sent: TypeError: cannot be sent",
    "is unreadable": r"result of episode 17 \(.* could not be sent: ValueError: invalid literal",
}


@pytest.fixture
def impatient(nodes: RayNodes) -> Iterator[RayCollector]:
    """Two workers whose episodes may take a second; they know how to play, so that the second is enough."""
    with RayCollector(2, address=nodes.address, episode_timeout=1.0) as made:
        made.publish(snapshot(0))
        yield made


def blamed(collector: RayCollector) -> list[tuple[int, Cause]]:
    """The episodes that have failed themselves, and why."""
    assert {retry.cause for retry in collector.retried if retry.failures == 0} <= {Cause.BYSTANDER}
    return [(retry.ticket.episode, retry.cause) for retry in collector.retried if retry.failures]


@pytest.mark.ray
@pytest.mark.parametrize("fault", CAUSES)
def test_a_fault_that_passes_changes_nothing(impatient: RayCollector, tmp_path: Path, fault: str) -> None:
    assert CAUSES.keys() - FAULTS.keys() == {"is unpicklable"}, "all faults are here"
    times = 1 if fault == "hangs" else 2
    faulty = specification("Faulty", fault=fault, marker=str(tmp_path), times=times)
    asked = [*tickets([0], environment=UNHURRIED), *tickets([1], environment=faulty)]
    asked += tickets(range(2, 6), environment=UNHURRIED)
    assert_same(play(impatient, asked), played_alone(asked))
    assert blamed(impatient) == [(1, CAUSES[fault])] * times


@pytest.mark.ray
@pytest.mark.parametrize("fault", LASTING)
def test_a_fault_that_stays_is_named(impatient: RayCollector, fault: str) -> None:
    innocent = tickets(range(3), batch=1)
    impatient.submit(tickets([17], environment=specification("Faulty", fault=fault)) + innocent)
    with pytest.raises((CollectorError, EpisodeError), match=LASTING[fault]) as raised:
        impatient.collect(0)
    assert "\n" not in str(raised.value)
    assert_same(impatient.collect(1), played_alone(innocent))
    assert [episode for episode, _ in blamed(impatient)] == [17, 17]


@pytest.mark.ray
def test_actors_killed_while_nobody_waits_are_replaced(impatient: RayCollector, nodes: RayNodes) -> None:
    first = tickets(range(6), environment=UNHURRIED)
    assert_same(play(impatient, first), played_alone(first))
    before = nodes.actors()
    assert len(before) == 2
    for actor in before:
        actor.kill()
    second = tickets(range(6, 12), batch=1, environment=UNHURRIED)
    assert_same(play(impatient, second), played_alone(second))
    assert not {actor.pid for actor in before} & {actor.pid for actor in nodes.actors()}


@pytest.mark.ray
def test_close_does_not_wait_for_an_actor_that_hangs(nodes: RayNodes) -> None:
    with RayCollector(2, address=nodes.address) as collector:
        play(collector, tickets([0, 1]))
        hanging = specification("Uneven", step_seconds=3600.0)
        collector.submit(tickets([2, 3], batch=1, environment=hanging))
        time.sleep(0.5)
        asked = time.monotonic()
    assert time.monotonic() - asked < 5.0


LEARNER = """
import sys
import time

from awkward_environments import specification
from played import CAGE2, assert_same, play, played_alone, tickets

from workflow_rl.collectors.attempts import Cause
from workflow_rl.collectors.ray_actors import RayCollector

passing = specification("Faulty", fault="is killed", marker=sys.argv[1])
first = tickets(range(6), environment=CAGE2)
second = [*tickets([6, 7], version=1), *tickets([8], version=1, environment=passing)]
collector = RayCollector(2)
assert_same(play(collector, first), played_alone(first))
assert_same(play(collector, second), played_alone(second))
blamed = [(retry.ticket, retry.cause) for retry in collector.retried if retry.failures]
assert (second[2], Cause.DIED) in blamed, "those that travelled with it share the blame once"
print("played", flush=True)
if sys.argv[2] == "close":
    collector.close()
print("closed", flush=True)
time.sleep(3600)
"""


@pytest.mark.ray
@pytest.mark.parametrize("end", ["close", "kill"])
def test_a_ray_of_its_own_ends_with_its_collector_and_with_its_learner(tmp_path: Path, end: str) -> None:
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    with psutil.Popen(
        [sys.executable, "-c", LEARNER, str(tmp_path), end],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
    ) as learner:
        try:
            assert learner.stdout.readline() == "played\n"
            children = learner.children(recursive=True)
            processes = [child for child in children if "Agent" not in child.name()]  # they take Ray's time
            assert any("raylet" in process.name() for process in processes)
            assert learner.stdout.readline() == "closed\n"
            if end == "kill":
                learner.kill()
            assert not still_running(processes, seconds=10.0)
        finally:
            learner.kill()


@pytest.mark.ray
def test_a_ray_that_cannot_start_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = subprocess.run(
        [sys.executable, "-c", "from workflow_rl.collectors.ray_actors import *; RayCollector(1)"],
        env={**os.environ, "RAY_TMPDIR": str(tmp_path / "file")},
        capture_output=True,
        text=True,
        check=False,
    )
    last = done.stderr.splitlines()[-1]
    assert last.startswith("workflow_rl.errors.CollectorError: Ray cannot start on this machine: ")


@pytest.mark.ray
def test_auto_is_the_cluster_that_the_system_names(nodes: RayNodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", nodes.address)
    asked = tickets(range(3))
    with RayCollector(1, address="auto") as collector:
        assert_same(play(collector, asked), played_alone(asked))
        assert len(nodes.actors()) == 1


@pytest.mark.parametrize("address", ["nowhere", "127.0.0.1:1", "127.0.0.1:port", ":6379", "127.0.0.1:99999"])
def test_a_cluster_that_is_not_there_is_named(address: str) -> None:
    with pytest.raises(SettingError, match=rf"^--ray-address {address} is no cluster to join: .*") as raised:
        RayCollector(2, address=address)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("cpus", "n_workers", "share"),
    [
        ([2.0], 1, 1.0),
        ([2.0], 100, 0.02),
        ([2.0, 2.0], 4, 0.5),
        ([1.0, 1.0, 1.0], 4, 0.5),
        ([32.0, 32.0, 32.0], 100, 0.64),
        ([64.0, 4.0, 4.0], 100, 0.6736),
        ([0.0, 8.0], 3, 1.0),
        ([], 3, 1.0),
    ],
)
def test_all_workers_find_a_place_although_a_node_is_lost(
    cpus: list[float], n_workers: int, share: float
) -> None:
    assert cpus_per_worker(cpus, n_workers) == share
    for lost in [None, *range(len(cpus))]:
        left = [count for node, count in enumerate(cpus) if node != lost]
        if any(left) and (lost is None or 2 * cpus[lost] <= sum(cpus)):
            assert sum(int(count / share + 1e-9) for count in left) >= n_workers
