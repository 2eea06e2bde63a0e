"""Conditions that no policy was trained in: that they are what they say, and the table made of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from program import call

from workflow_rl.cage2.disturbances import DisturbedCage2Env
from workflow_rl.cage2.env import Cage2Env
from workflow_rl.cage2.scenario import NUM_ACTIONS
from workflow_rl.environments import CYBORG, NATIVE
from workflow_rl.episode import EnvironmentSpec, Episodes
from workflow_rl.errors import SettingError
from workflow_rl.evaluation import evaluation_tickets
from workflow_rl.policy import ActorCritic, policy_to_bytes
from workflow_rl.robustness import SITUATIONS, play_robustness
from workflow_rl.rollout import Player, shape_for

ACTIONS = np.random.default_rng(3).integers(NUM_ACTIONS, size=100).tolist()


def observations(env: Cage2Env | DisturbedCage2Env, seed: int) -> np.ndarray:
    return np.array([env.reset(seed=seed)[0], *(env.step(action)[0] for action in ACTIONS)])


def test_undisturbed_it_is_the_game() -> None:
    expected = observations(Cage2Env("RedMeanderAgent", scan_memory=True), 5)
    np.testing.assert_array_equal(
        observations(DisturbedCage2Env(red_agent="RedMeanderAgent", scan_memory=True), 5), expected
    )


def test_what_is_lost_is_what_was_shown_before() -> None:
    game, disturbed = Cage2Env("RedMeanderAgent"), DisturbedCage2Env(dropped=0.3, red_agent="RedMeanderAgent")
    num_lost = num_told = 0
    for seed in range(20):
        sent, shown = observations(game, seed), observations(disturbed, seed)
        np.testing.assert_array_equal(observations(disturbed, seed), shown)
        np.testing.assert_array_equal(shown[0], sent[0])
        is_new = (shown[1:] == sent[1:]).all(axis=1)
        np.testing.assert_array_equal(shown[1:][~is_new], shown[:-1][~is_new])
        is_old = (sent[1:] == shown[:-1]).all(axis=1)
        num_lost += np.count_nonzero(~is_new)
        num_told += np.count_nonzero(is_new & ~is_old)
    assert num_lost / (num_lost + num_told) == pytest.approx(0.3, abs=0.05)


@pytest.mark.parametrize("dropped", [-0.1, 1.0])
def test_a_share_that_is_none_is_refused(dropped: float) -> None:
    with pytest.raises(SettingError, match="dropped must be at least 0 and below 1"):
        DisturbedCage2Env(dropped=dropped)


def red_actions(env: DisturbedCage2Env, num_steps: int) -> list[str]:
    env.reset(seed=2)
    done = []
    for _ in range(num_steps):
        env.step(0)
        done.append(env._game.last_actions()[1])
    return done


@pytest.mark.parametrize(
    ("first", "second"), [("B_lineAgent", "RedMeanderAgent"), ("RedMeanderAgent", "B_lineAgent")]
)
def test_a_successor_begins_its_own_plan_in_the_middle(first: str, second: str) -> None:
    alone = red_actions(DisturbedCage2Env(red_agent=first), 100)
    relieved = red_actions(DisturbedCage2Env(red_agent=first, successor=second), 100)
    assert relieved[:50] == alone[:50]
    assert relieved[50].startswith("DiscoverRemoteSystems")
    assert relieved[50:] != alone[50:]
    assert len(set(relieved[50:])) > 3


def play_with(policy: ActorCritic, environment: EnvironmentSpec, episodes: range) -> Episodes:
    snapshot = policy.snapshot(0)
    tickets = evaluation_tickets(
        environment, snapshot, run_seed=0, episodes=episodes, batch=0, workflow=None, greedy=True
    )
    return Player().play(tickets, snapshot)


def test_every_situation_is_played_with_episodes_of_its_own() -> None:
    game = EnvironmentSpec.of(NATIVE, {"action_set": "next-decoy", "max_steps": 30})
    policy = ActorCritic(shape_for(game, hidden_size=8, has_workflow=False), seed=1)
    played: list[tuple[EnvironmentSpec, range]] = []

    def play(environment: EnvironmentSpec, episodes: range) -> Episodes:
        played.append((environment, episodes))
        return play_with(policy, environment, episodes)

    trials = list(play_robustness(play, game, 2))
    assert [trial.situation for trial in trials] == list(SITUATIONS)
    assert [episodes for _, episodes in played] == [range(2 * i, 2 * i + 2) for i in range(8)]
    assert {dict(environment.kwargs)["max_steps"] for environment, _ in played} == {100}
    assert {dict(environment.kwargs)["action_set"] for environment, _ in played} == {"next-decoy"}
    alone = EnvironmentSpec.of(NATIVE, {"action_set": "next-decoy", "red_agent": "RedMeanderAgent"})
    assert trials[1].mean == pytest.approx(play_with(policy, alone, range(2, 4)).returns().mean())


def test_the_reference_is_not_disturbed() -> None:
    with pytest.raises(SettingError, match="--simulator native"):
        list(play_robustness(lambda *_: pytest.fail("it was played"), EnvironmentSpec.of(CYBORG, {}), 2))


def test_the_command_prints_a_row_for_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    game = EnvironmentSpec.of(NATIVE, {"max_steps": 100})
    policy = ActorCritic(shape_for(game, hidden_size=4, has_workflow=False))
    file = tmp_path / "policy.safetensors"
    file.write_bytes(policy_to_bytes(policy, {"environment": {"id": game.id, "kwargs": {"max_steps": 100}}}))
    assert call("evaluate", file, "--protocol=robustness", "--episodes=2") == 0
    out = capsys.readouterr().out
    for situation in SITUATIONS:
        assert str(situation) in out
