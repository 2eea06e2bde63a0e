"""The set of actions with one for the next decoy: what its choices come to, the same on every simulator."""

from __future__ import annotations

import importlib.util
from collections import Counter

import numpy as np
import pytest

from workflow_rl.cage2.action_sets import action_names
from workflow_rl.cage2.cyborg import CybORGEnv
from workflow_rl.cage2.env import Cage2Env
from workflow_rl.cage2.vector_env import Cage2VectorEnv
from workflow_rl.episode import EnvironmentSpec, Snapshot, Ticket
from workflow_rl.inference import Actor
from workflow_rl.rollout import Player, make_environment, play_episode, shape_for
from workflow_rl.seeding import Stream
from workflow_rl.spaces import interface_of

NAMES = action_names("next-decoy")
MEMORIES = {"scan_memory": True, "decoy_memory": True, "recency_memory": True}


def told(env: Cage2Env | CybORGEnv, choices: list[str]) -> list[str]:
    """What blue does when these are chosen one after the other."""
    env.reset(seed=0)
    done = []
    for choice in choices:
        env.step(NAMES.index(choice))
        done.append(env.last_actions()[0])
    return done


def test_the_set() -> None:
    kinds = Counter(name.split()[0] for name in NAMES)
    assert kinds == {"Sleep": 1, "Analyse": 11, "Remove": 5, "NextDecoy": 11, "Restore": 11}
    assert len(set(NAMES)) == len(NAMES)
    assert [name.split()[1] for name in NAMES if name.startswith("Remove")] == [
        "Enterprise1",
        "Enterprise2",
        "User2",
        "User3",
        "User4",
    ]


def test_decoys_come_by_what_red_would_rather_exploit_until_none_is_left() -> None:
    env = Cage2Env("SleepAgent", action_set="next-decoy")
    decoys = ["DecoyHarakaSMPT", "DecoyTomcat", "DecoyApache"]
    assert told(env, ["NextDecoy Op_Host1"] * 4 + ["Restore Op_Host1", "NextDecoy Op_Host1"]) == [
        *(f"{decoy} Op_Host1" for decoy in decoys),
        "Sleep",
        "Restore Op_Host1",
        "DecoyHarakaSMPT Op_Host1",
    ]
    assert told(env, ["NextDecoy User2"] * 2) == ["DecoyFemitter User2", "DecoyTomcat User2"]


@pytest.mark.parametrize("choice", [name for name in NAMES if name.startswith("NextDecoy")])
def test_every_decoy_but_the_sleep_at_the_end_stands_afterwards(choice: str) -> None:
    env = Cage2Env("SleepAgent", action_set="next-decoy", decoy_memory=True)
    env.reset(seed=0)
    for number in range(9):
        bits = env.step(NAMES.index(choice))[0]
        if env.last_actions()[0] == "Sleep":
            break
        assert bits[52:].sum() == number + 1
    assert 0 < number < 8


def test_other_choices_are_the_challenges_actions() -> None:
    choices = [name for name in NAMES if not name.startswith("NextDecoy")]
    assert told(Cage2Env("SleepAgent", action_set="next-decoy"), choices) == choices


@pytest.mark.skipif(importlib.util.find_spec("csle_cyborg") is None, reason="needs the cyborg extra")
def test_both_simulators_take_a_choice_for_the_same_action() -> None:
    """What stands follows from blue's own actions, so it is the same in other attacks."""
    choices = np.random.default_rng(5).choice(NAMES, 100).tolist()
    native = told(Cage2Env("SleepAgent", action_set="next-decoy"), choices)
    assert told(CybORGEnv("B_lineAgent", action_set="next-decoy"), choices) == native
    assert len(set(native)) > 35


def test_a_vector_environment_plays_the_same() -> None:
    choices = np.random.default_rng(6).integers(len(NAMES), size=60).tolist()
    alone = Cage2Env("RedMeanderAgent", action_set="next-decoy", **MEMORIES)
    vector = Cage2VectorEnv(2, red_agent="RedMeanderAgent", action_set="next-decoy", **MEMORIES)
    assert vector.single_action_space == alone.action_space
    np.testing.assert_array_equal(vector.reset(seed=[3, 4])[0][0], alone.reset(seed=3)[0])
    for choice in choices:
        np.testing.assert_array_equal(vector.step(np.array([choice, 0]))[0][0], alone.step(choice)[0])


def test_compiled_episodes_are_those_played_step_by_step() -> None:
    spec = EnvironmentSpec.of("workflow_rl/Cage2-v0", {"action_set": "next-decoy", **MEMORIES})
    shape = shape_for(spec, hidden_size=8, has_workflow=False)
    assert (shape.num_observations, shape.num_actions) == (52 + 26 + 104 + 156, 39)
    weights = np.random.default_rng(1).normal(size=shape.num_parameters).astype(np.float32)
    snapshot = Snapshot(0, shape, weights)
    tickets = [Ticket(1, Stream.TRAINING_EPISODE, e, spec, version=0, batch=0) for e in range(4)]
    compiled = Player().play(tickets, snapshot)
    env = make_environment(spec)
    alone = [play_episode(env, interface_of(env), ticket, Actor(snapshot)) for ticket in tickets]
    np.testing.assert_array_equal(compiled.actions, np.concatenate([e.actions for e in alone]))
    np.testing.assert_array_equal(compiled.observations, np.concatenate([e.observations for e in alone]))
    np.testing.assert_array_equal(compiled.rewards, np.concatenate([e.rewards for e in alone]))
    assert len(np.unique(compiled.actions)) > 10
