"""A trace shows every episode once, where and when it was played; the log says how busy everybody was."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)

from workflow_rl import commands
from workflow_rl.bench.latency import Waits
from workflow_rl.collectors import ExecutorCollector, SequentialCollector
from workflow_rl.episode import Episodes
from workflow_rl.errors import SettingError
from workflow_rl.order_training import OrderTraining, UpdateReport
from workflow_rl.pipeline import Counters
from workflow_rl.policy import ActorCritic
from workflow_rl.ppo import PPO
from workflow_rl.rollout import make_environment, network_shape
from workflow_rl.run_log import read_training_log
from workflow_rl.settings import TrainSettings
from workflow_rl.tracing import TracedCollector, TraceFile
from workflow_rl.workflow import Workflow

Event = dict[str, Any]

SLOW_STEPS = Waits(mean_step=0.004, sigma=1.0, num_steps=10)
SETTINGS = {"episodes_per_update": 12, "stop_rule": "plateau", "hidden_size": 16, "n_workers": 3}
NUM_BATCHES = 5


def train(collector: Any) -> list[UpdateReport]:
    """Some updates on steps that wait."""
    settings = TrainSettings.from_flat(SETTINGS)
    environment = SLOW_STEPS.environment()
    shape = network_shape(make_environment(environment), hidden_size=16, has_workflow=True)
    training = OrderTraining(
        workflow=Workflow.from_index(0),
        learner=PPO(ActorCritic(shape), settings.ppo, seed=0),
        environment=environment,
        settings=settings,
        collector=collector,
        counters=Counters(),
        is_interrupted=lambda: False,
    )
    return list(training.run(NUM_BATCHES * settings.search.episodes_per_update))


class KeepingCollector(ExecutorCollector):
    """Keeps all that was played."""

    def __init__(self, n_workers: int) -> None:
        super().__init__(n_workers)
        self.played: list[Episodes] = []

    def collect(self, batch: int) -> Episodes:
        self.played.append(super().collect(batch))
        return self.played[-1]


@pytest.fixture(scope="module")
def slow_steps(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Event], Episodes, list[UpdateReport]]:
    """A training on three workers: its trace, its episodes, its reports."""
    path = tmp_path_factory.mktemp("trace") / "made" / "trace.json"
    inside = KeepingCollector(3)
    with TracedCollector(inside, path) as collector:
        reports = train(collector)
    return json.loads(path.read_text()), Episodes.concatenate(inside.played), reports


def slices(events: list[Event], name: str) -> list[Event]:
    """Those whose name begins so, in the order in which they began."""
    found = [event for event in events if event["ph"] == "X" and event["name"].startswith(name)]
    return sorted(found, key=lambda event: event["ts"])


def overlap(one: Event, other: Event) -> bool:
    return bool(one["ts"] < other["ts"] + other["dur"] and other["ts"] < one["ts"] + one["dur"])


def rows(events: list[Event]) -> dict[int, str]:
    return {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}


def test_every_episode_is_drawn_once_as_it_was_played(
    slow_steps: tuple[list[Event], Episodes, list[UpdateReport]],
) -> None:
    events, episodes, _ = slow_steps
    drawn = {event["args"]["episode"]: event for event in slices(events, "episode ")}
    assert len(drawn) == len(slices(events, "episode ")) == len(episodes) == 60
    origin = drawn[0]["ts"] / 1e6 - episodes.started[0]
    for i, ticket in enumerate(episodes.tickets):
        event = drawn[ticket.episode]
        assert event["args"] == {
            "episode": ticket.episode,
            "version": ticket.version,
            "batch": ticket.batch,
            "length": 10,
            "workflow": 0,
        }
        assert event["tid"] == episodes.worker[i]
        assert event["ts"] / 1e6 - origin == pytest.approx(episodes.started[i], abs=1e-5)
        assert event["dur"] / 1e6 == pytest.approx(episodes.seconds[i], abs=1e-5)


def test_every_worker_has_its_row(slow_steps: tuple[list[Event], Episodes, list[UpdateReport]]) -> None:
    events, episodes, _ = slow_steps
    assert rows(events) == {
        0: "learner",
        **dict(
            zip(dict.fromkeys(episodes.worker.tolist()), ["worker 1", "worker 2", "worker 3"], strict=True)
        ),
    }


def test_workers_play_side_by_side_and_during_updates(
    slow_steps: tuple[list[Event], Episodes, list[UpdateReport]],
) -> None:
    events, _, _ = slow_steps
    episodes, updates = slices(events, "episode "), slices(events, "update ")
    pairs = itertools.combinations(episodes, 2)
    assert any(overlap(one, other) for one, other in pairs if one["tid"] != other["tid"])
    for update in updates[: NUM_BATCHES - 1]:
        others = [e for e in episodes if e["args"]["batch"] > update["args"]["batch"]]
        assert any(overlap(update, episode) for episode in others)


def test_a_worker_plays_one_episode_at_a_time(
    slow_steps: tuple[list[Event], Episodes, list[UpdateReport]],
) -> None:
    events, _, _ = slow_steps
    for worker in rows(events):
        own = [event for event in slices(events, "episode ") if event["tid"] == worker]
        for before, after in itertools.pairwise(own):
            assert before["ts"] + before["dur"] <= after["ts"] + 1.0


def test_waits_and_updates_take_turns_and_last_as_long_as_reported(
    slow_steps: tuple[list[Event], Episodes, list[UpdateReport]],
) -> None:
    events, _, reports = slow_steps
    learner = [event for event in slices(events, "") if event["tid"] == 0]
    names = [f"{kind} {batch}" for batch in range(NUM_BATCHES) for kind in ("wait", "update")]
    assert [event["name"] for event in learner] == names
    for before, after in itertools.pairwise(learner):
        assert before["ts"] + before["dur"] <= after["ts"] + 1.0
    for report, wait, update in zip(reports, learner[::2], learner[1::2], strict=True):
        assert wait["dur"] / 1e6 == pytest.approx(report.collection_seconds, abs=0.05)
        assert update["dur"] / 1e6 == pytest.approx(report.update_seconds, abs=0.05)


RUN = {
    "total_episodes": 40,
    "episodes_per_update": 10,
    "max_episodes_per_workflow": 20,
    "evaluation_episodes": 4,
    "max_steps": 5,
    "stop_rule": "plateau",
    "hidden_size": 8,
    "collector": "sequential",
}


def test_the_main_job_draws_training_and_evaluation(tmp_path: Path) -> None:
    settings = TrainSettings.from_flat(
        {**RUN, "run_dir": tmp_path / "run", "trace": tmp_path / "run" / "trace.json"}
    )
    assert commands.start(settings, launched=time.monotonic()) == 0
    events = json.loads((tmp_path / "run" / "trace.json").read_text())
    assert [e["args"]["episode"] for e in slices(events, "episode ")] == list(range(40))
    assert [e["args"]["episode"] for e in slices(events, "evaluation episode ")] == list(range(8))
    assert len(slices(events, "update ")) == len(read_training_log(tmp_path / "run")) == 4
    assert len(slices(events, "wait ")) == 6


def test_a_run_says_how_busy_everybody_was(tmp_path: Path) -> None:
    settings = TrainSettings.from_flat({**RUN, "run_dir": tmp_path / "run"})
    assert commands.start(settings, launched=time.monotonic()) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert 0 < summary["worker_busy_fraction"] < summary["learner_idle_fraction"] < 1
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    for name in ("worker_busy_fraction", "learner_idle_fraction"):
        shares = [event.value for event in events.Scalars(f"speed/{name}")]
        assert len(shares) == 4
        assert min(shares) <= summary[name] <= max(shares)


class Retrying(SequentialCollector):
    """Says of every batch that three of its episodes had to be played again."""

    retries = 0

    def collect(self, batch: int) -> Episodes:
        self.retries += 3
        return super().collect(batch)


def test_retries_are_marked(tmp_path: Path) -> None:
    with TracedCollector(Retrying(), tmp_path / "trace.json") as collector:
        train(collector)
        assert collector.retries == 3 * NUM_BATCHES
    events = json.loads((tmp_path / "trace.json").read_text())
    assert [e["name"] for e in events if e["ph"] == "i"] == ["3 episodes played again"] * NUM_BATCHES


KILLED = """
import os, signal, sys, time
from pathlib import Path
from workflow_rl import commands, train_job
from workflow_rl.display import RunDisplay
from workflow_rl.settings import TrainSettings

