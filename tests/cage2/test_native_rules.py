"""Single rules of the native simulator, against what was found by experiment on the reference."""

from __future__ import annotations

import numpy as np
import pytest

from workflow_rl.cage2.generator import Chance, chance_of, next_seed
from workflow_rl.cage2.host_set import contains, member, only, pick, size
from workflow_rl.cage2.observation import EXPLOITED, NO_ACTIVITY, SCANNED, interpret_traffic
from workflow_rl.cage2.red import Traffic, choose_exploit, exploit_options
from workflow_rl.cage2.scenario import ACTION_NAMES, HOST_NAMES, NUM_HOSTS, action_index
from workflow_rl.cage2.state import STATE, GameSettings, new_states, reset
from workflow_rl.cage2.step import advance, step
from workflow_rl.cage2.tables import (
    ACTION_HOST,
    DECOY_NAMES,
    DECOY_TESTED_PORT,
    EXPLOIT_NAMES,
    EXPLOIT_RESULT,
    EXPLOITABLE_PORTS,
    GIVES_PRIVILEGE,
    GIVES_USER,
    NO_PROCESS,
    RESISTS,
    RUNS_ON,
    START_PORTS,
)

CALM = Chance(target=0.0, exploit=0.0, detection=0.0, session=0.0)


def started(**settings):
    states = new_states(GameSettings(**settings), 1)
    reset(states[0], np.uint64(0))
    return states[0]


def port_set(*ports):
    return sum(1 << EXPLOITABLE_PORTS.index(port) for port in ports)


# What each exploit comes to on the hosts as they start, where red would consider it.
EXPECTED_EXPLOITS = {
    "Defender": {"SSHBruteForce": RESISTS},
    "Enterprise0": {"SSHBruteForce": GIVES_USER},
    "Enterprise1": {
        "HTTPSRFI": GIVES_USER,
        "HTTPRFI": GIVES_USER,
        "EternalBlue": NO_PROCESS,
        "BlueKeep": GIVES_PRIVILEGE,
        "SSHBruteForce": GIVES_USER,
    },
    "Op_Server0": {"SSHBruteForce": GIVES_USER},
    "User1": {"FTPDirectoryTraversal": GIVES_PRIVILEGE, "SSHBruteForce": GIVES_USER},
    "User2": {"EternalBlue": GIVES_PRIVILEGE, "BlueKeep": GIVES_USER},
    "User3": {
        "HarakaRCE": GIVES_PRIVILEGE,
        "HTTPSRFI": GIVES_USER,
        "HTTPRFI": GIVES_USER,
        "BlueKeep": NO_PROCESS,
    },
    "User4": {
        "HarakaRCE": GIVES_PRIVILEGE,
        "SQLInjection": GIVES_PRIVILEGE,
        "HTTPSRFI": GIVES_USER,
        "HTTPRFI": GIVES_USER,
        "SSHBruteForce": GIVES_USER,
    },
}
ALIKE = {
    "Op_Host0": "Enterprise0",
    "Op_Host1": "Enterprise0",
    "Op_Host2": "Enterprise0",
    "Enterprise2": "Enterprise1",
}


@pytest.mark.parametrize("name", HOST_NAMES)
def test_exploits_of_each_host(name):
    host = HOST_NAMES.index(name)
    options = exploit_options(int(START_PORTS[host]) & 0xFF)
    found = {e: int(EXPLOIT_RESULT[i, host]) for i, e in enumerate(EXPLOIT_NAMES) if options >> i & 1}
    assert found == EXPECTED_EXPLOITS[{**ALIKE, "User0": "User1"}.get(name, name)]


EXPECTED_DECOYS = {
    "DecoyApache": {0, 1, 4, 5, 6, 7, 8, 9, 10},
    "DecoyFemitter": {2, 3, 10},
    "DecoyHarakaSMPT": {0, 1, 4, 5, 6, 7},
    "DecoySmss": {8, 9},
    "DecoySSHD": {10, 11},
    "DecoySvchost": {8, 9},
    "DecoyTomcat": {0, 1, 4, 5, 6, 7, 8, 9, 10},
    "DecoyVsftpd": {0, 1, 4, 5, 6, 7, 11, 12},
}


@pytest.mark.parametrize("decoy", DECOY_NAMES)
def test_hosts_of_each_decoy(decoy):
    d = DECOY_NAMES.index(decoy)
    hosts = {h for h in range(NUM_HOSTS) if RUNS_ON[d, h] and not START_PORTS[h] & DECOY_TESTED_PORT[d]}
    assert hosts == EXPECTED_DECOYS[decoy]


def test_the_preferred_exploit_has_three_quarters_and_the_others_share_the_rest():
    options = exploit_options(port_set(22, 80, 443, 3389, 139))
    draws = (np.arange(40_000) + 0.5) / 40_000
    counts = np.bincount([choose_exploit(options, u) for u in draws], minlength=8) / len(draws)
    expected = {
        "HTTPSRFI": 0.75,
        "HTTPRFI": 0.0625,
        "EternalBlue": 0.0625,
        "BlueKeep": 0.0625,
        "SSHBruteForce": 0.0625,
    }
    np.testing.assert_allclose(counts, [expected.get(name, 0.0) for name in EXPLOIT_NAMES], atol=1e-4)


