"""The main job with orders trained in pieces: what waits goes on to the last bit, whatever happens then."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_main_job import (
    KILLED,
    SMALL,
    KeepingCollector,
    as_flags,
    run,
    summary_of,
    watched_run,
    when_learnt,
    without_times,
)

from workflow_rl import commands, order_search
from workflow_rl.checkpoint import read_checkpoint
from workflow_rl.errors import RunDirectoryError
from workflow_rl.learner_files import LEARNERS, LearnerFiles
from workflow_rl.policy import load_policy
from workflow_rl.rollout import Player
from workflow_rl.run_directory import RunDirectory
from workflow_rl.run_log import read_search_log, read_training_log
from workflow_rl.seeding import Stream
from workflow_rl.settings import AlignmentSettings, TrainSettings

PIECES: dict[str, Any] = {"halvings": 1, "total_episodes": 120, "alignment": "lagrangian"}
"""Two trials of two updates, with fresh weights, then pieces of one update each; some orders go on."""


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, KeepingCollector]:
    """A run, and the collector that has seen it all."""
    path = tmp_path_factory.mktemp("pieces") / "run"
    return path, watched_run(path, **PIECES)


def continued(path: Path) -> Iterator[tuple[int, int]]:
    """(trial, the trial it goes on from) of a run."""
    for row in read_search_log(path):
        if row.continues is not None and row.begins_with == row.continues:
            yield row.iteration, row.continues


def first_episodes(path: Path) -> list[int]:
    """The number of each trial's first training episode."""
    return [0, *itertools.accumulate(row.episodes for row in read_search_log(path))][:-1]


def test_a_training_with_fresh_weights_is_whole_and_others_begin_with_a_piece(
    watched: tuple[Path, KeepingCollector],
) -> None:
    path, _ = watched
    begun = [row.episodes for row in read_search_log(path) if row.continues is None]
    assert begun[:2] == [20, 20]
    assert set(begun[2:]) == {10}


def test_every_trial_begins_with_the_policy_that_its_row_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where an order goes on with the best policy, as all do here whose own earns less at all."""
    monkeypatch.setattr(order_search, "_CLEARLY_LESS", 0.0)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    changes = {**PIECES, "total_episodes": 160}
    collector, rows = watched_run(whole, **changes), read_search_log(whole)
    tickets = {t.episode: t for t in collector.submitted if t.stream == Stream.TRAINING_EPISODE}
    policies = [load_policy(whole / row.policy)[0].snapshot(0).parameters.tobytes() for row in rows]
    ways, stop = set(), 0
    for row, start in zip(rows, first_episodes(whole), strict=True):
        first = collector.snapshots[tickets[start].version].parameters.tobytes()
        if row.begins_with is None:
            assert first not in policies
        else:
            assert first == policies[row.begins_with]
        ways.add((row.continues is not None, row.begins_with is not None, row.begins_with == row.continues))
        if row.continues not in {None, row.begins_with}:
            stop = start + 10
    fresh, own = (False, False, True), (True, True, True)
    of_another, of_the_best = (False, True, False), (True, True, False)
    assert ways == {fresh, of_another, own, of_the_best}
    interrupt(monkeypatch, stopped, stop, changes)
    assert commands.resume(stopped, {}, [], launched=time.monotonic()) == 0
    assert_the_same(stopped, whole)


def interrupt(monkeypatch: pytest.MonkeyPatch, path: Path, episodes: int, changes: dict[str, Any]) -> None:
    """A run that is stopped after so many episodes."""
    with monkeypatch.context() as patch:
        when_learnt(patch, episodes, lambda: signal.raise_signal(signal.SIGINT))
        settings = TrainSettings.from_flat({**SMALL, **changes, "run_dir": path})
        assert commands.start(settings, launched=time.monotonic()) == 130


def test_a_trial_goes_on_with_the_policy_and_the_updates_of_the_one_before(
    watched: tuple[Path, KeepingCollector],
) -> None:
    path, collector = watched
    training, search, starts = read_training_log(path), read_search_log(path), first_episodes(path)
    tickets = {t.episode: t for t in collector.submitted if t.stream == Stream.TRAINING_EPISODE}
    pairs = list(continued(path))
    assert len(pairs) >= 2
    for trial, before in pairs:
        assert search[trial].workflow == search[before].workflow
        last_before = starts[before] + search[before].episodes
        updates = {row.total_episodes: row.update for row in training}
        assert updates[starts[trial] + 10] == updates[last_before] + 1
        first = collector.snapshots[tickets[starts[trial]].version]
        trained = load_policy(path / search[before].policy)[0].snapshot(0)
        assert first.parameters.tobytes() == trained.parameters.tobytes()


def test_more_training_that_spoils_a_policy_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "run"
    # Every policy meets the threshold that has one fix to judge, so rewards decide; large steps spoil some.
    changes = {"total_episodes": 200, "compliance_threshold": 0.0, "learning_rate": 0.01}
    collector = watched_run(path, **{**PIECES, **changes})
    search, scores = read_search_log(path), evaluations(collector)
    kept = {}
    for trial, before in continued(path):
        own, earlier = scores[trial]
        assert own[0] == earlier[0], "the same fresh episodes"
        assert search[trial].evaluated_reward == max(own[1], earlier[1])
        is_new = own[1] >= earlier[1]
        kept[trial] = is_new
        assert (search[trial].policy == search[before].policy) is not is_new
        assert search[trial].policy in [f"policies/{file.name}" for file in (path / "policies").iterdir()]
    assert set(kept.values()) == {True, False}


def test_a_full_training_goes_on_in_smaller_and_smaller_steps(tmp_path: Path) -> None:
    moved = {}
    for annealing in (1.0, 1e-6):
        path = tmp_path / str(annealing)
        run(path, total_episodes=180, annealing=annealing)
        policies = [row.policy for row in read_search_log(path)]
        kept = [(path / policies[trial], path / policies[before]) for trial, before in continued(path)]
        moved[annealing] = [distance(*files) for files in kept]
        assert len(kept) >= 2
    assert max(moved[1.0]) > 0.01
    assert max(moved[1e-6]) < 1e-5


def distance(*files: Path) -> float:
    """The largest difference between two policies' weights."""
    one, other = (load_policy(file)[0].snapshot(0).parameters for file in files)
    return float(np.abs(one - other).max())


