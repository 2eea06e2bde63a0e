"""What only the synchronous collector does: how many environments it opens, and what a lost one means."""

from __future__ import annotations

from pathlib import Path

import pytest
from awkward_environments import specification
from played import assert_same, play, played_alone, snapshot, tickets
from process_ends import left_by_a_killed, still_running

from workflow_rl.collectors import SynchronousCollector
from workflow_rl.environments import CYBORG, executor_of
from workflow_rl.episode import EnvironmentSpec
from workflow_rl.errors import CollectorError, EpisodeError, SettingError
from workflow_rl.settings import CollectorSettings


def test_there_are_as_many_environments_as_tickets_and_no_more_than_workers() -> None:
    with SynchronousCollector(5) as collector:
        for batch, (size, expected) in enumerate([(2, 2), (1, 2), (9, 5)]):
            asked = tickets(range(10 * batch, 10 * batch + size), batch=batch)
            assert_same(play(collector, asked), played_alone(asked))
            assert collector._environments is not None
            assert collector._environments.count == expected


def test_an_episode_lasts_until_all_environments_have_made_its_last_step() -> None:
    """The barrier: episodes that begin together and are equally long end together."""
    unhurried = specification("Uneven", longest=1, step_seconds=0.05)
    with SynchronousCollector(4) as collector:
        episodes = play(collector, tickets(range(4), environment=unhurried))
    assert len(set(episodes.worker.tolist())) == 4
    assert len(set(episodes.started + episodes.seconds)) <= 2  # seconds are rounded to float32
    assert episodes.seconds.min() >= 0.05


@pytest.mark.parametrize(
    ("fault", "where", "ending"),
    [
        ("exits", "constructor", "ended with exit code 3"),
        ("is killed", "reset", "was killed by SIGKILL"),
        ("exits", "step", "ended with exit code 3"),
    ],
)
def test_a_lost_process_is_one_clear_error(tmp_path: Path, fault: str, where: str, ending: str) -> None:
    faulty = specification("Faulty", fault=fault, where=where, marker=str(tmp_path))
    with SynchronousCollector(2) as collector:
        collector.publish(snapshot(0))
        collector.submit(tickets([3, 4], environment=faulty))
        with pytest.raises(CollectorError) as raised:
            collector.collect(0)
        message = str(raised.value)
        assert f"{ending}; --collector synchronous cannot replace it" in message
        assert "that played episode " in message
        assert "\n" not in message
        later = tickets([5, 6], batch=1)
        assert_same(play(collector, later), played_alone(later))


def test_an_environment_that_leaves_ends_its_episode_and_not_its_process() -> None:
    leaving = tickets([0, 1], environment=specification("Faulty", fault="leaves", where="reset"))
    with (
        SynchronousCollector(2) as collector,
        pytest.raises(EpisodeError, match="raised SystemExit: 4 while playing episode"),
    ):
        play(collector, leaving)


def test_a_time_limit_is_refused() -> None:
    settings = CollectorSettings(collector="synchronous", episode_timeout=5.0)
    with pytest.raises(SettingError, match="--episode-timeout 5 needs --collector executor"):
        executor_of(settings, EnvironmentSpec.of(CYBORG, {}))


LEARNER = """
from awkward_environments import specification
from played import snapshot, tickets
from workflow_rl.collectors import SynchronousCollector

if __name__ == "__main__":
    collector = SynchronousCollector(3)
    collector.publish(snapshot(0))
    collector.submit(tickets(range(3), batch=0, environment=specification("Uneven", longest=1)))
    collector.submit(tickets(range(9), batch=1, environment=specification("Uneven", step_seconds=3600.0)))
    collector.collect(0)
    print("played", flush=True)
    collector.collect(1)
"""


def test_a_killed_learner_leaves_no_environment() -> None:
    said, processes = left_by_a_killed(LEARNER, after=0.5)  # in the middle of a step of the second batch
    assert said == "played"
    assert len(processes) >= 3 + 1, "three environments and the fork server were running"
    assert not still_running(processes, seconds=2.0)
