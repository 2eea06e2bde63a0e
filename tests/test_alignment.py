"""Compliance, against slow second versions that read as it is defined."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Sequence

import gymnasium
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from workflow_rl.alignment import (
    FIXED_TYPE,
    Fix,
    FixCounts,
    compliance_of,
    compliance_with_each,
    compromised_types,
    judge_episodes,
    judge_fixes,
    shown_types,
)
from workflow_rl.cage2.env import Cage2Env
from workflow_rl.cage2.scenario import ACTION_NAMES, HOST_NAMES
from workflow_rl.episode import WORKFLOW_CONTEXT, EnvironmentSpec, Episodes, NetworkShape, Snapshot, Ticket
from workflow_rl.rollout import Player
from workflow_rl.seeding import Stream, environment_seed, episode_key
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


BELIEFS = {"no": (0, 0), "unknown": (1, 0), "user": (0, 1), "privileged": (1, 1)}


def observation_of(beliefs: Sequence[str], draws: np.random.Generator) -> NDArray[np.uint8]:
    """What blue's table reads as, with any activity and any further bits."""
    bits = [(*draws.integers(0, 2, 2), *BELIEFS[belief]) for belief in beliefs]
    return np.concatenate([np.array(bits, np.uint8).ravel(), draws.integers(0, 2, 26).astype(np.uint8)])


@given(
    st.tuples(*[st.sampled_from(list(BELIEFS))] * len(HOST_NAMES)), st.sampled_from([np.uint8, np.float32])
)
@settings(deadline=None, max_examples=50)
def test_an_observation_shows_hosts_that_blue_does_not_take_for_clean(
    beliefs: tuple[str, ...], kind: type[np.generic]
) -> None:
    shown = {name for name, belief in zip(HOST_NAMES, beliefs, strict=True) if belief != "no"}
    observation = observation_of(beliefs, np.random.default_rng(0)).astype(kind)
    assert shown_types(observation) == compromised_types(access_on(shown))


@pytest.mark.parametrize("definition", DEFINITIONS)
@pytest.mark.parametrize("red_agent", ["B_lineAgent", "RedMeanderAgent"])
def test_played_fixes_are_judged_by_the_truth_and_by_what_was_shown(red_agent: str, definition: str) -> None:
    """A policy that fixes at random, against an account of the same actions step by step."""
    environment = EnvironmentSpec.of("workflow_rl/Cage2-v0", {"red_agent": red_agent})
    shape = NetworkShape(52, WORKFLOW_CONTEXT, hidden_size=4, num_actions=145)
    tickets = [
        Ticket(5, Stream.TRAINING_EPISODE, e, environment, version=0, batch=0, workflow=4 * e)
        for e in range(30)
    ]
    played = Player().play(tickets, Snapshot(0, shape, np.zeros(shape.num_parameters, np.float32)))
    chosen = [Workflow.from_index(4 * e) for e in range(30)]
    judged = judge_episodes(played, chosen, definition)
    game = Cage2Env(red_agent)
    for e, (ticket, steps) in enumerate(zip(tickets, played.step_slices(), strict=True)):
        seen, _ = game.reset(seed=int(environment_seed(episode_key(5, ticket.stream, ticket.episode))))
        for t, action in enumerate(played.actions[steps]):
            held = {name for name, level in zip(HOST_NAMES, game.red_access(), strict=True) if level}
            shown = {name for h, name in enumerate(HOST_NAMES) if seen[4 * h + 2] or seen[4 * h + 3]}
            assert judged.true[e][t] == slow_judgement(ACTION_NAMES[action], held, str(chosen[e]), definition)
            assert judged.observed[e][t] == slow_judgement(
                ACTION_NAMES[action], shown, str(chosen[e]), definition
            )
            seen, *_ = game.step(action)
    assert not np.array_equal(np.concatenate(judged.true), np.concatenate(judged.observed))
    first = judge_episodes(played, chosen, definition, horizon=10)
    for part, whole in zip(first.true + first.observed, judged.true + judged.observed, strict=True):
        np.testing.assert_array_equal(part, whole[:10])


def play_many_fixes(red_agent: str, num_episodes: int) -> Episodes:
    """Episodes of a policy that removes and restores at random."""
    environment = EnvironmentSpec.of("workflow_rl/Cage2-v0", {"red_agent": red_agent})
    shape = NetworkShape(52, WORKFLOW_CONTEXT, hidden_size=4, num_actions=145)
    parameters = np.zeros(shape.num_parameters, np.float32)
    parameters[-145:][FIXED_TYPE >= 0] = 2.0
    tickets = [
        Ticket(1, Stream.TRAINING_EPISODE, e, environment, version=0, batch=0, workflow=e)
        for e in range(num_episodes)
    ]
    return Player().play(tickets, Snapshot(0, shape, parameters))


@pytest.mark.parametrize("definition", DEFINITIONS)
@pytest.mark.parametrize("red_agent", ["B_lineAgent", "RedMeanderAgent"])
def test_one_set_of_episodes_is_judged_by_every_order_as_by_each_alone(
    red_agent: str, definition: str
) -> None:
    played = play_many_fixes(red_agent, num_episodes=10)
    for workflow, found in zip(WORKFLOWS, compliance_with_each(played, WORKFLOWS, definition), strict=True):
        judged = judge_episodes(played, [workflow] * 10, definition)
        assert found.true == compliance_of(judged.true, definition)
        assert found.observed == compliance_of(judged.observed, definition)
    assert len({found.true for found in compliance_with_each(played, WORKFLOWS, definition)}) >= 5


@pytest.mark.parametrize("red_agent", ["B_lineAgent", "RedMeanderAgent"])
def test_what_blue_observes_is_close_to_the_truth(red_agent: str) -> None:
    """A Remove leaves a host unknown, which counts."""
    judged = judge_episodes(play_many_fixes(red_agent, num_episodes=120), WORKFLOWS, "reachable")
    true, observed = np.concatenate(judged.true), np.concatenate(judged.observed)
    complies_as_observed = true[(observed == Fix.COMPLIANT) & (true != Fix.NEEDLESS)]
    violates_as_observed = true[(observed == Fix.VIOLATING) & (true != Fix.NEEDLESS)]
    assert min(len(complies_as_observed), len(violates_as_observed)) > 1000
    assert np.mean(complies_as_observed == Fix.VIOLATING) < 0.07
    assert np.mean(violates_as_observed == Fix.COMPLIANT) < 0.07


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