def evaluations(collector: KeepingCollector) -> list[list[tuple[list[int], float]]]:
    """Of each trial, the evaluations at its end: the episodes, and what they returned on average."""
    trials: list[list[tuple[list[int], float]]] = []
    is_first = True
    for _, tickets in itertools.groupby(collector.submitted, key=lambda ticket: ticket.batch):
        alike = list(tickets)
        if alike[0].stream == Stream.TRAINING_EPISODE:
            is_first = True
            continue
        with closing(Player()) as player:
            played = player.play(alike, collector.snapshots[alike[0].version])
        if is_first:
            trials.append([])
        is_first = False
        trials[-1].append(([ticket.episode for ticket in alike], float(played.returns().mean())))
    return trials


def test_the_optimiser_and_the_multiplier_go_on_too(watched: tuple[Path, KeepingCollector]) -> None:
    path, _ = watched
    going_on = dict(continued(path))
    weights = {row.total_episodes: row.alignment_weight for row in read_training_log(path)}
    for trial, start in enumerate(first_episodes(path)):
        assert (weights[start + 10] == AlignmentSettings().alignment_lambda) is (trial not in going_on)
    had = [row.episodes // 10 for row in read_search_log(path)]
    for trial, before in going_on.items():
        had[trial] += had[before]
    for file in (path / LEARNERS).iterdir():
        learner, trial = read_checkpoint(file), int(file.name.partition("-")[0])
        assert int(learner.arrays["num_updates"]) == had[trial]
        steps = [int(array) for name, array in learner.arrays.items() if name.endswith(".step")]
        assert len(set(steps)) == 1
        assert steps[0] % had[trial] == 0
        assert all(np.isfinite(array).all() for array in learner.arrays.values())


def test_learners_that_may_go_on_are_kept_and_no_others(watched: tuple[Path, KeepingCollector]) -> None:
    path, _ = watched
    search = read_search_log(path)
    passed = {row.continues for row in search[:-1]}
    kept = {int(file.name.partition("-")[0]) for file in (path / LEARNERS).iterdir()}
    assert kept == {row.iteration for row in search} - passed


def test_workers_change_nothing(tmp_path: Path, watched: tuple[Path, KeepingCollector]) -> None:
    run(tmp_path / "run", **PIECES, collector="executor", executor="process", n_workers=2)
    assert_the_same(tmp_path / "run", watched[0])


def assert_the_same(path: Path, undisturbed: Path) -> None:
    assert without_times(path) == without_times(undisturbed)
    assert (path / "search_log.csv").read_bytes() == (undisturbed / "search_log.csv").read_bytes()
    names = [sorted(file.name for file in (run / LEARNERS).iterdir()) for run in (path, undisturbed)]
    assert names[0] == names[1], "learners are named after their contents"


@pytest.mark.parametrize("episodes", [30, 60, 100])
def test_an_interrupted_run_goes_on_where_it_stopped(
    tmp_path: Path, watched: tuple[Path, KeepingCollector], monkeypatch: pytest.MonkeyPatch, episodes: int
) -> None:
    path = tmp_path / "run"
    interrupt(monkeypatch, path, episodes, PIECES)
    assert commands.resume(path, {}, [], launched=time.monotonic()) == 0
    assert_the_same(path, watched[0])


def test_a_killed_run_goes_on(tmp_path: Path, watched: tuple[Path, KeepingCollector]) -> None:
    path = tmp_path / "run"
    going_on = min(trial for trial, _ in continued(watched[0]))
    program = KILLED.replace("total_episodes == 30", f"total_episodes == {10 * going_on + 10}")
    flags = as_flags(path, **PIECES)
    killed = subprocess.run([sys.executable, "-c", program, *flags], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert commands.resume(path, {}, [], launched=time.monotonic()) == 0
    assert_the_same(path, watched[0])
    assert summary_of(path)["is_complete"] is True


def test_a_damaged_learner_is_an_error(watched: tuple[Path, KeepingCollector], tmp_path: Path) -> None:
    directory = RunDirectory.create(tmp_path / "run")
    file = next((watched[0] / LEARNERS).iterdir())
    directory.write_bytes(f"{LEARNERS}/{file.name}", file.read_bytes()[:-1])
    with pytest.raises(RunDirectoryError, match="is damaged") as caught:
        LearnerFiles(directory).load(file.name)
    assert "\n" not in str(caught.value)
