"""The policies that come with the package: found by name, small, as good as is said, on both simulators."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from workflow_rl.defenders import SHIPPED
from workflow_rl.episode import EnvironmentSpec, Episodes
from workflow_rl.errors import PolicyFileError
from workflow_rl.evaluation import evaluation_tickets
from workflow_rl.policy import load_policy
from workflow_rl.protocol import play_protocol, total_of
from workflow_rl.rollout import Player
from workflow_rl.settings import DefenderTrainSettings
from workflow_rl.stored_policy import StoredPolicy, read_policy

TOTALS = {"defender-2.1": -52.0, "defender-leaderboard": -44.6}
"""As docs/defender.md has them."""

shipped = pytest.mark.parametrize("name", sorted(SHIPPED))


def player(stored: StoredPolicy):
    snapshot, plays = stored.policy.snapshot(0), Player()

    def play(environment: EnvironmentSpec, episodes: range) -> Episodes:
        tickets = evaluation_tickets(
            environment, snapshot, run_seed=12345, episodes=episodes, batch=0, workflow=None, greedy=True
        )
        return plays.play(tickets, snapshot)

    return play


def test_there_is_one_for_each_set_of_rules() -> None:
    assert set(SHIPPED) == set(TOTALS)


@shipped
def test_it_is_small_and_says_what_made_it(name: str) -> None:
    assert SHIPPED[name].stat().st_size < 200_000
    _, metadata = load_policy(SHIPPED[name])
    recipe = DefenderTrainSettings.from_flat(metadata["recipe"])
    assert f"defender-{recipe.simulator.rules}" == name
    assert recipe.run.seed == metadata["seed"] == 0
    assert abs(metadata["validation"]["total"] - TOTALS[name]) < 1.5


@shipped
def test_it_is_as_good_as_is_said(name: str) -> None:
    """200 episodes of each cell, on another seed than the documents': two standard errors are about 0.8."""
    stored = read_policy(Path(name))
    total, half_width = total_of(list(play_protocol(player(stored), stored.environment, 200)))
    assert total == pytest.approx(TOTALS[name], abs=2 * half_width)


@pytest.mark.skipif(importlib.util.find_spec("csle_cyborg") is None, reason="needs the cyborg extra")
def test_it_plays_on_the_reference_too() -> None:
    stored = read_policy(Path("defender-2.1"), simulator="cyborg")
    played = player(stored)(stored.environment, range(4))
    assert played.returns().mean() > -60, "it would be some -1000 without a defender"


def test_a_file_of_that_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_policy(Path("defender-2.1")).file == SHIPPED["defender-2.1"]
    Path("defender-2.1").write_bytes(os.urandom(100))
    with pytest.raises(PolicyFileError, match="damaged"):
        read_policy(Path("defender-2.1"))


def test_another_name_is_a_missing_file() -> None:
    with pytest.raises(
        PolicyFileError, match=r"there is no policy defender-3; .* one of defender-2.1, defender-leaderboard"
    ):
        read_policy(Path("defender-3"))
