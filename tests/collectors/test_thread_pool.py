"""What is particular to threads: nothing is copied, nothing outlives `close`, and nothing can be ended."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from awkward_environments import specification
from played import CAGE2, UNEVEN, assert_same, play, played_alone, snapshot, tickets

from workflow_rl.collectors import ExecutorCollector, make_collector
from workflow_rl.collectors.attempts import Cause
from workflow_rl.cores import usable_cores
from workflow_rl.environments import CYBORG, executor_of
from workflow_rl.episode import EnvironmentSpec
from workflow_rl.errors import EpisodeError, MissingExtraError, SettingError
from workflow_rl.settings import CollectorSettings


@pytest.fixture
def collector() -> Iterator[ExecutorCollector]:
    with ExecutorCollector(2, executor="thread") as made:
        made.publish(snapshot(0))
        yield made


def test_threads_are_told_apart(collector: ExecutorCollector) -> None:
    unhurried = specification("Uneven", longest=1, step_seconds=0.05)
    episodes = play(collector, tickets(range(8), environment=unhurried))
    assert set(episodes.worker.tolist()) == {1, 2}


def test_close_waits_for_what_is_being_played_and_forgets_the_rest(collector: ExecutorCollector) -> None:
    unhurried = specification("Uneven", longest=1, step_seconds=0.5)
    collector.submit(tickets(range(40), environment=unhurried))
    time.sleep(0.1)
    asked = time.monotonic()
    collector.close()
    assert 0.1 < time.monotonic() - asked < 2.0


@pytest.mark.parametrize("where", ["constructor", "reset", "step"])
def test_an_environment_that_leaves_ends_its_episode_only(
    collector: ExecutorCollector, tmp_path: Path, where: str
) -> None:
    leaving = specification("Faulty", fault="leaves", where=where, marker=str(tmp_path), times=2)
    asked = [*tickets([0]), *tickets([1], environment=leaving), *tickets([2])]
    assert_same(play(collector, asked), played_alone(asked))
    assert [(retry.ticket, retry.cause) for retry in collector.retried] == [(asked[1], Cause.RAISED)] * 2


def test_a_missing_part_is_reported_at_once(collector: ExecutorCollector) -> None:
    collector.submit(tickets([0], environment=specification("Unequipped")))
    with pytest.raises(MissingExtraError, match=r"pip install 'workflow-rl\[cyborg\]'"):
        collector.collect(0)
    assert collector.retries == 0


def test_an_error_of_our_own_is_raised_where_the_batch_is_waited_for(collector: ExecutorCollector) -> None:
    broken = snapshot(1)
    broken.parameters.resize(3, refcheck=False)
    collector.publish(broken)
    collector.submit(tickets([0], version=1))
    with pytest.raises(EpisodeError, match="a thread that plays raised") as raised:
        collector.collect(0)
    assert "split_parameters" in raised.value.worker_traceback


def test_snapshots_are_kept_as_long_as_a_ticket_names_them(collector: ExecutorCollector) -> None:
    weights: dict[int, weakref.ref[np.ndarray]] = {}

    def publish(version: int) -> None:
        made = snapshot(version)
        weights[version] = weakref.ref(made.parameters)
        collector.publish(made)

    def alive() -> set[int]:
        gc.collect()
        return {version for version, parameters in weights.items() if parameters() is not None}

    publish(1)
    collector.submit(tickets([0, 1], batch=0, version=1))
    publish(2)
    publish(3)
    assert alive() == {1, 3}, "nobody has named 2"
    collector.submit(tickets([2, 3, 4, 5], batch=1, version=3))
    collector.collect(1)
    collector.collect(0)
    publish(4)
    collector.submit(tickets(range(6, 20), batch=2, version=4))
    collector.collect(2)
    collector.close()
    assert alive() == set()


def test_a_time_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing ends an episode that hangs in a thread"):
        ExecutorCollector(2, executor="thread", episode_timeout=5.0)
    with pytest.raises(SettingError, match=r"^--episode-timeout 5 needs --executor process: nothing ends a"):
        make_collector(CollectorSettings(executor="thread", episode_timeout=5.0), UNEVEN)


@pytest.mark.parametrize(
    ("environment", "settings", "expected"),
    [
        (CAGE2, {}, "thread"),
        (CAGE2, {"episode_timeout": 5.0}, "process"),
        (CAGE2, {"executor": "process"}, "process"),
        (CAGE2, {"collector": "sequential"}, None),
        (UNEVEN, {}, "process"),
        (UNEVEN, {"executor": "thread"}, "thread"),
        (EnvironmentSpec(CYBORG), {}, "process"),
    ],
)
def test_who_plays_follows_the_environment(
    environment: EnvironmentSpec, settings: dict[str, Any], expected: str | None
) -> None:
    assert executor_of(CollectorSettings(**settings), environment) == expected


def test_the_reference_simulator_is_not_played_in_threads() -> None:
    with pytest.raises(SettingError, match=r"^--executor thread cannot play the reference simulator, which"):
        make_collector(CollectorSettings(executor="thread"), EnvironmentSpec(CYBORG))


def test_threads_that_never_wait_are_no_more_than_the_cores() -> None:
    chosen = CollectorSettings(n_workers=100_000, executor="thread")
    with make_collector(chosen, CAGE2) as compiled, make_collector(chosen, UNEVEN) as other:
        assert compiled.num_players == usable_cores()
        assert other.num_players == 100_000
