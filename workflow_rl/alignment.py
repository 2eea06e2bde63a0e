"""What it means to keep to a workflow: compliance of fixes, and the alignment reward.

A *fix* is a Remove or a Restore. It is judged on the true state before the action: it complies if its host's
type is the first type in the order that has a compromised host, it violates if another type comes first, and
it is needless if nothing is compromised. While an episode is played only the bare fact is recorded, which
types were compromised at each fix (`compromised_types`); all judgements and rewards are computed from it
afterwards, so one played episode can be judged by any definition, workflow and scheme.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from workflow_rl.cage2.scenario import ACTION_NAMES, HOST_NAMES, HOST_TYPES
from workflow_rl.compilation import compiled
from workflow_rl.errors import SettingError
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


@cache
def _first_types(workflow: Workflow, definition: str) -> NDArray[np.int8]:
    """The first compromised type in the order for each of the 64 sets, -1 for none; shape (64,) int8."""
    first = np.full(64, -1, np.int8)
    for bits in range(64):
        counted = bits & (FOOTHOLD_BIT - 1)
        if definition == "any-session" and bits & FOOTHOLD_BIT:
            counted |= 1 << HostType.USER
        first[bits] = next((t for t in workflow.order if counted >> t & 1), -1)
    first.flags.writeable = False  # every caller gets the same array
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
    first = _first_types(workflow, definition)[compromised]
    judged = np.where(fixed == first, Fix.COMPLIANT, Fix.VIOLATING)
    judged[first < 0] = Fix.COMPLIANT if definition == "any-session" else Fix.NEEDLESS
    judged[fixed < 0] = Fix.NONE
    return judged.astype(np.int8)


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
    if definition == "any-session":
        rates = [0.5 if c.compliance is None else c.compliance for c in counts]
        return float(np.mean(rates)) if rates else None
    return FixCounts(sum(c.compliant for c in counts), sum(c.violating for c in counts)).compliance


def _violation_reward(judged: NDArray[np.int8], weight: float) -> NDArray[np.float32]:
    """Minus `weight` for each violating fix."""
    return np.where(judged == Fix.VIOLATING, np.float32(-weight), np.float32(0.0))


def _rate_reward(judged: NDArray[np.int8], weight: float) -> NDArray[np.float32]:
    """`weight` times the change of the running compliance rate; -0.2 `weight` for an episode without fixes.

    The sum over an episode is `weight` times its final rate, so a single compliant fix at the start earns
    all.
    """
    compliant = np.cumsum(judged == Fix.COMPLIANT)
    fixes = compliant + np.cumsum(judged == Fix.VIOLATING)
    rate = np.divide(compliant, fixes, out=np.zeros(len(judged)), where=fixes > 0)
    reward: NDArray[np.float32] = (weight * np.diff(rate, prepend=0.0)).astype(np.float32)
    if len(judged) and not np.any(judged):
        reward[-1] -= 0.2 * weight
    return reward


SCHEMES = {"violation": _violation_reward, "rate": _rate_reward}
"""Alignment schemes by name: (judged (T,) int8, lambda) -> alignment reward of each step, (T,) float32."""


def alignment_reward(judged: NDArray[np.int8], scheme: str, weight: float) -> NDArray[np.float32]:
    """The alignment reward of one episode's steps, to be added to the simulator's reward by the learner.

    Args:
        judged: `Fix` values, shape (T,) int8.
        scheme: a name in `SCHEMES`.
        weight: lambda, in units of the simulator's reward.

    Returns:
        Shape (T,) float32.
    """
    if scheme not in SCHEMES:
        raise SettingError(f"--alignment-scheme must be one of {', '.join(SCHEMES)}, got {scheme}")
    return SCHEMES[scheme](judged, weight)
