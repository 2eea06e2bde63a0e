"""Which orders cannot differ in rule, and which pairs of host types an order decides between at all.

An order matters only where two types are compromised at once. A type that red never takes is never first, so
moving it changes no judgement: against B_line, which takes no host of the types defender and op_host, the 120
orders are 6 rules; against Meander, which takes any host but the Defender, they are 24. Masks go by what blue
observes, and Meander's noisy attempts on the Defender raise false alarms: with masks its 120 orders all
differ. What red can take, and what it tries, follows from its script and from the exploits that its targets
yield to (`cage2.red_agents`, `cage2.tables`).

Equivalent orders are one order to the search: what is learnt about one holds for all.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cache
from typing import Self

import numpy as np
from numpy.typing import NDArray

from workflow_rl.alignment import FOOTHOLD_BIT, first_types
from workflow_rl.alignment_schemes import mask_of
from workflow_rl.cage2.scenario import HOST_TYPES, NUM_HOSTS
from workflow_rl.cage2.tables import (
    B_LINE_TARGETS,
    ENTERPRISE2,
    EXPLOIT_RESULT,
    FOOTHOLD,
    GIVES_USER,
    LEADS_TO,
    OP_SERVER,
)
from workflow_rl.settings import AlignmentSettings
from workflow_rl.workflow import NUM_HOST_TYPES, NUM_WORKFLOWS, HostType, Workflow, all_workflows

PAIRS: tuple[tuple[int, int], ...] = tuple(itertools.combinations(range(NUM_HOST_TYPES), 2))
"""The ten pairs of host types, the lower value first."""


@dataclass(frozen=True, eq=False)
class OrderClasses:
    """The 120 orders, sorted into classes of equal rule.

    Attributes:
        representative: for each order the lowest index in its class, (120,) int64.
        preferences: for each order and each of `PAIRS` what its class says, (120, 10) float64: 1 the first
            type of the pair goes first, -1 the second, 0 no rule ever decides between the two. Equivalent
            orders have equal rows, others differ.
    """

    representative: NDArray[np.int64]
    preferences: NDArray[np.float64]

    @classmethod
    def of(cls, contested: frozenset[HostType], definition: str, *, is_masked: bool = False) -> Self:
        """The classes that a rule of compliance makes.

        Args:
            contested: the types that can be compromised, or can be shown as compromised with masks.
            definition: of compliance, see `AlignmentSettings.compliance`.
            is_masked: whether fixes are masked by what blue observes, which need not show User0's foothold;
                by the true state it is always there.
        """
        sets = np.array([_bits(some) for some in _subsets(contested)])
        possible = sets | int(FOOTHOLD_BIT)
        if is_masked:
            possible = np.concatenate([sets, possible])
        rules = [first_types(workflow, definition)[possible].tobytes() for workflow in all_workflows()]
        first_with: dict[bytes, int] = {}
        for index, rule in enumerate(rules):
            first_with.setdefault(rule, index)
        representative = np.array([first_with[rule] for rule in rules], np.int64)
        is_decided = np.array([contested.issuperset(map(HostType, pair)) for pair in PAIRS])
        return cls(representative, _preferences()[representative] * is_decided)

    @classmethod
    def in_training(cls, red_agent: str, alignment: AlignmentSettings) -> Self:
        """The classes that a run's attacker and its alignment settings make."""
        is_masked = mask_of(alignment) is not None
        contested = attacked_types(red_agent) if is_masked else takeable_types(red_agent)
        return cls.of(contested, alignment.compliance, is_masked=is_masked)

    @classmethod
    def all_different(cls) -> Self:
        """Every order a class of its own."""
        return cls(np.arange(NUM_WORKFLOWS), _preferences())

    def representatives(self) -> NDArray[np.int64]:
        """One order of each class, ascending indices."""
        return np.unique(self.representative)

    def are_equivalent(self, one: Workflow, other: Workflow) -> bool:
        """Whether no rule tells two orders apart."""
        return bool(self.representative[one.index] == self.representative[other.index])


def attacked_types(red_agent: str) -> frozenset[HostType]:
    """The types of the hosts that red tries to exploit: those of which blue may ever be shown an alarm.

    Args:
        red_agent: of `SimulatorSettings`; one without a known script may go anywhere.
    """
    return frozenset(HostType(HOST_TYPES[host]) for host in _targets(red_agent))


def takeable_types(red_agent: str) -> frozenset[HostType]:
    """The types of which red can take a host, User0 apart: those that can ever be compromised.

    Args:
        red_agent: as in `attacked_types`.
    """
    yields = [bool((results >= GIVES_USER).any()) for results in EXPLOIT_RESULT.T]
    return frozenset(HostType(HOST_TYPES[host]) for host in _targets(red_agent) if yields[host])


def _targets(red_agent: str) -> frozenset[int]:
    """The hosts that red's script ever exploits, beside the one it starts on."""
    if red_agent == "SleepAgent":
        return frozenset()
    if red_agent == "B_lineAgent":
        first = {host for host in range(NUM_HOSTS) if B_LINE_TARGETS >> host & 1}
        return frozenset(first | {int(LEADS_TO[host]) for host in first} | {ENTERPRISE2, OP_SERVER})
    return frozenset(range(NUM_HOSTS)) - {FOOTHOLD}


def _subsets(types: frozenset[HostType]) -> list[tuple[HostType, ...]]:
    sizes = range(len(types) + 1)
    return [some for size in sizes for some in itertools.combinations(sorted(types), size)]


def _bits(types: tuple[HostType, ...]) -> int:
    return sum(1 << host_type for host_type in types)


@cache
def _preferences() -> NDArray[np.float64]:
    """Which type of each pair goes first in each order, (120, 10), 1 or -1."""
    ranks = np.array([workflow.ranks for workflow in all_workflows()], np.float64)
    first, second = np.array(PAIRS).T
    return np.asarray(np.sign(ranks[:, second] - ranks[:, first]))
