"""Which orders cannot differ in rule: derived from red's script, and seen in play."""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
import pytest

from workflow_rl.alignment import compromised_types, judge_fixes, shown_types
from workflow_rl.cage2.env import Cage2Env
from workflow_rl.cage2.scenario import HOST_NAMES, HOST_TYPES, action_index
from workflow_rl.equivalent_orders import PAIRS, OrderClasses, attacked_types, takeable_types
from workflow_rl.settings import AlignmentSettings
from workflow_rl.workflow import HostType, Workflow, all_workflows

WORKFLOWS = all_workflows()
ATTACKERS = ("B_lineAgent", "RedMeanderAgent", "SleepAgent")

_RESTORES = [
    [
        action_index("Restore", name)
        for name, of in zip(HOST_NAMES, HOST_TYPES, strict=True)
        if of == host_type
    ]
    for host_type in HostType
]


def provoke(draws: np.random.Generator) -> list[int]:
    """An action, or a few that drive red off some types: Meander stays on Op_Server0 until it loses it."""
    if draws.random() < 0.9:
        return [int(draws.integers(145))]
    return list(itertools.chain(*(_RESTORES[t] for t in draws.permutation(5)[: draws.integers(1, 4)])))


@cache
def seen_sets(red_agent: str) -> tuple[frozenset[int], frozenset[int]]:
    """Sets of compromised types, true and shown, in 200 episodes of a blue agent that provokes at random."""
    environment, draws = Cage2Env(red_agent=red_agent, max_steps=150), np.random.default_rng(0)
    true, shown = set(), set()
    for episode in range(200):
        environment.reset(seed=episode)
        actions = itertools.chain.from_iterable(provoke(draws) for _ in itertools.count())
        for action in itertools.islice(actions, 150):
            observation, *_ = environment.step(action)
            true.add(int(compromised_types(environment.red_access())))
            shown.add(int(shown_types(observation)))
    return frozenset(true), frozenset(shown)


def pairs_in(sets: frozenset[int]) -> set[tuple[int, int]]:
    """The pairs of types that were in one set together."""
    return {(a, b) for a, b in PAIRS if any(bits >> a & 1 and bits >> b & 1 for bits in sets)}


@pytest.mark.parametrize("red_agent", ATTACKERS)
def test_the_pairs_that_meet_in_play_are_those_of_the_derived_types(red_agent: str) -> None:
    true, shown = seen_sets(red_agent)
    assert pairs_in(true) == set(itertools.combinations(sorted(takeable_types(red_agent)), 2))
    assert pairs_in(shown) == set(itertools.combinations(sorted(attacked_types(red_agent)), 2))


@pytest.mark.parametrize("compliance", ["reachable", "any-session"])
@pytest.mark.parametrize("alignment", ["violation", "mask"])
@pytest.mark.parametrize("red_agent", ATTACKERS)
def test_orders_are_equivalent_if_no_set_seen_in_play_tells_them_apart(
    red_agent: str, alignment: str, compliance: str
) -> None:
    """Of equivalent orders every fix is judged alike; representatives of two classes are not."""
    classes = OrderClasses.in_training(
        red_agent, AlignmentSettings(alignment=alignment, compliance=compliance)
    )
    true, shown = seen_sets(red_agent)
    sets = np.array(sorted(true | shown if alignment == "mask" else true), np.uint8)
    fixes = np.array([restores[0] for restores in _RESTORES], np.int16)
    actions, situations = np.repeat(fixes, len(sets)), np.tile(sets, len(fixes))
    rules = [judge_fixes(actions, situations, workflow, compliance).tobytes() for workflow in WORKFLOWS]
    assert len(set(rules)) == len(classes.representatives())
    for index, rule in enumerate(rules):
        assert rule == rules[classes.representative[index]]


def test_an_unknown_attacker_may_go_anywhere() -> None:
    assert attacked_types("a mixture") == frozenset(HostType)
    assert takeable_types("a mixture") == frozenset(HostType) - {HostType.DEFENDER}


@pytest.mark.parametrize(
    ("red_agent", "alignment", "count"),
    [
        ("B_lineAgent", "violation", 6),
        ("RedMeanderAgent", "lagrangian", 24),
        ("RedMeanderAgent", "mask", 120),
    ],
)
def test_number_of_classes(red_agent: str, alignment: str, count: int) -> None:
    classes = OrderClasses.in_training(red_agent, AlignmentSettings(alignment=alignment))
    assert len(classes.representatives()) == count


def test_preferences_are_equal_within_classes_and_differ_between_them() -> None:
    for definition in ("reachable", "any-session"):
        contested = frozenset({HostType.ENTERPRISE, HostType.OP_HOST, HostType.USER})
        classes = OrderClasses.of(contested, definition)
        for a, b in itertools.combinations(range(120), 2):
            are_equal = np.array_equal(classes.preferences[a], classes.preferences[b])
            assert are_equal == classes.are_equivalent(WORKFLOWS[a], WORKFLOWS[b])


def test_preferences_say_who_goes_first() -> None:
    workflow = Workflow.parse("user,defender,op_host,enterprise,op_server")
    preferences = dict(
        zip(PAIRS, OrderClasses.all_different().preferences[workflow.index].tolist(), strict=True)
    )
    assert preferences[HostType.DEFENDER, HostType.ENTERPRISE] == 1
    assert preferences[HostType.ENTERPRISE, HostType.USER] == -1
    assert preferences[HostType.OP_SERVER, HostType.OP_HOST] == -1
