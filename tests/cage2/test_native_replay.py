"""The native rules against the reference, step by step, under the reference's own choices.

After every step observation, reward, red's sessions and what can be done about them, decoys, files, the
service, all that red knows, and the red agent's memory are compared (`lockstep.View`).
"""

from __future__ import annotations

import random
from contextlib import nullcontext

import pytest
from lockstep import Coverage, Native, Reference, play_in_lockstep
from older_reference import corrected_observation, leaderboard_rules
from policies import PROBING_POLICIES, restore_believed
from scipy import stats

from workflow_rl.cage2.red import DETECTION_PROBABILITY, choose_exploit, exploit_options
from workflow_rl.cage2.scenario import ACTION_NAMES, NUM_ACTIONS, RED_AGENTS, action_index
from workflow_rl.cage2.state import GameSettings
from workflow_rl.cage2.tables import EXPLOIT_NAMES, EXPLOITABLE_PORTS

HORIZONS = (30, 50, 100)
VARIANTS = {
    "2.1": (nullcontext, {}),
    "leaderboard": (leaderboard_rules, {"rules": "leaderboard"}),
    "corrected": (corrected_observation, {"observation": "corrected"}),
}


def replay(red_agent: str, variant: str, seeds: range, num_steps: int) -> Coverage:
    """Play an episode for each seed, the policies taking turns."""
    change_reference, settings = VARIANTS[variant]
    coverage = Coverage()
    with change_reference():
        reference = Reference(red_agent)
        native = Native(GameSettings(red_agent=red_agent, **settings))
        for seed in seeds:
            policy = PROBING_POLICIES[seed % len(PROBING_POLICIES)]
            play_in_lockstep(reference, native, policy, seed, num_steps, coverage)
    return coverage


@pytest.mark.parametrize("red_agent", RED_AGENTS)
def test_native_rules_replay_the_reference(red_agent):
    num_episodes = 3 if red_agent == "SleepAgent" else len(PROBING_POLICIES)
    replay(red_agent, "2.1", range(10_000, 10_000 + num_episodes), 100)


@pytest.mark.parametrize("variant", ["leaderboard", "corrected"])
@pytest.mark.parametrize("red_agent", ["B_lineAgent", "RedMeanderAgent"])
def test_native_rules_replay_the_reference_under_other_settings(red_agent, variant):
    replay(red_agent, variant, range(10_000, 10_006), 100)


def test_a_wrong_rule_is_noticed():
    reference = Reference("B_lineAgent")
    native = Native(GameSettings(rules="leaderboard"))
    with pytest.raises(AssertionError, match="native != reference"):
        play_in_lockstep(reference, native, restore_believed, 5, 100, Coverage())


def test_a_wrong_wrapper_is_noticed():
    """The wrappers differ where a decoy is installed in the very step in which red scans its host."""
    reference = Reference("B_lineAgent")
    reference.reset(seed=0)
    install = action_index("DecoyHarakaSMPT", "Enterprise0")
    seen = {}
    for observation in ("official", "corrected"):
        native = Native(GameSettings(observation=observation))
        for seed in range(40):
            reference.reset(seed)
            native.reset(seed)
            for action in (0, 0, 0, 0, install):
                expected = reference.step(action)
                actual = native.step(action, native.chance(reference))
            if (expected.red_action, expected.red_target) == ("DiscoverNetworkServices", "Enterprise0"):
                break
        seen[observation] = actual.observation[4:6], expected.observation[4:6]
    assert seen == {"official": ((0, 0), (0, 0)), "corrected": ((1, 0), (0, 0))}


@pytest.mark.fidelity
@pytest.mark.parametrize("num_steps", HORIZONS)
@pytest.mark.parametrize("red_agent", RED_AGENTS)
def test_hundreds_of_episodes_replay(red_agent, num_steps):
    coverage = replay(red_agent, "2.1", range(num_steps * 1_000, num_steps * 1_000 + 260), num_steps)
    if num_steps == 100:
        assert_every_action_was_used(coverage, red_agent)


def assert_every_action_was_used(coverage: Coverage, red_agent: str) -> None:
    """On clean and on compromised hosts; but red is always on User0 and never on Defender."""
    always_compromised = {action for action, name in enumerate(ACTION_NAMES) if name.endswith(" User0")}
    assert coverage.on_clean >= set(range(NUM_ACTIONS)) - always_compromised
    if red_agent == "RedMeanderAgent":  # the only one that gets everywhere
        never_compromised = {action for action, name in enumerate(ACTION_NAMES) if name.endswith(" Defender")}
        assert coverage.on_compromised >= set(range(2, NUM_ACTIONS)) - never_compromised


@pytest.mark.fidelity
@pytest.mark.parametrize("num_steps", HORIZONS)
@pytest.mark.parametrize("variant", ["leaderboard", "corrected"])
@pytest.mark.parametrize("red_agent", ["B_lineAgent", "RedMeanderAgent"])
def test_hundreds_of_episodes_replay_under_other_settings(red_agent, variant, num_steps):
    replay(red_agent, variant, range(num_steps * 1_000, num_steps * 1_000 + 130), num_steps)


@pytest.mark.fidelity
def test_a_long_episode_replays():
    play_in_lockstep(
        Reference("RedMeanderAgent"),
        Native(GameSettings("RedMeanderAgent")),
        restore_believed,
        7,
        2_000,
        Coverage(),
    )


def test_the_reference_draws_with_our_probabilities():
    """Exploits of User4 as red knows it after a scan, 20,000 times, by a chi-square test at 1 in 10,000."""
    reference = Reference("B_lineAgent")
    reference.reset(seed=0)
    from csle_cyborg.shared.actions.abstract_actions.exploit_remote_service import (
        DefaultExploitActionSelector,
    )
    from csle_cyborg.shared.actions.concrete_actions.exploit_action import ExploitAction

    state = reference.env._controller.state
    address = next(ip for ip, name in state.ip_addresses.items() if name == "User4")
    ports = (22, 80, 3390, 443, 25)
    random.seed(0)
    state.sessions["Red"][0].ports[address] = list(ports)
    chosen = [
        type(
            DefaultExploitActionSelector().get_exploit_action(
                state=state, session=0, agent="Red", ip_address=address
            )
        ).__name__
        for _ in range(20_000)
    ]
    options = exploit_options(sum(1 << EXPLOITABLE_PORTS.index(port) for port in ports))
    ours = [EXPLOIT_NAMES[choose_exploit(options, (i + 0.5) / 4_000)] for i in range(4_000)]
    names = sorted(set(ours))
    assert set(chosen) == set(names)
    expected = [5 * ours.count(name) for name in names]
    assert stats.chisquare([chosen.count(name) for name in names], expected).pvalue > 1e-4
    assert ExploitAction(session=0, agent="Red", ip_address=address, target_session=0).detection_rate == (
        DETECTION_PROBABILITY
    )
