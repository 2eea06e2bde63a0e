"""What is particular to Ray: a Ray of our own, places for workers, and clusters that are not there."""

from __future__ import annotations

from pathlib import Path

import pytest
from awkward_environments import specification
from played import CAGE2, assert_same, play, played_alone, tickets

ray_actors = pytest.importorskip("workflow_rl.collectors.ray_actors", reason="needs workflow-rl[ray]")

from workflow_rl.collectors.attempts import Cause  # noqa: E402
from workflow_rl.errors import SettingError  # noqa: E402


@pytest.mark.ray
def test_a_ray_of_its_own_plays_the_same_although_an_actor_is_killed(tmp_path: Path) -> None:
    passing = specification("Faulty", fault="is killed", marker=str(tmp_path))
    first = tickets(range(6), environment=CAGE2)
    second = [*tickets([6, 7], version=1), *tickets([8], version=1, environment=passing)]
    with ray_actors.RayCollector(2) as collector:
        assert_same(play(collector, first), played_alone(first))
        assert_same(play(collector, second), played_alone(second))
    blamed = [(retry.ticket, retry.cause) for retry in collector.retried if retry.failures]
    assert (second[2], Cause.DIED) in blamed, "those that travelled with it share the blame once"


@pytest.mark.ray
@pytest.mark.parametrize("address", ["auto", "nowhere", "127.0.0.1:1"])
def test_a_cluster_that_is_not_there_is_named(address: str) -> None:
    with pytest.raises(SettingError, match=rf"^--ray-address {address} is no cluster to join: .*") as raised:
        ray_actors.RayCollector(2, address=address)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("cpus", "n_workers", "share"),
    [
        ([2.0], 1, 1.0),
        ([2.0], 100, 0.02),
        ([1.0, 1.0, 1.0], 4, 0.5),
        ([32.0, 32.0, 32.0], 100, 0.9411),
        ([0.0, 8.0], 3, 1.0),
        ([], 3, 1.0),
    ],
)
def test_all_workers_find_a_place(cpus: list[float], n_workers: int, share: float) -> None:
    assert ray_actors.cpus_per_worker(cpus, n_workers) == share
    assert not cpus or sum(int(c / share + 1e-9) for c in cpus) >= n_workers
