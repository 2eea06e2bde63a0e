"""The 120 workflows: priority orders of the five host types.

A workflow says which kind of host is to be cleaned first when several are compromised. Everything about the
orders as mathematical objects is here; what it means to keep to one is in `alignment`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from workflow_rl.errors import SettingError


class HostType(IntEnum):
    """The kinds of hosts a workflow ranks. The value is the column of the one-hot encoding."""

    DEFENDER = 0
    ENTERPRISE = 1
    OP_SERVER = 2
    OP_HOST = 3
    USER = 4

    @property
    def label(self) -> str:
        """The name used on the command line and in logs."""
        return self.name.lower()


NUM_HOST_TYPES = len(HostType)
NUM_WORKFLOWS = 120
ALL_ORDERS = "all"
"""In place of an order, where a policy serves each of them."""

_ORDERS: tuple[tuple[HostType, ...], ...] = tuple(itertools.permutations(HostType))


@dataclass(frozen=True)
class Workflow:
    """A priority order of the host types, most urgent first.

    Attributes:
        order: a permutation of `HostType`, length 5.
    """

    order: tuple[HostType, ...]

    def __post_init__(self) -> None:
        if sorted(self.order) != list(HostType):
            raise SettingError(
                f"a workflow names each of {', '.join(t.label for t in HostType)} once, got "
                f"{','.join(HostType(t).label for t in self.order) or 'nothing'}"
            )

    @classmethod
    def from_index(cls, index: int) -> Self:
        """The workflow at `index` (0..119) in lexicographic order of the host types' values.

        Raises:
            SettingError: the index is out of range.
        """
        if not 0 <= index < NUM_WORKFLOWS:
            raise SettingError(f"workflow index must be 0..{NUM_WORKFLOWS - 1}, got {index}")
        return cls(_ORDERS[index])

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `defender,enterprise,op_server,op_host,user` (any order, each type once).

        Raises:
            SettingError: a name is unknown, missing or repeated.
        """
        names = [name.strip().lower() for name in text.split(",")]
        labels = {t.label: t for t in HostType}
        unknown = [name for name in names if name not in labels]
        if unknown or len(names) != NUM_HOST_TYPES or len(set(names)) != NUM_HOST_TYPES:
            raise SettingError(
                f"--workflow {text!r}: expected each of {', '.join(labels)} once, separated by commas"
            )
        return cls(tuple(labels[name] for name in names))

    @cached_property
    def index(self) -> int:
        """Position in lexicographic order, 0..119."""
        return _ORDERS.index(self.order)

    @cached_property
    def ranks(self) -> NDArray[np.int8]:
        """Rank of each host type, shape (5,) int8: `ranks[t]` is 0 for the most urgent type."""
        ranks = np.empty(NUM_HOST_TYPES, np.int8)
        ranks[list(self.order)] = np.arange(NUM_HOST_TYPES, dtype=np.int8)
        return ranks

    def one_hot(self) -> NDArray[np.float32]:
        """The order as the policy sees it, shape (5, 5) float32, [position, host type]."""
        return np.eye(NUM_HOST_TYPES, dtype=np.float32)[list(self.order)]

    def kendall_distance(self, other: Workflow) -> int:
        """Number of pairs of host types that the two orders rank differently, 0..10 (Kendall 1938)."""
        return sum(
            (self.ranks[a] < self.ranks[b]) != (other.ranks[a] < other.ranks[b])
            for a, b in itertools.combinations(range(NUM_HOST_TYPES), 2)
        )

    def __str__(self) -> str:
        return ",".join(t.label for t in self.order)


def all_workflows() -> Sequence[Workflow]:
    """All 120 workflows, by index."""
    return [Workflow(order) for order in _ORDERS]


def shared_precedences(workflows: Sequence[Workflow]) -> list[tuple[HostType, HostType]]:
    """What some orders have in common: which type goes before which in all of them.

    Returns:
        Pairs, the type first that goes first; without those that follow from two others.
    """
    shared = {
        (first, second)
        for first, second in itertools.permutations(HostType, 2)
        if all(workflow.ranks[first] < workflow.ranks[second] for workflow in workflows)
    }
    return sorted(
        (first, second)
        for first, second in shared
        if not any((first, between) in shared and (between, second) in shared for between in HostType)
    )


def orders_with(precedences: Sequence[tuple[HostType, HostType]]) -> list[Workflow]:
    """All orders in which the first type of each of some pairs goes before the second, by index."""
    return [
        workflow
        for workflow in all_workflows()
        if all(workflow.ranks[first] < workflow.ranks[second] for first, second in precedences)
    ]
