"""What it means to keep to a workflow: which fixes comply, and how many do.

A *fix* is a Remove or a Restore. It is judged on the true state before the action: it complies if its host's
type is the first type in the order that has a compromised host, it violates if another type comes first, and
it is needless if nothing is compromised. While an episode is played only the bare fact is recorded, which
types were compromised at each fix (`compromised_types`); all judgements are made from it afterwards, so one
played episode can be judged by any definition and workflow.

Blue does not see the true state. So every fix is judged a second time by what blue could know: with the types
that its own observation shows as compromised (`shown_types`) in the place of those that are. The same rule
then tells a policy that does not keep to its order from one that was not told: shells that go unnoticed,
false alarms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from workflow_rl.cage2.scenario import ACTION_NAMES, HOST_NAMES, HOST_TYPES, NUM_HOSTS
from workflow_rl.compilation import compiled
from workflow_rl.episode import Episodes
from workflow_rl.workflow import NUM_HOST_TYPES, HostType, Workflow

PERMANENT_FOOTHOLD = HOST_NAMES.index("User0")
"""Red's session on this host survives everything blue can do (scenario2_facts: initial session 0)."""

FOOTHOLD_BIT = np.uint8(1 << NUM_HOST_TYPES)
"""Bit of `compromised_types` that stands for the permanent foothold alone."""


class Fix(IntEnum):
    """The judgement of one step's action."""

    NONE = 0
    COMPLIANT = 1
    VIOLATING = 2
    NEEDLESS = 3


class HasRedAccess(Protocol):
    """An environment that shows its true state to the judge of compliance."""

    def red_access(self) -> NDArray[np.int8]:
        """What red holds on each host, shape (13,): 0 nothing, 1 a user session, 2 a privileged one."""


def _fixed_types() -> NDArray[np.int8]:
    types = np.full(len(ACTION_NAMES), -1, np.int8)
    for action, name in enumerate(ACTION_NAMES):
        kind, _, host = name.partition(" ")
        if kind in ("Remove", "Restore"):
            types[action] = HOST_TYPES[HOST_NAMES.index(host)]
    return types


FIXED_TYPE: NDArray[np.int8] = _fixed_types()
"""Host type that each action fixes, shape (145,) int8; -1 for actions that fix nothing."""

IS_FIX: list[bool] = (FIXED_TYPE >= 0).tolist()
"""Whether each action fixes something; a list, of which a step played in Python reads one element."""

_FIX_OF_TYPE = np.array([FIXED_TYPE.tolist().index(t) for t in range(NUM_HOST_TYPES)], np.int16)
"""An action that fixes each type, (5,) int16."""

_TYPE_BIT = np.array([1 << t for t in HOST_TYPES], np.int64)
_TYPE_BIT[PERMANENT_FOOTHOLD] = FOOTHOLD_BIT


@compiled
def compromised_types(red_access: NDArray[np.int8]) -> int:
    """The set of compromised host types as bits: bit t for type t, bit 5 for the permanent foothold on User0.

    Args:
        red_access: shape (13,) int8, see `HasRedAccess`.
    """
    types = 0
    for host in range(len(red_access)):
        if red_access[host] > 0:
            types |= _TYPE_BIT[host]
    return types


@compiled
def is_shown(observation: NDArray[np.generic], host: int) -> bool:
    """Whether an observation shows a host as compromised.

    It does unless blue's table says that the host is not: also where a Remove, which often does not work, has
    left it unknown.

    Args:
        observation: of CAGE Challenge 2, shape (at least 52,), any number type; see `cage2.observation`.
        host: its index, 0..12.
    """
    return bool(observation[4 * host + 2] != 0 or observation[4 * host + 3] != 0)


@compiled
def shown_types(observation: NDArray[np.generic]) -> int:
    """The set of host types that an observation shows as compromised, as bits of `compromised_types`.

    Args:
        observation: see `is_shown`.
    """
    types = 0
    for host in range(NUM_HOSTS):
        if is_shown(observation, host):
            types |= _TYPE_BIT[host]
    return types


