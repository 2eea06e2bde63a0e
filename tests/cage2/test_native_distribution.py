"""The native simulator against the reference as distributions: chances of its own, thousands of episodes.

Where the replay shows that equal choices have equal consequences, this shows that the choices are made with
the right probabilities. For ten fixed policies and three red agents it compares the returns after 30, 50 and
100 steps (Mann-Whitney and Kolmogorov-Smirnov tests) and, for every step and every bit of the observation,
how often the bit is set (Fisher's exact test by doubled tails, which is conservative).

False alarms: if the simulators were the same, all comparisons together would fail with a probability of at
most FALSE_ALARM_RATE (Bonferroni over their number). The seeds are fixed, so a run that passed once passes
again.
"""

from __future__ import annotations

import numpy as np
import pytest
from policies import FIXED_POLICIES, Policy
from scipy import stats

from workflow_rl.cage2.cyborg import CybORGEnv
from workflow_rl.cage2.scenario import RED_AGENTS
from workflow_rl.cage2.vector_env import Cage2VectorEnv

pytestmark = pytest.mark.fidelity

NUM_STEPS = 100
HORIZONS = (30, 50, 100)
NUM_NATIVE_EPISODES = 4_000
NUM_REFERENCE_EPISODES = {"B_lineAgent": 100, "RedMeanderAgent": 100, "SleepAgent": 10}
FALSE_ALARM_RATE = 0.001

NUM_CASES = len(FIXED_POLICIES) * len(RED_AGENTS)
# Half of the rate goes to the returns, half to the many comparisons of bits.
RETURN_THRESHOLD = FALSE_ALARM_RATE / 2 / (NUM_CASES * len(HORIZONS) * 2)
BIT_THRESHOLD = FALSE_ALARM_RATE / 2 / (NUM_CASES * NUM_STEPS * 52)


def play_native(red_agent: str, policy: Policy, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Observations (episodes, steps, 52) and rewards (episodes, steps)."""
    env = Cage2VectorEnv(NUM_NATIVE_EPISODES, red_agent=red_agent, max_steps=NUM_STEPS)
    generator = np.random.default_rng(seed)
    bits, _ = env.reset(seed=seed * 1_000_000)
    observations, rewards = [], []
    for step in range(NUM_STEPS):
        bits, reward, _, _, _ = env.step(policy(bits, env.red_access(), step, generator))
        observations.append(bits)
        rewards.append(reward)
    return np.stack(observations, 1), np.stack(rewards, 1)


def play_reference(red_agent: str, policy: Policy, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The same, one episode after another."""
    env = CybORGEnv(red_agent, NUM_STEPS)
    generator = np.random.default_rng(seed)
    num_episodes = NUM_REFERENCE_EPISODES[red_agent]
    observations = np.zeros((num_episodes, NUM_STEPS, 52), np.int8)
    rewards = np.zeros((num_episodes, NUM_STEPS))
    for episode in range(num_episodes):
        bits, _ = env.reset(seed=seed * 1_000 + episode)
        for step in range(NUM_STEPS):
            action = int(policy(bits[np.newaxis], env.red_access()[np.newaxis], step, generator)[0])
            bits, rewards[episode, step], _, _, _ = env.step(action)
            observations[episode, step] = bits
    return observations, rewards


def return_p_values(native: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Of the tests that the returns have the same distribution."""
    values = {}
    for horizon in HORIZONS:
        # Rounded, so that sums of the same tenths in another order count as ties.
        mine, theirs = (rewards[:, :horizon].sum(1).round(6) for rewards in (native, reference))
        if len(np.unique(np.concatenate([mine, theirs]))) == 1:
            continue
        values[f"rank {horizon}"] = float(stats.mannwhitneyu(mine, theirs).pvalue)
        values[f"shape {horizon}"] = float(stats.ks_2samp(mine, theirs, method="asymp").pvalue)
    return values


def bit_p_values(native: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Of the tests that each bit is as often set at each step: (steps, 52)."""
    mine, theirs = native.sum(0, dtype=np.int64), reference.sum(0, dtype=np.int64)
    drawn = stats.hypergeom(len(native) + len(reference), mine + theirs, len(reference))
    return np.minimum(1.0, 2.0 * np.minimum(drawn.cdf(theirs), drawn.sf(theirs - 1)))


@pytest.mark.parametrize("red_agent", RED_AGENTS)
@pytest.mark.parametrize("policy", FIXED_POLICIES, ids=lambda policy: policy.__name__)
def test_returns_and_observations_have_the_reference_distribution(red_agent, policy):
    seed = 1 + RED_AGENTS.index(red_agent) + len(RED_AGENTS) * FIXED_POLICIES.index(policy)
    native_bits, native_rewards = play_native(red_agent, policy, seed)
    reference_bits, reference_rewards = play_reference(red_agent, policy, seed)
    returns = return_p_values(native_rewards, reference_rewards)
    assert all(p > RETURN_THRESHOLD for p in returns.values()), returns
    bits = bit_p_values(native_bits, reference_bits)
    assert bits.min() > BIT_THRESHOLD, np.unravel_index(bits.argmin(), bits.shape)


def test_the_comparison_notices_a_slightly_different_game():
    """Against the leaderboard's rules, which change one exploit and one scan, the same test fails."""
    policy = next(policy for policy in FIXED_POLICIES if policy.__name__ == "restore_believed")
    _, rewards = play_reference("B_lineAgent", policy, seed=99)
    env = Cage2VectorEnv(NUM_NATIVE_EPISODES, rules="leaderboard")
    bits, _ = env.reset(seed=1)
    native = np.zeros((NUM_NATIVE_EPISODES, NUM_STEPS))
    for step in range(NUM_STEPS):
        actions = policy(bits, env.red_access(), step, np.random.default_rng(0))
        bits, native[:, step], _, _, _ = env.step(actions)
    assert min(return_p_values(native, rewards).values()) < RETURN_THRESHOLD
