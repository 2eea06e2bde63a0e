"""The orders from best to worst as a search leaves them, and how sure the first place is.

Rewards are what the Gaussian process believes after all results, of each order as far as it is trained. So
an order that was never trained has a place as well, and a lucky evaluation counts for less than its figure.
Orders that no rule tells apart share one place. Those whose training did not keep to the order rank below all
others, whatever they earned.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workflow_rl.equivalent_orders import OrderClasses
from workflow_rl.evaluation import NORMAL_95
from workflow_rl.gaussian_process import OrderPosterior
from workflow_rl.trials import OrderResult
from workflow_rl.workflow import Workflow

_NUM_SAMPLES = 10_000


@dataclass(frozen=True)
class RankedOrder:
    """An order, or several that no rule tells apart, and what is known of it.

    Attributes:
        rank: from 1.
        workflow: the order; of several the one that was trained last, or else the one of the lowest index.
        equivalent: the others.
        reward: expected, in the simulator's units.
        lower: end of the 95 % interval of that.
        upper: its other end.
        chance_to_be_best: that no other order earns more as far as each is trained, those aside that were
            trained and not kept to, which have none.
        result: of the last training; `None` for an order that was predicted from others.
        episodes: training episodes spent on it.
    """

    rank: int
    workflow: Workflow
    equivalent: tuple[Workflow, ...]
    reward: float
    lower: float
    upper: float
    chance_to_be_best: float
    result: OrderResult | None
    episodes: int


@dataclass(frozen=True)
class _Class:
    """Orders that no rule tells apart, as indices, and the results of any of them, oldest first."""

    members: tuple[int, ...]
    results: tuple[OrderResult, ...]

    @property
    def is_missed(self) -> bool:
        """Whether the last training did not keep to the order as well as the run demands."""
        return bool(self.results) and not self.results[-1].met_threshold

    @property
    def index(self) -> int:
        """The order that stands for all."""
        return self.results[-1].workflow.index if self.results else self.members[0]


def rank_orders(
    results: Sequence[OrderResult], belief: OrderPosterior, classes: OrderClasses, draws: np.random.Generator
) -> list[RankedOrder]:
    """All orders, best first.

    Args:
        results: of the search, oldest first.
        belief: after them.
        classes: which orders no rule tells apart.
        draws: sample what the orders may earn together, for the chances.
    """
    sorted_classes = sorted(
        _classes(results, classes), key=lambda group: (group.is_missed, -belief.mean[group.index])
    )
    is_eligible = np.array([not group.is_missed for group in sorted_classes])
    indices = np.array([group.index for group in sorted_classes])
    chances = _chances_to_be_best(belief.samples(draws, _NUM_SAMPLES)[:, indices], is_eligible)
    margins = NORMAL_95 * belief.standard_deviation
    return [
        RankedOrder(
            rank=place + 1,
            workflow=Workflow.from_index(group.index),
            equivalent=tuple(Workflow.from_index(i) for i in group.members if i != group.index),
            reward=float(belief.mean[group.index]),
            lower=float(belief.mean[group.index] - margins[group.index]),
            upper=float(belief.mean[group.index] + margins[group.index]),
            chance_to_be_best=float(chances[place]),
            result=group.results[-1] if group.results else None,
            episodes=sum(result.episodes for result in group.results),
        )
        for place, group in enumerate(sorted_classes)
    ]


def best_trained(ranking: Sequence[RankedOrder]) -> RankedOrder | None:
    """The first order that was trained and kept to; without one, of those trained the one kept to best.

    Compliance that is undefined counts as less than 0. `None` if no order was trained.
    """
    trained = [order for order in ranking if order.result is not None]
    kept = [order for order in trained if order.result is not None and order.result.met_threshold]
    return next(iter(kept), None) or max(trained, key=_compliance, default=None)


def _compliance(order: RankedOrder) -> float:
    return -1.0 if order.result is None or order.result.compliance is None else order.result.compliance


def _classes(results: Sequence[OrderResult], classes: OrderClasses) -> Iterator[_Class]:
    representative = classes.representative
    for first in classes.representatives():
        yield _Class(
            members=tuple(np.flatnonzero(representative == first).tolist()),
            results=tuple(r for r in results if representative[r.workflow.index] == first),
        )


def _chances_to_be_best(samples: NDArray[np.float64], is_eligible: NDArray[np.bool_]) -> NDArray[np.float64]:
    """How often each column of samples (count, n) is the highest among the eligible ones, (n,)."""
    if not is_eligible.any():
        return np.zeros(len(is_eligible))
    best = np.where(is_eligible, samples, -np.inf).argmax(axis=1)
    return np.bincount(best, minlength=len(is_eligible)) / len(samples)