@compiled
def shown_types_of_all(observations: NDArray[np.generic]) -> NDArray[np.uint8]:
    """`shown_types` of each of (N, O) observations, (N,) uint8."""
    types = np.empty(len(observations), np.uint8)
    for i in range(len(observations)):
        types[i] = shown_types(observations[i])
    return types


@cache
def first_types(workflow: Workflow, definition: str) -> NDArray[np.int8]:
    """The first type in the order for each of the 64 sets of `compromised_types`, -1 for none.

    Returns:
        Shape (64,) int8. Not to be written to: all callers get the same array.
    """
    first = np.full(64, -1, np.int8)
    for bits in range(64):
        counted = bits & (FOOTHOLD_BIT - 1)
        if definition == "any-session" and bits & FOOTHOLD_BIT:
            counted |= 1 << HostType.USER
        first[bits] = next((t for t in workflow.order if counted >> t & 1), -1)
    first.flags.writeable = False
    return first


def judge_fixes(
    actions: NDArray[np.int16], compromised: NDArray[np.uint8], workflow: Workflow, definition: str
) -> NDArray[np.int8]:
    """Judge every step of an episode.

    Args:
        actions: shape (T,) int16.
        compromised: `compromised_types` before each fix, shape (T,) uint8; ignored at other steps.
        workflow: the order to keep to.
        definition: "reachable" or "any-session", see `AlignmentSettings.compliance`. Under "any-session" a
            fix while nothing is compromised complies.

    Returns:
        `Fix` values, shape (T,) int8.
    """
    fixed = FIXED_TYPE[actions]
    first = first_types(workflow, definition)[compromised]
    judged = np.where(fixed == first, Fix.COMPLIANT, Fix.VIOLATING)
    judged[first < 0] = Fix.COMPLIANT if definition == "any-session" else Fix.NEEDLESS
    judged[fixed < 0] = Fix.NONE
    return judged.astype(np.int8)


@dataclass(frozen=True, eq=False)
class JudgedFixes:
    """`Fix` values of some episodes, (T,) int8 each.

    Attributes:
        true: judged by the true state.
        observed: judged by what blue's observation showed before the action.
    """

    true: tuple[NDArray[np.int8], ...]
    observed: tuple[NDArray[np.int8], ...]


def judge_episodes(
    episodes: Episodes, workflows: Sequence[Workflow], definition: str, *, horizon: int | None = None
) -> JudgedFixes:
    """Judge every fix twice.

    Args:
        episodes: of CAGE Challenge 2, played with a workflow in their tickets.
        workflows: the order that each of them is judged by, length E.
        definition: of compliance, see `judge_fixes`.
        horizon: judge only the first steps.
    """

    def judged(compromised: NDArray[np.uint8]) -> tuple[NDArray[np.int8], ...]:
        return tuple(
            judge_fixes(episodes.actions[steps][:horizon], compromised[steps][:horizon], workflow, definition)
            for workflow, steps in zip(workflows, episodes.step_slices(), strict=True)
        )

    shown = shown_types_of_all(episodes.observations[episodes.is_acted_upon])
    return JudgedFixes(judged(episodes.compromised), judged(shown))


@dataclass(frozen=True)
class FixCounts:
    """How often each judgement fell."""

    compliant: int = 0
    violating: int = 0
    needless: int = 0

    @classmethod
    def of(cls, judged: NDArray[np.int8]) -> FixCounts:
        """Count `Fix` values, any shape."""
        counts = np.bincount(judged.ravel(), minlength=len(Fix))
        return cls(int(counts[Fix.COMPLIANT]), int(counts[Fix.VIOLATING]), int(counts[Fix.NEEDLESS]))

    @property
    def total(self) -> int:
        """All fixes, needless ones included."""
        return self.compliant + self.violating + self.needless

    @property
    def compliance(self) -> float | None:
        """Compliant share of the fixes that had something to fix; `None` if there was none."""
        judged = self.compliant + self.violating
        return self.compliant / judged if judged else None