class DeadlyDisplay(RunDisplay):
    def show_update(self, report):
        if report.total_episodes == 20:
            os.kill(os.getpid(), signal.SIGKILL)

train_job.RunDisplay = DeadlyDisplay
commands.start(TrainSettings.from_flat({settings}), launched=time.monotonic())
"""


def test_the_trace_of_a_killed_run_is_readable(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    settings = {**RUN, "run_dir": str(tmp_path / "run"), "trace": str(path)}
    program = KILLED.replace("{settings}", repr(settings))
    subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    events = json.loads(path.read_text() + "]")
    assert [e["args"]["episode"] for e in slices(events, "episode ")] == list(range(20))
    assert len(slices(events, "update ")) == 2


def test_a_resumed_run_draws_only_where_it_is_told_to(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    settings = TrainSettings.from_flat({**RUN, "run_dir": tmp_path / "run", "trace": path})
    assert commands.start(settings, launched=time.monotonic()) == 0
    (tmp_path / "run" / "summary.json").unlink()
    before = path.read_bytes()
    assert commands.resume(tmp_path / "run", {}, launched=time.monotonic()) == 0
    assert path.read_bytes() == before


@pytest.fixture
def _nothing_is_made(tmp_path: Path) -> Iterator[None]:
    before = sorted(tmp_path.rglob("*"))
    yield
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.usefixtures("_nothing_is_made")
@pytest.mark.parametrize(
    ("place", "reason"), [(".", "Is a directory"), ("/dev/full", "No space left on device")]
)
def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path, place: str, reason: str) -> None:
    settings = TrainSettings.from_flat({**RUN, "run_dir": tmp_path / "run", "trace": tmp_path / place})
    with pytest.raises(SettingError, match=rf"^--trace .* cannot be written: {reason}$"):
        commands.start(settings, launched=time.monotonic())


def test_so_is_a_disk_that_becomes_full_on_the_way() -> None:
    trace = TraceFile(Path("/dev/full"))
    trace.add_instant(0, "something", time.monotonic())
    for write in (trace.flush, trace.close):
        with pytest.raises(SettingError, match=r"^--trace /dev/full cannot be written: No space left"):
            write()
