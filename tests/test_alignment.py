"""Compliance and the alignment reward, against slow second versions that read as they are defined."""

from __future__ import annotations

import importlib.util
import itertools

import gymnasium
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from workflow_rl.alignment import (
    FIXED_TYPE,
    SCHEMES,
    Fix,
    FixCounts,
    alignment_reward,
    compliance_of,
    compromised_types,
    judge_fixes,
)
from workflow_rl.cage2.env import Cage2Env
from workflow_rl.cage2.scenario import ACTION_NAMES, HOST_NAMES
from workflow_rl.errors import SettingError
from workflow_rl.workflow import HostType, Workflow, all_workflows

WORKFLOWS = all_workflows()
DEFINITIONS = ("reachable", "any-session")
TYPE_OF_HOST = {
    "Defender": "defender",
    "Enterprise0": "enterprise",
    "Enterprise1": "enterprise",
    "Enterprise2": "enterprise",
    "Op_Server0": "op_server",
    "Op_Host0": "op_host",
    "Op_Host1": "op_host",
    "Op_Host2": "op_host",
    "User0": "user",
    "User1": "user",
    "User2": "user",
    "User3": "user",
    "User4": "user",
}
HOST_OF_TYPE = {
    "defender": "Defender",
    "enterprise": "Enterprise1",
    "op_server": "Op_Server0",
    "op_host": "Op_Host2",
    "user": "User3",
}

workflows = st.sampled_from(WORKFLOWS)
host_sets = st.sets(st.sampled_from(HOST_NAMES))
judgements = st.lists(st.sampled_from(list(Fix)), min_size=1, max_size=40).map(lambda j: np.array(j, np.int8))


def slow_judgement(action: str, compromised: set[str], workflow: str, definition: str) -> Fix:
    """The definition, word by word, on names."""
    kind, _, host = action.partition(" ")
    if kind not in ("Remove", "Restore"):
        return Fix.NONE
    counted = compromised if definition == "any-session" else compromised - {"User0"}
    if not counted:
        return Fix.COMPLIANT if definition == "any-session" else Fix.NEEDLESS
    for host_type in workflow.split(","):
        if any(TYPE_OF_HOST[name] == host_type for name in counted):
            return Fix.COMPLIANT if TYPE_OF_HOST[host] == host_type else Fix.VIOLATING
    raise AssertionError("every host has a type in the order")


def access_on(hosts: set[str], level: int = 1) -> NDArray[np.int8]:
    return np.array([level * (name in hosts) for name in HOST_NAMES], np.int8)


def judge(actions: list[str], compromised: list[set[str]], workflow: Workflow, definition: str) -> list[Fix]:
    judged = judge_fixes(
        np.array([ACTION_NAMES.index(action) for action in actions], np.int16),
        np.array([compromised_types(access_on(hosts)) for hosts in compromised], np.uint8),
        workflow,
        definition,
    )
    assert judged.dtype == np.int8
    return [Fix(value) for value in judged]


def rule_table(workflow: Workflow, definition: str, host_types: tuple[str, ...], foothold: set[str]) -> bytes:
    """Every judgement that an order makes, when only these host types can be compromised."""
    compromised = [
        {HOST_OF_TYPE[name] for name in chosen} | foothold
        for size in range(len(host_types) + 1)
        for chosen in itertools.combinations(host_types, size)
    ]
    situations = list(itertools.product(HOST_OF_TYPE.values(), compromised))
    judged = judge(
        [f"Remove {host}" for host, _ in situations], [hosts for _, hosts in situations], workflow, definition
    )
    return bytes(judged)


def test_only_remove_and_restore_fix_and_they_fix_their_hosts_type() -> None:
    assert FIXED_TYPE.shape == (145,)
    assert set(np.flatnonzero(FIXED_TYPE >= 0)) == {*range(15, 28), *range(132, 145)}
    for action in [*range(15, 28), *range(132, 145)]:
        host = ACTION_NAMES[action].split(" ")[1]
        assert HostType(FIXED_TYPE[action]).label == TYPE_OF_HOST[host]


@pytest.mark.parametrize("host", HOST_NAMES)
@pytest.mark.parametrize("level", [1, 2])
def test_bits_of_a_single_compromised_host(host: str, level: int) -> None:
    """The format is stored in episodes: bit t for type t, bit 5 for User0 alone."""
    bit = (
        5
        if host == "User0"
        else ["defender", "enterprise", "op_server", "op_host", "user"].index(TYPE_OF_HOST[host])
    )
    assert compromised_types(access_on({host}, level)) == 1 << bit


