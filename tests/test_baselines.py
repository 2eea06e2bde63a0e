"""Baselines do what they are called, on both simulators."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from workflow_rl.baselines import BASELINES, HAND_MADE_ORDERS, play_baseline
from workflow_rl.cage2.env import Cage2Env
from workflow_rl.cage2.scenario import ACTION_NAMES, HOST_NAMES, HOST_TYPES
from workflow_rl.episode import EnvironmentSpec, Episodes
from workflow_rl.evaluation import score
from workflow_rl.seeding import Stream, environment_seed, episode_key
from workflow_rl.workflow import Workflow

USERS_FIRST = HAND_MADE_ORDERS["user first"]


def play(
    name: str, workflow: Workflow = USERS_FIRST, *, red_agent: str = "RedMeanderAgent", num_episodes: int = 4
) -> Episodes:
    environment = EnvironmentSpec.of("workflow_rl/Cage2-v0", {"red_agent": red_agent, "max_steps": 60})
    return play_baseline(name, workflow, environment, run_seed=6, num_episodes=num_episodes)


def slow_greedy(compromised: set[str], workflow: Workflow) -> str:
    for kind in workflow.order:
        for host in HOST_NAMES:
            if host in compromised - {"User0"} and HOST_TYPES[HOST_NAMES.index(host)] == kind:
                return f"Restore {host}"
    return "Sleep"


@pytest.mark.parametrize("workflow", HAND_MADE_ORDERS.values(), ids=HAND_MADE_ORDERS)
@pytest.mark.parametrize("name", ["greedy-observed", "greedy-true"])
def test_greedy_restores_the_first_host_in_the_order(name: str, workflow: Workflow) -> None:
    played = play(name, workflow)
    game = Cage2Env("RedMeanderAgent", 60)
    for ticket, steps in zip(played.tickets, played.step_slices(), strict=True):
        seed = environment_seed(episode_key(6, Stream.EVALUATION_EPISODE, ticket.episode))
        seen, _ = game.reset(seed=int(seed))
        for action in played.actions[steps]:
            held = {host for host, level in zip(HOST_NAMES, game.red_access(), strict=True) if level}
            shown = {host for h, host in enumerate(HOST_NAMES) if seen[4 * h + 2] or seen[4 * h + 3]}
            assert ACTION_NAMES[action] == slow_greedy(held if name == "greedy-true" else shown, workflow)
            seen, *_ = game.step(action)
    assert len(set(played.actions.tolist())) > 3


def test_greedy_complies_with_what_it_goes_by() -> None:
    for name, workflow in (("greedy-observed", USERS_FIRST), ("greedy-true", HAND_MADE_ORDERS["reverse"])):
        result = score(play(name, workflow), workflow, "reachable")
        assert (result.observed_compliance if name == "greedy-observed" else result.compliance) == 1.0


def test_sleep_sleeps_and_random_does_anything() -> None:
    assert not play("sleep").actions.any()
    counts = np.bincount(play("random", num_episodes=100).actions, minlength=145)
    expected = 6000 / 145
    assert (np.square(counts - expected) / expected).sum() < 144 + 4 * np.sqrt(2 * 144)


def test_baselines_repeat_themselves() -> None:
    for name in BASELINES:
        np.testing.assert_array_equal(play(name).actions, play(name).actions)


def test_an_attacked_network_needs_defending() -> None:
    rewards = {
        name: score(play(name, red_agent="B_lineAgent", num_episodes=30), USERS_FIRST, "reachable").reward
        for name in BASELINES
    }
    assert rewards["sleep"] < rewards["random"] < rewards["greedy-observed"] < 0


@pytest.mark.skipif(importlib.util.find_spec("csle_cyborg") is None, reason="needs the cyborg extra")
def test_the_reference_simulator_is_played_too() -> None:
    environment = EnvironmentSpec.of("workflow_rl/CybORG-v0", {"red_agent": "B_lineAgent", "max_steps": 30})
    played = play_baseline("greedy-true", USERS_FIRST, environment, run_seed=6, num_episodes=3)
    assert score(played, USERS_FIRST, "reachable").compliance == 1.0
    assert played.rewards.sum() < 0
