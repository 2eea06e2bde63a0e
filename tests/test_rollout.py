"""The native simulator is played compiled where it is all there is to an environment, else step by step."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers import TimeLimit, TransformReward

from workflow_rl.cage2.env import Cage2Env
from workflow_rl.episode import WORKFLOW_CONTEXT, EnvironmentSpec, Episodes, NetworkShape, Snapshot, Ticket
from workflow_rl.rollout import Player, make_environment, native_game
from workflow_rl.seeding import Stream

SHAPE = NetworkShape(52, WORKFLOW_CONTEXT, hidden_size=16, num_actions=145)


class Doubled(Cage2Env):
    """The native simulator with a rule of its own."""

    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, 2.0 * float(reward), terminated, truncated, info


def doubled_by_a_wrapper(**settings: Any) -> gymnasium.Env[Any, Any]:
    return TransformReward(Cage2Env(**settings), lambda reward: 2.0 * float(reward))


def cut_by_a_wrapper(**settings: Any) -> gymnasium.Env[Any, Any]:
    return TimeLimit(Cage2Env(**settings), max_episode_steps=5)


PLAIN = "workflow_rl/Cage2-v0"
for _name, _entry_point in (
    ("DoubledByWrapper-v0", doubled_by_a_wrapper),
    ("DoubledBySubclass-v0", Doubled),
    ("CutByWrapper-v0", cut_by_a_wrapper),
):
    gymnasium.register(id=_name, entry_point=_entry_point)


def played(environment: str) -> Episodes:
    """Two episodes of 12 steps."""
    spec = EnvironmentSpec.of(environment, {"red_agent": "RedMeanderAgent", "max_steps": 12})
    tickets = [
        Ticket(5, Stream.TRAINING_EPISODE, episode, spec, version=0, batch=0, workflow=7)
        for episode in range(2)
    ]
    weights = np.random.default_rng(0).normal(scale=0.4, size=SHAPE.num_parameters).astype(np.float32)
    player = Player()
    try:
        return player.play(tickets, Snapshot(0, SHAPE, weights))
    finally:
        player.close()


@pytest.mark.parametrize("environment", ["DoubledByWrapper-v0", "DoubledBySubclass-v0"])
def test_what_stands_between_policy_and_simulator_is_played(environment: str) -> None:
    plain, doubled = played(PLAIN), played(environment)
    assert plain.rewards.any()
    np.testing.assert_array_equal(doubled.rewards, 2 * plain.rewards)
    for name in ("lengths", "observations", "actions", "log_probs", "compromised", "terminated"):
        np.testing.assert_array_equal(getattr(doubled, name), getattr(plain, name), err_msg=name)


def test_a_wrapper_ends_episodes() -> None:
    plain, cut = played(PLAIN), played("CutByWrapper-v0")
    assert cut.lengths.tolist() == [5, 5]
    np.testing.assert_array_equal(cut.actions, np.concatenate([plain.actions[:5], plain.actions[12:17]]))


def test_wrappers_that_only_check_do_not_slow_it_down() -> None:
    for environment in (make_environment(EnvironmentSpec.of(PLAIN, {})), gymnasium.make(PLAIN)):
        assert type(environment) is not Cage2Env
        assert native_game(environment) is environment.unwrapped