@given(host_sets)
@settings(deadline=None)
def test_bits_of_a_set_are_those_of_its_hosts(hosts: set[str]) -> None:
    union = 0
    for host in hosts:
        union |= compromised_types(access_on({host}))
    assert compromised_types(access_on(hosts)) == union < 64


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_all_120_orders_agree_with_the_slow_judge(definition: str) -> None:
    """Every set of compromised types, with and without the foothold, and a fix of every type."""
    sets = [
        {HOST_OF_TYPE[name] for name, is_in in zip(HOST_OF_TYPE, chosen, strict=True) if is_in} | foothold
        for chosen in itertools.product((False, True), repeat=5)
        for foothold in (set(), {"User0"})
    ]
    kinds = ("Remove", "Restore", "Remove", "Restore", "Remove")
    fixes = [f"{kind} {host}" for kind, host in zip(kinds, HOST_OF_TYPE.values(), strict=True)]
    situations = list(itertools.product([*fixes, "Restore User0", "Analyse User3"], sets))
    for workflow in WORKFLOWS:
        judged = judge([a for a, _ in situations], [c for _, c in situations], workflow, definition)
        assert judged == [slow_judgement(a, c, str(workflow), definition) for a, c in situations]


@given(st.lists(st.tuples(st.sampled_from(ACTION_NAMES), host_sets), min_size=1), workflows)
@settings(deadline=None, max_examples=50)
def test_any_episode_agrees_with_the_slow_judge(
    steps: list[tuple[str, set[str]]], workflow: Workflow
) -> None:
    actions, compromised = [action for action, _ in steps], [hosts for _, hosts in steps]
    for definition in DEFINITIONS:
        expected = [slow_judgement(a, c, str(workflow), definition) for a, c in steps]
        assert judge(actions, compromised, workflow, definition) == expected


def test_the_foothold_alone() -> None:
    """Reachable: nothing to clean. Any session: a user host is compromised, and only a user fix complies."""
    fixes = ["Remove User0", "Restore User1", "Restore Op_Server0", "Monitor"]
    for workflow in WORKFLOWS:
        assert judge(fixes, [{"User0"}] * 4, workflow, "reachable") == [Fix.NEEDLESS] * 3 + [Fix.NONE]
        assert judge(fixes, [{"User0"}] * 4, workflow, "any-session") == [
            Fix.COMPLIANT,
            Fix.COMPLIANT,
            Fix.VIOLATING,
            Fix.NONE,
        ]


@pytest.mark.parametrize(
    ("definition", "host_types", "num_rules"),
    [
        # All five types are ranked: every order is a rule of its own.
        ("reachable", ("defender", "enterprise", "op_server", "op_host", "user"), 120),
        # Red has no exploit that works on Defender, so only the order of the other four shows: 4!.
        ("reachable", ("enterprise", "op_server", "op_host", "user"), 24),
        # The foothold keeps user compromised, so only what precedes it shows: sum of 4!/(4-k)! over k = 0..4.
        ("any-session", ("defender", "enterprise", "op_server", "op_host", "user"), 65),
        # Both together: sum of 3!/(3-k)! over k = 0..3.
        ("any-session", ("enterprise", "op_server", "op_host", "user"), 16),
    ],
)
def test_number_of_orders_that_can_be_told_apart(
    definition: str, host_types: tuple[str, ...], num_rules: int
) -> None:
    tables = {rule_table(workflow, definition, host_types, {"User0"}) for workflow in WORKFLOWS}
    assert len(tables) == num_rules


def test_compliance_pools_fixes_of_all_episodes_when_reachable() -> None:
    episodes = [
        np.array([Fix.COMPLIANT, Fix.NONE, Fix.NEEDLESS], np.int8),
        np.array([Fix.VIOLATING, Fix.VIOLATING, Fix.COMPLIANT, Fix.VIOLATING], np.int8),
    ]
    assert compliance_of(episodes, "reachable") == 2 / 5
    assert compliance_of(episodes, "any-session") == (1 + 1 / 4) / 2


def test_compliance_without_a_judged_fix() -> None:
    """Undefined, never a made-up number; the older definition says 0.5."""
    for values in ([Fix.NONE], [Fix.NEEDLESS, Fix.NEEDLESS]):
        episode = np.array(values, np.int8)
        assert FixCounts.of(episode).compliance is None
        assert compliance_of([episode], "reachable") is None
        assert compliance_of([episode, np.array([Fix.VIOLATING], np.int8)], "reachable") == 0.0
        assert compliance_of([episode, np.array([Fix.VIOLATING], np.int8)], "any-session") == 0.25
    for definition in DEFINITIONS:
        assert compliance_of([], definition) is None


