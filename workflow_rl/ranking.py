"""The orders from best to worst as a search leaves them, and how sure the first place is.

A policy keeps to more orders than the one it was trained for: whoever cleans enterprise hosts before user
hosts keeps to every order that asks for that, if other types are hardly ever compromised together. So an
order is worth what the best policy earns that keeps to it, be it trained for this order or *serve* it from
another one. Orders that are served by one policy share its place.

Rewards are what the Gaussian process believes after all results, of each policy as far as it is trained, so a
lucky evaluation counts for less than its figure; an order that no policy keeps to and that was never trained
has a predicted place. Orders that no rule tells apart are one. Those that were trained and that no policy
keeps to rank below all others, whatever was earned.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from workflow_rl.equivalent_orders import OrderClasses
from workflow_rl.evaluation import NORMAL_95
from workflow_rl.gaussian_process import OrderPosterior
from workflow_rl.trials import OrderResult, TrainedOrder, trained_orders
from workflow_rl.workflow import Workflow

Status = Literal["kept", "served", "missed", "predicted"]

_NUM_SAMPLES = 10_000


@dataclass(frozen=True)
class RankedOrder:
    """An order, or several that no rule tells apart, and what is known of it.

    Attributes:
        rank: from 1; orders that one policy serves share it, and the next ones are left out.
        workflow: the order; of several the one that was trained last, or else the one of the lowest index.
        equivalent: the others.
        status: "kept" if its own policy keeps to it and no other is believed to do so and earn more; "served"
            if another policy does; without a policy that keeps to it "missed" if it was trained, "predicted"
            if it was not.
        reward: expected of that policy, in the simulator's units; without one, of the order.
        lower: end of the 95 % interval of that.
        upper: its other end.
        chance_to_be_best: that no other order earns more. Orders that one policy serves are the best
            together, and each has the whole chance, so that chances may add up to more than 1. Those that are
            missed have none.
        training: of that policy, or the order's own if it is missed; `None` for an order that is predicted.
        compliance: of that policy with this order, 0..1; `None` without one, or without a fix to judge.
        observed_compliance: the same, judged by what blue's observation showed.
        episodes: training episodes spent on the order itself.
    """

    rank: int
    workflow: Workflow
    equivalent: tuple[Workflow, ...]
    status: Status
    reward: float
    lower: float
    upper: float
    chance_to_be_best: float
    training: TrainedOrder | None
    compliance: float | None
    observed_compliance: float | None
    episodes: int


@dataclass(frozen=True)
class _Class:
    """Orders that no rule tells apart, as indices, and the trainings of any of them, oldest first."""

    members: tuple[int, ...]
    trainings: tuple[TrainedOrder, ...]

    @property
    def index(self) -> int:
        """The order that stands for all."""
        return self.trainings[-1].result.workflow.index if self.trainings else self.members[0]


@dataclass(frozen=True)
class _Place:
    """What a class is worth.

    Attributes:
        orders: the class.
        status: as in `RankedOrder`.
        training: as in `RankedOrder`.
        compliance: as in `RankedOrder`.
        observed_compliance: as in `RankedOrder`.
    """

    orders: _Class
    status: Status
    training: TrainedOrder | None = None
    compliance: float | None = None
    observed_compliance: float | None = None

    @property
    def earner(self) -> int:
        """The order whose expected reward it is."""
        return self.orders.index if self.training is None else self.training.result.workflow.index


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
    places = _places(list(_classes(results, classes)), belief)
    chances = _chances_to_be_best(belief.samples(draws, _NUM_SAMPLES), places)
    margins = NORMAL_95 * belief.standard_deviation
    return [
        RankedOrder(
            rank=rank,
            workflow=Workflow.from_index(place.orders.index),
            equivalent=tuple(Workflow.from_index(i) for i in place.orders.members if i != place.orders.index),
            status=place.status,
            reward=float(belief.mean[place.earner]),
            lower=float(belief.mean[place.earner] - margins[place.earner]),
            upper=float(belief.mean[place.earner] + margins[place.earner]),
            chance_to_be_best=float(chance),
            training=place.training,
            compliance=place.compliance,
            observed_compliance=place.observed_compliance,
            episodes=sum(training.episodes for training in place.orders.trainings),
        )
        for rank, place, chance in zip(_ranks(places), places, chances, strict=True)
    ]


def best_trained(ranking: Sequence[RankedOrder]) -> RankedOrder | None:
    """The first order that was trained and kept to; without one, of those trained the one kept to best.

    It is never one that is served: its policy is told the order. Compliance that is undefined counts as less
    than 0. `None` if no order was trained.
    """
    kept = (order for order in ranking if order.status == "kept")
    missed = (order for order in ranking if order.status == "missed")
    return next(kept, None) or max(missed, key=_compliance, default=None)


def _compliance(order: RankedOrder) -> float:
    return -1.0 if order.compliance is None else order.compliance


def _classes(results: Sequence[OrderResult], classes: OrderClasses) -> Iterator[_Class]:
    representative, trained = classes.representative, trained_orders(results)
    for first in classes.representatives():
        yield _Class(
            members=tuple(np.flatnonzero(representative == first).tolist()),
            trainings=tuple(t for t in trained if representative[t.result.workflow.index] == first),
        )


def _places(groups: Sequence[_Class], belief: OrderPosterior) -> list[_Place]:
    """What each class is worth, best first; of those that one policy serves its own class first.

    Only a policy that keeps to its own order serves others, so that whatever leads can be delivered: as the
    policy of that order, which it is told.
    """

    def by_reward(training: TrainedOrder) -> float:
        return -float(belief.mean[training.result.workflow.index])

    last = [group.trainings[-1] for group in groups if group.trainings]
    policies = sorted((training for training in last if training.result.met_threshold), key=by_reward)
    return sorted(
        (_place(group, policies) for group in groups),
        key=lambda place: (
            place.status == "missed",
            -belief.mean[place.earner],
            place.earner,
            place.status == "served",
        ),
    )


def _place(orders: _Class, policies: Sequence[TrainedOrder]) -> _Place:
    """What a class is worth, by the first of some policies that keeps to it."""
    for policy in policies:
        for kept in policy.result.kept_orders:
            if kept.workflow.index == orders.members[0]:
                status: Status = "kept" if policy in orders.trainings else "served"
                return _Place(orders, status, policy, kept.compliance, kept.observed_compliance)
    if not orders.trainings:
        return _Place(orders, "predicted")
    result = orders.trainings[-1].result
    return _Place(orders, "missed", orders.trainings[-1], result.compliance, result.observed_compliance)


def _ranks(places: Sequence[_Place]) -> list[int]:
    """From 1; places that are due to one policy, which follow one another, share the first one's."""
    ranks: list[int] = []
    for number, place in enumerate(places):
        is_shared = (
            number > 0 and place.training is not None and place.training == places[number - 1].training
        )
        ranks.append(ranks[-1] if is_shared else number + 1)
    return ranks


def _chances_to_be_best(samples: NDArray[np.float64], places: Sequence[_Place]) -> NDArray[np.float64]:
    """How often each of (n,) places earns as much as the best of those that are not missed.

    Args:
        samples: what the orders may earn together, (count, 120).
        places: best first.
    """
    is_eligible = np.array([place.status != "missed" for place in places])
    if not is_eligible.any():
        return np.zeros(len(places))
    earned = np.where(is_eligible, samples[:, [place.earner for place in places]], -np.inf)
    return np.asarray((earned == earned.max(axis=1, keepdims=True)).mean(axis=0))
