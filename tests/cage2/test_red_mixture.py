"""A mixture of attackers: each episode is that of one of them, the same one on every simulator."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import gymnasium
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from workflow_rl.cage2.cyborg import CybORGEnv
from workflow_rl.cage2.env import Cage2Env
from workflow_rl.cage2.scenario import MIXED_RED_AGENTS, NUM_ACTIONS, RED_AGENTS, RED_MIXTURE
from workflow_rl.cage2.state import GameSettings, new_states, reset
from workflow_rl.cage2.vector_env import Cage2VectorEnv
from workflow_rl.episode import EnvironmentSpec, Episodes, Snapshot, Ticket
from workflow_rl.rollout import Player, shape_for
from workflow_rl.seeding import Stream, attacker_draw, environment_seed, episode_key

SEEDS = range(8)
ACTIONS = np.random.default_rng(0).integers(NUM_ACTIONS, size=30).tolist()


def attacker_of(seed: int) -> str:
    return MIXED_RED_AGENTS[attacker_draw(np.uint64(seed), len(MIXED_RED_AGENTS))]


def play(env: gymnasium.Env[NDArray[np.int8], np.int64], seed: int) -> list[tuple[object, ...]]:
    env.reset(seed=seed)
    steps = [env.step(np.int64(action)) for action in ACTIONS]
    return [(observation.tolist(), reward) for observation, reward, *_ in steps]


def test_both_attack_equally_often() -> None:
    drawn = [attacker_of(seed) for seed in range(1000)]
    assert abs(drawn.count("B_lineAgent") - 500) < 4 * np.sqrt(1000 / 4)
    assert {attacker_of(seed) for seed in SEEDS} == set(MIXED_RED_AGENTS)


@pytest.mark.parametrize(
    "simulator",
    [
        Cage2Env,
        pytest.param(
            CybORGEnv,
            marks=pytest.mark.skipif(
                importlib.util.find_spec("csle_cyborg") is None, reason="needs the cyborg extra"
            ),
        ),
    ],
)
def test_an_episode_is_that_of_the_attacker_drawn_for_it(
    simulator: Callable[[str], gymnasium.Env[NDArray[np.int8], np.int64]],
) -> None:
    alone = {attacker: simulator(attacker) for attacker in MIXED_RED_AGENTS}
    mixture = simulator(RED_MIXTURE)
    for seed in SEEDS:
        played = {attacker: play(env, seed) for attacker, env in alone.items()}
        assert played["B_lineAgent"] != played["RedMeanderAgent"]
        assert play(mixture, seed) == played[attacker_of(seed)]


def test_all_three_come_in_their_shares() -> None:
    states = new_states(GameSettings("all-three"), 1)
    counts = np.zeros(len(RED_AGENTS), int)
    for seed in range(4000):
        reset(states[0], np.uint64(seed))
        counts[states[0].red_agent] += 1
    assert stats.chisquare(counts, 4000 * np.array([0.5, 0.45, 0.05])).pvalue > 1e-4


def test_a_vector_environment_mixes_in_every_row() -> None:
    vector = Cage2VectorEnv(len(SEEDS), red_agent=RED_MIXTURE)
    vector.reset(seed=list(SEEDS))
    steps = [vector.step(np.full(len(SEEDS), action)) for action in ACTIONS]
    for row, seed in enumerate(SEEDS):
        expected = play(Cage2Env(RED_MIXTURE), seed)
        assert [(step[0][row].tolist(), step[1][row]) for step in steps] == expected


def played_by_tickets(red_agent: str) -> Episodes:
    environment = EnvironmentSpec.of("workflow_rl/Cage2-v0", {"red_agent": red_agent, "max_steps": 30})
    shape = shape_for(environment, hidden_size=2, has_workflow=True)
    snapshot = Snapshot(0, shape, np.zeros(shape.num_parameters, np.float32))
    tickets = [
        Ticket(3, Stream.TRAINING_EPISODE, episode, environment, version=0, batch=0, workflow=7)
        for episode in range(12)
    ]
    return Player().play(tickets, snapshot)


def test_compiled_episodes_mix_by_their_tickets() -> None:
    mixture = played_by_tickets(RED_MIXTURE)
    alone = {attacker: played_by_tickets(attacker) for attacker in MIXED_RED_AGENTS}
    keys = [episode_key(3, Stream.TRAINING_EPISODE, ticket.episode) for ticket in mixture.tickets]
    attackers = [attacker_of(int(environment_seed(key))) for key in keys]
    assert len(set(attackers)) == 2
    for steps, attacker in zip(mixture.step_slices(), attackers, strict=True):
        np.testing.assert_array_equal(mixture.actions[steps], alone[attacker].actions[steps])
        np.testing.assert_array_equal(mixture.rewards[steps], alone[attacker].rewards[steps])
    assert not np.array_equal(mixture.rewards, alone["B_lineAgent"].rewards)