@given(judgements)
@settings(deadline=None)
def test_counts(judged: NDArray[np.int8]) -> None:
    values = judged.tolist()
    counts = FixCounts.of(judged)
    assert counts == FixCounts(*(values.count(kind) for kind in (Fix.COMPLIANT, Fix.VIOLATING, Fix.NEEDLESS)))
    assert counts.total == len(values) - values.count(Fix.NONE)


@given(judgements, st.floats(0, 100))
@settings(deadline=None)
def test_violation_scheme_charges_each_violating_fix(judged: NDArray[np.int8], weight: float) -> None:
    reward = alignment_reward(judged, "violation", weight)
    assert reward.dtype == np.float32
    np.testing.assert_array_equal(
        reward, [-np.float32(weight) if v == Fix.VIOLATING else 0.0 for v in judged]
    )


def slow_rate_reward(judged: list[int], weight: float) -> list[float]:
    """The rate after each step minus the rate before it; no judged fix yet is a rate of 0."""
    rewards = []
    for t in range(len(judged)):
        rates = []
        for prefix in (judged[:t], judged[: t + 1]):
            fixes = prefix.count(Fix.COMPLIANT) + prefix.count(Fix.VIOLATING)
            rates.append(prefix.count(Fix.COMPLIANT) / fixes if fixes else 0.0)
        rewards.append(weight * (rates[1] - rates[0]))
    if all(value == Fix.NONE for value in judged):
        rewards[-1] -= 0.2 * weight
    return rewards


@given(judgements, st.floats(0, 100))
@settings(deadline=None)
def test_rate_scheme_agrees_with_the_slow_one_and_telescopes(judged: NDArray[np.int8], weight: float) -> None:
    reward = alignment_reward(judged, "rate", weight)
    assert reward.dtype == np.float32
    np.testing.assert_allclose(reward, slow_rate_reward(judged.tolist(), weight), atol=1e-5)
    final_rate = FixCounts.of(judged).compliance or 0.0
    penalty = 0.0 if np.any(judged) else 0.2
    assert reward.sum(dtype=np.float64) == pytest.approx(weight * (final_rate - penalty), abs=1e-4)


def test_rate_scheme_by_hand() -> None:
    judged = np.array([Fix.NONE, Fix.COMPLIANT, Fix.NEEDLESS, Fix.VIOLATING, Fix.NONE], np.int8)
    assert alignment_reward(judged, "rate", 10.0).tolist() == [0, 10, 0, -5, 0]
    assert alignment_reward(np.zeros(3, np.int8), "rate", 10.0).tolist() == [0, 0, -2]
    assert alignment_reward(np.array([0, Fix.NEEDLESS], np.int8), "rate", 10.0).tolist() == [0, 0]


def test_unknown_scheme_is_refused_by_name() -> None:
    with pytest.raises(SettingError, match="violation, rate, got praise"):
        alignment_reward(np.zeros(1, np.int8), "praise", 1.0)
    assert set(SCHEMES) == {"violation", "rate"}


def true_access(environment: gymnasium.Env[NDArray[np.int8], np.int64], *, steps: int) -> list[set[str]]:
    """Play an undefended episode; which hosts red holds before each step, from red's own account."""
    environment.reset(seed=3)
    held = []
    for _ in range(steps):
        access = environment.unwrapped.red_access()  # type: ignore[attr-defined]
        held.append({name for name, level in zip(HOST_NAMES, access, strict=True) if level > 0})
        environment.step(np.int64(0))
    return held


def check_an_undefended_attack(held: list[set[str]]) -> None:
    """B_line starts with User0 alone and works its way to the server; each order asks for another fix."""
    assert all("User0" in hosts for hosts in held)
    assert held[0] == {"User0"}
    assert "Op_Server0" in held[-1]
    assert not any("Defender" in hosts for hosts in held)
    last = held[-1] - {"User0"}
    for workflow, definition in itertools.product(WORKFLOWS, DEFINITIONS):
        fixes = [f"Restore {host}" for host in HOST_OF_TYPE.values()]
        judged = judge(fixes, [held[-1]] * 5, workflow, definition)
        urgent = next(t for t in str(workflow).split(",") if t in {TYPE_OF_HOST[host] for host in last})
        assert [
            fix for fix, verdict in zip(HOST_OF_TYPE, judged, strict=True) if verdict == Fix.COMPLIANT
        ] == [urgent]


def test_a_native_episode() -> None:
    check_an_undefended_attack(true_access(Cage2Env(max_steps=30), steps=30))


@pytest.mark.skipif(importlib.util.find_spec("csle_cyborg") is None, reason="needs the cyborg extra")
def test_a_reference_episode() -> None:
    environment = gymnasium.make("workflow_rl/CybORG-v0", max_steps=30, disable_env_checker=True)
    check_an_undefended_attack(true_access(environment, steps=30))
    environment.close()