def compliance_of(episodes: Sequence[NDArray[np.int8]], definition: str) -> float | None:
    """Compliance of a set of judged episodes.

    Args:
        episodes: `Fix` values of each episode, shape (T,) int8.
        definition: under "reachable" the fixes of all episodes are pooled, and the result is `None` if there
            was none to judge. Under "any-session" it is the mean of the episodes' rates, 0.5 without a fix.
    """
    counts = [FixCounts.of(judged) for judged in episodes]
    compliant = np.array([count.compliant for count in counts], np.int64)
    violating = np.array([count.violating for count in counts], np.int64)
    return _compliance(compliant, compliant + violating, definition)


def _compliance(compliant: NDArray[np.int64], judged: NDArray[np.int64], definition: str) -> float | None:
    """Compliance from how many fixes of each episode (E,) complied, of how many that were judged."""
    if definition == "any-session":
        rates = np.where(judged > 0, compliant / np.maximum(judged, 1), 0.5)
        return float(rates.mean()) if len(rates) else None
    return float(compliant.sum() / judged.sum()) if judged.any() else None


@dataclass(frozen=True)
class Compliance:
    """How well some episodes keep to an order; `None` without a fix to judge.

    Attributes:
        true: judged by the true state.
        observed: judged by what blue's observation showed before the action.
    """

    true: float | None
    observed: float | None


def compliance_with_each(
    episodes: Episodes, workflows: Sequence[Workflow], definition: str
) -> list[Compliance]:
    """`compliance_of` the same episodes judged by each of some orders, whichever they were played with.

    Many orders cost little more than one: all that they look at is how often each type was fixed while each
    set of types was compromised.

    Args:
        episodes: of CAGE Challenge 2.
        workflows: to judge by.
        definition: of compliance, see `judge_fixes` and `compliance_of`.
    """
    shown = shown_types_of_all(episodes.observations[episodes.is_acted_upon])
    true, observed = (_count_fixes(episodes, sets) for sets in (episodes.compromised, shown))
    if definition != "any-session":  # which alone looks at one episode after the other
        true, observed = (fixes.sum(axis=0, keepdims=True) for fixes in (true, observed))
    return [
        Compliance(
            _compliance(*_count_compliant(true, workflow, definition), definition),
            _compliance(*_count_compliant(observed, workflow, definition), definition),
        )
        for workflow in workflows
    ]


def _count_fixes(episodes: Episodes, compromised: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How often each episode fixes each type while each set of types is compromised, (E, 5, 64) int64.

    Args:
        episodes: length E.
        compromised: the set before each step, by `compromised_types`, (N,) uint8.
    """
    shape = (len(episodes), NUM_HOST_TYPES, 64)
    fixed = FIXED_TYPE[episodes.actions]
    episode = np.repeat(np.arange(len(episodes)), episodes.lengths)
    cells = np.ravel_multi_index([index[fixed >= 0] for index in (episode, fixed, compromised)], shape)
    return np.bincount(cells, minlength=math.prod(shape)).reshape(shape)


def _count_compliant(
    fixes: NDArray[np.int64], workflow: Workflow, definition: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many fixes of each episode comply with an order, and how many are judged, (E,) each.

    Args:
        fixes: of `_count_fixes`.
        workflow: the order.
        definition: see `judge_fixes`.
    """
    fixed, compromised = (cells.ravel().astype(np.uint8) for cells in np.indices(fixes.shape[1:]))
    rule = judge_fixes(_FIX_OF_TYPE[fixed], compromised, workflow, definition).reshape(fixes.shape[1:])
    compliant = fixes[:, rule == Fix.COMPLIANT].sum(axis=1)
    return compliant, compliant + fixes[:, rule == Fix.VIOLATING].sum(axis=1)
