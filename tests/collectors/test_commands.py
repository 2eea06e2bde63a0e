"""`--collector` in every command: whoever plays the episodes, what comes of them is the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from workflow_rl.cli import main_group

TRAIN = (
    *("train", "--total-episodes=12", "--episodes-per-update=4", "--max-episodes-per-workflow=8"),
    *("--max-steps=9", "--minibatch-size=16", "--hidden-size=8", "--evaluation-episodes=2"),
)
TRAIN_ENV = (
    *("train-env", "--env=CartPole-v1", "--total-steps=300", "--steps-per-update=100", "--minibatch-size=50"),
    *("--hidden-size=8", "--evaluation-episodes=2"),
)


def call(*arguments: object) -> None:
    done = CliRunner().invoke(main_group, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output


def summary(run: Path) -> dict[str, Any]:
    return json.loads((run / "summary.json").read_text())  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the sequential collector comes to: two runs, and the scores of their policies."""
    directory = tmp_path_factory.mktemp("alone")
    for command in (TRAIN, TRAIN_ENV):
        call(*command, "--collector=sequential", "--run-dir", directory / command[0])
        score(directory / command[0], directory / f"{command[0]}.json", ["--collector=sequential"])
    return directory


def score(run: Path, file: Path, flags: list[str]) -> dict[str, Any]:
    call("evaluate", run, "--episodes=3", "--json", file, *flags)
    return json.loads(file.read_text())  # type: ignore[no-any-return]


@pytest.fixture(params=["synchronous", "executor", pytest.param("ray", marks=pytest.mark.ray)])
def flags(request: pytest.FixtureRequest) -> list[str]:
    """How a command is told who is to play."""
    chosen = [f"--collector={request.param}", "--n-workers=2"]
    if request.param == "ray":
        chosen.append(f"--ray-address={request.getfixturevalue('nodes').address}")
    return chosen


@pytest.mark.parametrize("command", [TRAIN, TRAIN_ENV], ids=["train", "train-env"])
def test_a_training_ends_with_the_same_weights(
    alone: Path, flags: list[str], tmp_path: Path, command: tuple[str, ...]
) -> None:
    call(*command, *flags, "--run-dir", tmp_path / "run")
    expected, found = summary(alone / command[0]), summary(tmp_path / "run")
    assert found["weights_sha256"] == expected["weights_sha256"]
    assert found["is_complete"]


@pytest.mark.parametrize("trained", ["train", "train-env"])
def test_an_evaluation_comes_to_the_same_scores(
    alone: Path, flags: list[str], tmp_path: Path, trained: str
) -> None:
    found = score(alone / trained, tmp_path / "scores.json", flags)
    assert found == json.loads((alone / f"{trained}.json").read_text())
