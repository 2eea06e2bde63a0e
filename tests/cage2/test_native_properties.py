"""What holds in every episode, whatever blue does."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from workflow_rl.cage2.env import Cage2Env
from workflow_rl.cage2.scenario import HOST_NAMES, NUM_ACTIONS, PRIVILEGED_ACCESS, RED_AGENTS
from workflow_rl.cage2.state import OBSERVATIONS, RULE_SETS

DEFENDER, OP_SERVER, USER0 = (HOST_NAMES.index(name) for name in ("Defender", "Op_Server0", "User0"))
ENTERPRISE = [h for h, name in enumerate(HOST_NAMES) if name.startswith("Enterprise")]
OPERATIONAL = [h for h, name in enumerate(HOST_NAMES) if name.startswith("Op_")]
USER_HOSTS = [h for h, name in enumerate(HOST_NAMES) if name.startswith("User") and h != USER0]

# activity and compromise; an exploit always shows a host that is at least believed compromised
SYMBOLS = {a + c for a in ((0, 0), (1, 0)) for c in ((0, 0), (1, 0), (0, 1), (1, 1))} | {
    (1, 1, 0, 1),
    (1, 1, 1, 1),
}

episodes = st.fixed_dictionaries(
    {
        "red_agent": st.sampled_from(RED_AGENTS),
        "rules": st.sampled_from(RULE_SETS),
        "observation": st.sampled_from(OBSERVATIONS),
        "seed": st.integers(0, 2**64 - 1),
        # Long quiet stretches let red get far; without them hypothesis hardly ever sees Op_Server0 fall.
        "actions": st.lists(
            st.one_of(st.integers(0, NUM_ACTIONS - 1), st.just(0), st.just(0)), min_size=1, max_size=100
        ),
    }
)


def play(red_agent, rules, observation, seed, actions):
    """Red's access before and after each step, the observation, the reward and red's action."""
    env = Cage2Env(red_agent, 100, rules, observation)
    env.reset(seed=seed)
    for action in actions:
        before = env.red_access()
        bits, reward, _, _, _ = env.step(action)
        yield before, env.red_access(), bits, reward, env.last_actions()[1]


@settings(max_examples=150, deadline=None)
@given(episodes)
def test_red_is_only_where_it_can_get(episode):
    for before, after, _, _, red_action in play(**episode):
        assert after[DEFENDER] == 0
        assert after[USER0] == PRIVILEGED_ACCESS
        entered = {h for h in np.flatnonzero(after) if not before[h]}
        assert {f"ExploitRemoteService {HOST_NAMES[h]}" for h in entered} <= {red_action}
        if entered & set(OPERATIONAL):
            assert after[ENTERPRISE].any()


@settings(max_examples=100, deadline=None)
@given(episodes)
def test_b_line_is_on_at_most_one_user_host_beside_its_foothold_and_sleep_on_none(episode):
    for red_agent, most in (("B_lineAgent", 1), ("SleepAgent", 0)):
        for _, after, _, _, _ in play(**(episode | {"red_agent": red_agent})):
            assert np.count_nonzero(after[USER_HOSTS]) <= most
            assert not after[OPERATIONAL[:-1]].any()


@settings(max_examples=150, deadline=None)
@given(episodes)
def test_rewards_are_tenths_between_minus_15_8_and_0(episode):
    for _, after, _, reward, _ in play(**episode):
        assert -15.8 <= reward <= 0.0
        assert reward == round(reward, 1)
        assert (
            -reward >= 0.1 * np.count_nonzero(after[[*USER_HOSTS, *OPERATIONAL]] == PRIVILEGED_ACCESS) - 1e-9
        )


@settings(max_examples=150, deadline=None)
@given(episodes)
def test_only_ten_of_the_twelve_symbols_occur_and_one_host_is_active(episode):
    for _, _, bits, _, _ in play(**episode):
        hosts = bits.reshape(13, 4)
        assert {tuple(symbol) for symbol in hosts.tolist()} <= SYMBOLS
        assert hosts[:, 0].sum() <= 1


def test_all_ten_symbols_occur():
    seen = set()
    generator = np.random.default_rng(0)
    for seed in range(40):
        for _, _, bits, _, _ in play(
            "RedMeanderAgent", "2.1", "official", seed, generator.integers(145, size=100)
        ):
            seen |= {tuple(symbol) for symbol in bits.reshape(13, 4).tolist()}
    assert seen == SYMBOLS