def test_sql_injection_needs_a_web_port_too():
    sql = EXPLOIT_NAMES.index("SQLInjection")
    assert not exploit_options(port_set(3390, 22)) >> sql & 1
    assert exploit_options(port_set(3390, 80)) >> sql & 1
    assert exploit_options(port_set(3390, 443)) >> sql & 1
    assert choose_exploit(0, 0.9) == -1


@pytest.mark.parametrize(
    ("traffic", "has_new_decoy", "official", "corrected"),
    [
        (Traffic(0, 0, False), False, NO_ACTIVITY, NO_ACTIVITY),
        (Traffic(0, 0, False), True, NO_ACTIVITY, NO_ACTIVITY),
        (Traffic(1, 1, False), False, SCANNED, SCANNED),
        (Traffic(1, 1, False), True, NO_ACTIVITY, SCANNED),  # an unnoticed shell beside a new decoy
        (Traffic(2, 2, False), True, NO_ACTIVITY, SCANNED),  # a scan of two ports beside a new decoy
        (Traffic(4, 4, False), True, SCANNED, SCANNED),
        (Traffic(2, 1, False), False, SCANNED, SCANNED),  # an exploit into a decoy
        (Traffic(2, 1, False), True, EXPLOITED, EXPLOITED),  # the same beside a new decoy: a false alarm
        (Traffic(2, 2, True), False, EXPLOITED, EXPLOITED),
        (Traffic(2, 2, True), True, EXPLOITED, EXPLOITED),
        (Traffic(10, 1, False), False, EXPLOITED, EXPLOITED),
    ],
)
def test_what_traffic_is_taken_for(traffic, has_new_decoy, official, corrected):
    assert interpret_traffic(traffic, has_new_decoy, False) == official
    assert interpret_traffic(traffic, has_new_decoy, True) == corrected


def test_everything_privileged_and_the_service_stopped_costs_14_8_and_a_restore_one_more():
    state = started(red_agent="SleepAgent")
    state["privileged_sessions"][:] = 1
    state["is_service_stopped"] = True
    assert step(state, 0) == -14.8
    assert step(state, action_index("Restore", "User0")) == -15.8
    state["is_service_stopped"] = False
    assert step(state, 0) == -4.8


def test_a_restored_server_cannot_be_impacted_any_more():
    costs = []
    for first_action in ("Sleep", "Restore Op_Server0"):
        state = started()
        advance(state, ACTION_NAMES.index(first_action), CALM)
        rewards = [advance(state, 0, CALM) for _ in range(40)]
        assert state["privileged_sessions"][HOST_NAMES.index("Op_Server0")] == 1
        costs.append(rewards[-1])
    assert costs[0] == pytest.approx(costs[1] - 10.0)


def test_restore_makes_haraka_useless_on_the_leaderboards_rules_only():
    user3 = HOST_NAMES.index("User3")
    chance = CALM._replace(target=0.6)  # B_line goes for User3
    for rules, num_sessions in (("2.1", 1), ("leaderboard", 0)):
        state = started(rules=rules)
        for action in (0, action_index("Restore", "User3"), 0):
            advance(state, action, chance)
        assert state["first_target"] == user3
        assert state["privileged_sessions"][user3] == num_sessions


def test_a_new_scan_forgets_ports_except_on_the_leaderboards_rules():
    user1 = HOST_NAMES.index("User1")
    for rules, knows in (("2.1", False), ("leaderboard", True)):
        state = started(rules=rules)
        state["known_ports"][user1] = port_set(80)
        for _ in range(2):
            advance(state, 0, CALM)
        assert (int(state["known_ports"][user1]) & port_set(80) != 0) == knows


def test_chances_are_splitmix64_and_uniform():
    # The generator's published first outputs for the state 1234567.
    outputs = (6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431)
    for step_number in range(2):
        first, second = outputs[2 * step_number : 2 * step_number + 2]
        halves = [half * 2.0**-32 for word in (first, second) for half in (word >> 32, word & 0xFFFFFFFF)]
        assert list(chance_of(np.uint64(1234567), step_number)) == halves
    draws = np.array([chance_of(np.uint64(99), t) for t in range(20_000)])
    # Mean of 20,000 uniform numbers: standard deviation 0.00204; five of them.
    np.testing.assert_allclose(draws.mean(0), 0.5, atol=0.0102)
    correlations = np.corrcoef(np.hstack([draws[1:], draws[:-1]]).T) - np.eye(8)
    assert np.abs(correlations).max() < 5 / np.sqrt(len(draws))
    assert next_seed(np.uint64(1)) != next_seed(np.uint64(2))


def test_host_sets():
    hosts = only(2) | only(5) | only(12)
    assert [contains(hosts, h) for h in (0, 2, 5, 12)] == [False, True, True, True]
    assert size(hosts) == 3
    assert [member(hosts, i) for i in range(4)] == [2, 5, 12, -1]
    assert [pick(hosts, u) for u in (0.0, 0.34, 0.99)] == [2, 5, 12]


def test_actions_know_their_hosts():
    for action, name in enumerate(ACTION_NAMES):
        _, _, host = name.partition(" ")
        assert ACTION_HOST[action] == (HOST_NAMES.index(host) if host else -1)


def test_a_state_is_aligned():
    assert STATE.isalignedstruct
