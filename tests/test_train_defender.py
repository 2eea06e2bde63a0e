"""Training a defender: what a run leaves, the same after a failure, and validation apart from all else."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from program import call
from rich.console import Console

from workflow_rl import commands
from workflow_rl.checkpoint import load_checkpoint
from workflow_rl.collectors import Collector, ExecutorCollector, SequentialCollector
from workflow_rl.defender_job import DefenderJob, training_of
from workflow_rl.environment_training import EnvironmentTraining
from workflow_rl.episode import Episodes
from workflow_rl.errors import CollectorError
from workflow_rl.interruption import Interruption
from workflow_rl.policy import load_policy, policy_digest
from workflow_rl.run_directory import RunDirectory
from workflow_rl.run_log import read_validation_log
from workflow_rl.seeding import Stream, environment_seed, episode_key
from workflow_rl.settings import DefenderTrainSettings, SimulatorSettings
from workflow_rl.stored_policy import read_policy

SMALL: dict[str, Any] = {
    "total_episodes": 56,
    "episodes_per_update": 8,
    "validation_updates": 3,
    "validation_episodes": 3,
    "minibatch_size": 400,
    "learning_rate": 0.01,
    "hidden_size": 8,
    "beginnings": 2,
    "beginning_share": 0.25,
}
"""Two beginnings of two updates; the one that goes on has eight, the last of them at work when the episodes
are spent, and is validated three times more."""


class FailsAt(SequentialCollector):
    """The sequential collector, until it loses its workers."""

    def __init__(self, num_collected: int) -> None:
        super().__init__()
        self._left = num_collected

    def collect(self, batch: int) -> Episodes:
        self._left -= 1
        if self._left < 0:
            raise CollectorError("lost")
        return super().collect(batch)


class InterruptsAt(SequentialCollector):
    """The sequential collector, until its user presses Ctrl-C."""

    def __init__(self, num_collected: int) -> None:
        super().__init__()
        self._left = num_collected

    def collect(self, batch: int) -> Episodes:
        self._left -= 1
        if self._left == 0:
            signal.raise_signal(signal.SIGINT)
        return super().collect(batch)


def run(path: Path, collector: Collector, *, resumes: bool = False, seed: int = 0) -> dict[str, Any]:
    settings = DefenderTrainSettings.from_flat({**SMALL, "seed": seed})
    open_directory = RunDirectory.resume if resumes else RunDirectory.create
    with open_directory(path) as directory, Interruption() as interruption, collector:
        directory.write_json("config.json", settings.to_flat())
        checkpoint = load_checkpoint(directory, pytest.fail) if resumes else None
        job = DefenderJob(
            settings,
            training_of(settings),
            directory,
            collector,
            Console(quiet=True),
            interruption,
            time.monotonic(),
            checkpoint,
        )
        return job.run()


def curve(path: Path) -> list[tuple[int, int, float, float, bool]]:
    """The validations of a run, without their times."""
    rows = read_validation_log(path)
    return [(row.update, row.episodes, row.total, row.total_half_width, row.is_best) for row in rows]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    path = tmp_path_factory.mktemp("runs") / "run"
    return path, run(path, SequentialCollector())


def test_a_run_leaves_the_policy_that_did_best(uninterrupted: tuple[Path, dict[str, Any]]) -> None:
    path, summary = uninterrupted
    rows = curve(path)
    assert [(update, episodes) for update, episodes, *_ in rows] == [
        *((2, 16), (2, 32)),
        *((3, 40), (6, 64), (8, 80)),
    ]
    assert summary["episodes"] == 80
    best = max(rows, key=lambda row: row[2])
    assert [row[1] for row in rows if row[4]][-1] == best[1]
    assert (summary["best_episodes"], summary["validation_total"]) == (best[1], best[2])
    policy, metadata = load_policy(path / summary["policy"])
    assert metadata["validation"]["total"] == best[2]
    assert metadata["recipe"]["rules"] == "2.1"
    assert not {"run_dir", "n_workers"} & set(metadata["recipe"])
    assert policy.shape.num_actions == 39
    stored = read_policy(path)
    assert stored.is_greedy
    assert dict(stored.environment.kwargs)["action_set"] == "next-decoy"


def test_times_grow(uninterrupted: tuple[Path, dict[str, Any]]) -> None:
    seconds = [row.seconds for row in read_validation_log(uninterrupted[0])]
    assert seconds == sorted(seconds)
    assert seconds[0] > 0


@pytest.mark.parametrize("seed", [0, 1])
def test_the_best_beginning_goes_on_as_if_it_had_been_alone(seed: int, tmp_path: Path) -> None:
    summary = run(tmp_path / "run", SequentialCollector(), seed=seed)
    first, second, *later = read_validation_log(tmp_path / "run")
    assert (first.beginning, second.beginning) == (0, 1)
    best = int(second.total > first.total)
    assert best == seed, "of these seeds each has another best beginning"
    assert {row.beginning for row in later} == {best}
    alone = training_of(DefenderTrainSettings.from_flat({**SMALL, "seed": seed}))
    with SequentialCollector() as collector:
        training = EnvironmentTraining(alone, collector, beginning=best)
        list(training.run())
    assert policy_digest(training.learner.policy) == summary["weights_sha256"]


def test_one_beginning_is_nothing_special(tmp_path: Path) -> None:
    """It is not paused, and so not validated in between."""
    options = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
    assert call("train-defender", f"--run-dir={tmp_path / 'run'}", *options, "--beginnings=1") == 0
    assert [row.update for row in read_validation_log(tmp_path / "run")] == [3, 6, 8]


@pytest.mark.parametrize(
    "num_collected",
    [1, 6, 11, 13, 23, 24, 27],
    ids=[
        "update of the first beginning",
        "its validation",
        "what it leaves in flight",
        "update of the second one",
        "what that leaves in flight",
        "update of the best",
        "validation of the best",
    ],
)
def test_a_run_that_fails_and_goes_on_is_the_same(
    num_collected: int, uninterrupted: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    with pytest.raises(CollectorError):
        run(tmp_path / "run", FailsAt(num_collected))
    check_the_rest(tmp_path, *uninterrupted)


@pytest.mark.parametrize("num_collected", [1, 2, 14, 25])
def test_a_run_that_is_interrupted_and_goes_on_is_the_same(
    num_collected: int, uninterrupted: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """Among others just before the turn to the second beginning, and to the best."""
    assert not run(tmp_path / "run", InterruptsAt(num_collected))["is_complete"]
    check_the_rest(tmp_path, *uninterrupted)


def check_the_rest(tmp_path: Path, path: Path, expected: dict[str, Any]) -> None:
    """Resume a run, and see that it leaves what one left that was never stopped."""
    summary = run(tmp_path / "run", SequentialCollector(), resumes=True)
    assert summary["weights_sha256"] == expected["weights_sha256"]
    assert curve(tmp_path / "run") == curve(path)
    assert (tmp_path / "run/policy.safetensors").read_bytes() == (path / "policy.safetensors").read_bytes()


def test_whoever_plays_leaves_the_same_policy(
    uninterrupted: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    path, expected = uninterrupted
    summary = run(tmp_path / "run", ExecutorCollector(2, executor="thread"))
    assert summary["weights_sha256"] == expected["weights_sha256"]
    assert (tmp_path / "run/policy.safetensors").read_bytes() == (path / "policy.safetensors").read_bytes()


def test_validation_plays_episodes_of_its_own() -> None:
    keys = {stream: [episode_key(0, stream, e) for e in range(2000)] for stream in Stream}
    seeds = {stream: {int(environment_seed(key)) for key in keys[stream]} for stream in Stream}
    for stream in (Stream.TRAINING_EPISODE, Stream.EVALUATION_EPISODE):
        assert not seeds[stream] & seeds[Stream.VALIDATION_EPISODE]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
    run = tmp_path / "run"
    assert call("train-defender", "--rules=leaderboard", f"--run-dir={run}", *options) == 0
    assert "the best so far" in capsys.readouterr().out
    config = json.loads((run / "config.json").read_text())
    assert (config["rules"], config["red_agent"], config["seed"]) == ("leaderboard", "all-three", 0)
    assert call("train-env", "--resume", run) == 2
    assert "workflow-rl train-defender --resume" in capsys.readouterr().err


def test_the_learner_is_annealed_to_the_end() -> None:
    """Learning rate and entropy of the last update are what the schedule leaves of them."""
    settings = DefenderTrainSettings.from_flat({**SMALL, "final_learning_rate": 0.1, "final_entropy": 0.01})
    with SequentialCollector() as collector:
        training = EnvironmentTraining(training_of(settings), collector)
        rates = []
        for _ in training.run():
            (group,) = training.learner._optimizer.param_groups
            rates.append(group["lr"])
    spent = np.array([0, 8, 16, 24, 32, 40, 48, 56]) / 56
    assert len(rates) == 8
    np.testing.assert_allclose(rates, 0.01 * (1 - 0.9 * spent))


def test_the_recipe_has_defaults_of_its_own() -> None:
    recipe = DefenderTrainSettings()
    assert recipe.simulator != SimulatorSettings()
    assert DefenderTrainSettings.from_flat({}) == recipe
    assert DefenderTrainSettings.from_flat(recipe.to_flat()) == recipe
    assert DefenderTrainSettings.from_flat({"rules": "leaderboard"}).simulator.action_set == "next-decoy"


@pytest.mark.learning
def test_the_winner_of_2022_is_passed_by_the_rules_of_today_within_30_000_episodes(tmp_path: Path) -> None:
    """A minute of CPU time; the winner's weights come to -89.68 by these rules (`protocol.PUBLISHED`)."""
    settings = DefenderTrainSettings.from_flat({"total_episodes": 30_000, "run_dir": tmp_path / "run"})
    assert commands.start(settings, launched=time.monotonic(), console=Console(quiet=True)) == 0
    assert max(row.total for row in read_validation_log(tmp_path / "run")) > -80
