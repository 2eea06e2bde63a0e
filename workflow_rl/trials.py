"""What the search hands out and what comes back: a trial of an order, and its result.

A trial is so many episodes of training for one order. It begins with fresh weights, with the policy of
another order's trial, or goes on exactly where an earlier trial of the same order stopped. So an order may be
trained in one go or in pieces, and a result of more training takes the place of the one before.

How far an order is trained after a trial is the trial's *rung*, as on a ladder: 0 after the first piece of a
training that is h times halved, h after a full training, more after further ones (`successive_halving`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from workflow_rl.evaluation import KeptOrder
from workflow_rl.gaussian_process import Observation
from workflow_rl.workflow import Workflow


@dataclass(frozen=True)
class Trial:
    """An order to train, and what is believed about its reward.

    Attributes:
        workflow: the order.
        episodes: training episodes to spend on it now.
        continues: number of the order's last trial, whose place it takes; `None` is its first.
        begins_with: number of the trial whose policy it begins with; `None` is fresh weights. If it is the
            one that it continues, training goes on with the optimiser and all.
        rung: how far the order is trained after it.
        mean: expected reward; `None`, like the next two, while nothing is known or if nobody asks.
        standard_deviation: of that expectation.
        upper_confidence_bound: the highest reward that is believed possible.
    """

    workflow: Workflow
    episodes: int
    continues: int | None = None
    begins_with: int | None = None
    rung: int = 0
    mean: float | None = None
    standard_deviation: float | None = None
    upper_confidence_bound: float | None = None

    @property
    def goes_on(self) -> bool:
        """Whether training goes on where the order's last trial stopped."""
        return self.continues is not None and self.continues == self.begins_with

    def to_state(self) -> dict[str, Any]:
        """Everything about it as JSON values."""
        return {**asdict(self), "workflow": str(self.workflow)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The trial that `to_state` described.

        Raises:
            KeyError, TypeError, ValueError: the state is not one that `to_state` returned.
        """
        return cls(**{**state, "workflow": Workflow.parse(state["workflow"])})


@dataclass(frozen=True)
class OrderResult(Observation):
    """What a trial came to: the evaluated reward (see `Observation`) and how it was reached.

    Attributes:
        compliance: of the evaluated policy, 0..1; `None` if it never fixed a host.
        observed_compliance: the same, judged by what blue's observation showed.
        episodes: training episodes spent in this trial.
        met_threshold: whether the policy keeps to the order as well as the run demands.
        continues: as in `Trial`.
        rung: as in `Trial`.
        kept_orders: all orders that the policy keeps to as well as the run demands, in the episodes that the
            reward is of, told this one.
    """

    compliance: float | None
    observed_compliance: float | None
    episodes: int
    met_threshold: bool
    continues: int | None = None
    rung: int = 0
    kept_orders: tuple[KeptOrder, ...] = ()

    def to_state(self) -> dict[str, Any]:
        """Everything about it as JSON values; the conversions accept numpy's scalars, which JSON does not."""
        return {
            "workflow": str(self.workflow),
            "reward": float(self.reward),
            "standard_error": float(self.standard_error),
            "compliance": _number(self.compliance),
            "observed_compliance": _number(self.observed_compliance),
            "episodes": int(self.episodes),
            "met_threshold": bool(self.met_threshold),
            "continues": self.continues,
            "rung": self.rung,
            "kept_orders": [{**vars(kept), "workflow": str(kept.workflow)} for kept in self.kept_orders],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The result that `to_state` described; floats survive a JSON file exactly.

        Raises:
            KeyError, TypeError, ValueError: the state is not one that `to_state` returned.
        """
        kept_orders = tuple(
            KeptOrder(**{**kept, "workflow": Workflow.parse(kept["workflow"])})
            for kept in state["kept_orders"]
        )
        return cls(**{**state, "workflow": Workflow.parse(state["workflow"]), "kept_orders": kept_orders})


@dataclass(frozen=True)
class TrainedOrder:
    """All that was spent on one training, and what it has come to so far.

    Attributes:
        trial: number of its last trial.
        result: of that trial.
        episodes: of all its trials.
    """

    trial: int
    result: OrderResult
    episodes: int


def trained_orders(results: Sequence[OrderResult]) -> list[TrainedOrder]:
    """The trainings that results tell of, by their last trial.

    Args:
        results: by number of trial.
    """
    episodes: dict[int, int] = {}
    for trial, result in enumerate(results):
        before = 0 if result.continues is None else episodes.pop(result.continues)
        episodes[trial] = before + result.episodes
    return [TrainedOrder(trial, results[trial], total) for trial, total in episodes.items()]


def _number(value: float | None) -> float | None:
    return None if value is None else float(value)
