"""The Lagrange multiplier of a constraint, steered by a PID controller.

Maximising a reward under the constraint "cost at most a limit" is looking for the multiplier at which
reward - multiplier * cost has its best policy at the limit. Raising the multiplier with the excess cost alone
is integral control, which swings; the other two terms of a controller damp it.

Source: Stooke, Achiam, Abbeel 2020, "Responsive safety in reinforcement learning by PID Lagrangian methods",
algorithm 2. The cost is the share of fixes that violate the order, measured once per update. One thing is
added: what a single update adds to the integral is bounded. A policy that is only beginning to learn violates
most of the time, which says nothing about the price; unbounded, those updates would drive it to a height from
which it never returns, since a cost can be far above a small limit and never far below.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

_MOST_EXCESS = 0.05
"""Of one update, as far as the integral is concerned."""


@dataclass(frozen=True)
class Gains:
    """How strongly the multiplier answers to the three terms, in its own units per unit of cost.

    Attributes:
        proportional: to the excess cost of the last update.
        integral: to the sum of all excesses, each at most 0.05 above or below.
        derivative: to the rise of the cost since the update before.
    """

    proportional: float
    integral: float
    derivative: float


@dataclass(frozen=True)
class LagrangeMultiplier:
    """A multiplier as it is between two updates.

    Attributes:
        gains: of the controller.
        limit: the cost that is allowed.
        integral: the integral term, never below 0.
        value: the multiplier, never below 0.
        last_cost: `None` before the first update.
    """

    gains: Gains
    limit: float
    integral: float
    value: float
    last_cost: float | None = None

    @classmethod
    def start(cls, gains: Gains, *, limit: float, value: float) -> Self:
        """A multiplier that begins at a value and keeps it as long as the cost is at the limit."""
        return cls(gains, limit, integral=value, value=value)

    def after(self, cost: float) -> Self:
        """The multiplier after an update whose batch had this cost."""
        gains, excess = self.gains, cost - self.limit
        rise = 0.0 if self.last_cost is None else max(0.0, cost - self.last_cost)
        step = min(max(excess, -_MOST_EXCESS), _MOST_EXCESS)
        integral = max(0.0, self.integral + gains.integral * step)
        value = max(0.0, gains.proportional * excess + integral + gains.derivative * rise)
        return type(self)(gains, self.limit, integral, value, cost)

    def to_state(self) -> dict[str, float | None]:
        """What `at` needs beside gains and limit, JSON values."""
        return {"integral": self.integral, "value": self.value, "last_cost": self.last_cost}

    def at(self, state: Mapping[str, Any]) -> Self:
        """The multiplier with these gains and this limit that was stored by `to_state`.

        Raises:
            KeyError: it is the state of something else.
        """
        return type(self)(self.gains, self.limit, state["integral"], state["value"], state["last_cost"])
