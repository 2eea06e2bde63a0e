"""The ranking at the end of a search: places, who serves whom, chances, and which order is delivered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from workflow_rl.equivalent_orders import OrderClasses
from workflow_rl.evaluation import KeptOrder
from workflow_rl.gaussian_process import OrderPosterior, posterior
from workflow_rl.ranking import RankedOrder, best_trained, rank_orders
from workflow_rl.settings import AlignmentSettings
from workflow_rl.trials import OrderResult
from workflow_rl.workflow import all_workflows

WORKFLOWS = all_workflows()
ALL_DIFFERENT = OrderClasses.all_different()
AGAINST_B_LINE = OrderClasses.in_training("B_lineAgent", AlignmentSettings(alignment="violation"))


def result(
    index: int,
    reward: float,
    *,
    met_threshold: bool = True,
    compliance: float | None = 0.97,
    also_keeps: Sequence[int] = (),
) -> OrderResult:
    """A policy that keeps to its own order if it met the threshold, and to some others at 0.96."""
    own = [KeptOrder(WORKFLOWS[index], 0.97, 0.98)] if met_threshold else []
    return OrderResult(
        workflow=WORKFLOWS[index],
        reward=reward,
        standard_error=0.5,
        compliance=compliance,
        observed_compliance=compliance,
        episodes=500,
        met_threshold=met_threshold,
        kept_orders=(*own, *(KeptOrder(WORKFLOWS[other], 0.96, None) for other in also_keeps)),
    )


def ranking(*results: OrderResult, classes: OrderClasses = ALL_DIFFERENT) -> list[RankedOrder]:
    return rank_orders(results, posterior(results, classes), classes, np.random.default_rng(0))


def believed(rewards: Mapping[int, float], *, variance: float = 2.0) -> OrderPosterior:
    """Independent beliefs; of orders that are not named, that they are far worse."""
    mean = np.full(120, -200.0)
    mean[list(rewards)] = list(rewards.values())
    return OrderPosterior(mean, np.diag(np.full(120, variance)), -200.0, 1.0, np.ones(10), False)


def test_every_order_has_a_place() -> None:
    ranked = ranking(result(3, -40.0), result(80, -60.0))
    assert sorted(order.workflow.index for order in ranked) == list(range(120))
    assert [order.rank for order in ranked] == list(range(1, 121))
    rewards = [order.reward for order in ranked]
    assert rewards == sorted(rewards, reverse=True)
    assert sum(order.chance_to_be_best for order in ranked) == pytest.approx(1.0)
    trained = [order for order in ranked if order.training is not None]
    assert [(order.workflow.index, order.episodes, order.status) for order in trained] == [
        (3, 500, "kept"),
        (80, 500, "kept"),
    ]
    assert {order.status for order in ranked if order.training is None} == {"predicted"}


def test_an_order_that_no_policy_keeps_to_ranks_below_all_others() -> None:
    ranked = ranking(result(3, -20.0, met_threshold=False), result(80, -60.0))
    assert (ranked[-1].workflow.index, ranked[-1].status) == (3, "missed")
    assert ranked[-1].chance_to_be_best == 0
    assert all(other.reward < ranked[-1].reward for other in ranked[:-1])


def test_orders_that_no_rule_tells_apart_share_a_place() -> None:
    one, other = (
        int(index)
        for index in np.flatnonzero(AGAINST_B_LINE.representative == AGAINST_B_LINE.representative[0])[:2]
    )
    results = result(one, -50.0), result(other, -30.0, also_keeps=[one])  # the class goes by its lowest index
    ranked = ranking(*results, classes=AGAINST_B_LINE)
    assert len(ranked) == len(AGAINST_B_LINE.representatives())
    assert sum(1 + len(order.equivalent) for order in ranked) == 120
    (trained,) = [order for order in ranked if order.training is not None]
    assert (trained.workflow.index, trained.episodes, trained.status) == (other, 1000, "kept")
    assert WORKFLOWS[one] in trained.equivalent
    assert -50 < trained.reward < -30


def test_chances_and_intervals_are_those_of_the_belief() -> None:
    results = [result(7, -20.0), result(9, -21.0)]
    first, second, *_ = rank_orders(
        results, believed({7: -20.0, 9: -21.0}), ALL_DIFFERENT, np.random.default_rng(1)
    )
    assert (first.workflow.index, second.workflow.index) == (7, 9)
    assert first.chance_to_be_best == pytest.approx(
        norm.cdf(1.0 / 2.0), abs=0.02
    )  # deviation of a difference
    assert (first.lower, first.upper) == pytest.approx((-20 - 1.96 * 2**0.5, -20 + 1.96 * 2**0.5))


def test_a_policy_serves_every_order_that_it_keeps_to() -> None:
    """Here to one that was trained less, one whose own training missed it, and one that was not trained."""
    results = [result(7, -20.0, also_keeps=[9, 30, 60]), result(9, -25.0), result(80, -21.0)]
    missed = result(60, -15.0, met_threshold=False)
    belief = believed({7: -20.0, 80: -21.0, 9: -25.0, 60: -15.0, 30: -90.0})
    ranked = rank_orders([*results, missed], belief, ALL_DIFFERENT, np.random.default_rng(1))
    shown = [(order.rank, order.workflow.index, order.status, order.episodes) for order in ranked[:6]]
    assert shown == [
        (1, 7, "kept", 500),
        (1, 9, "served", 500),
        (1, 30, "served", 0),
        (1, 60, "served", 500),
        (5, 80, "kept", 500),
        (6, 0, "predicted", 0),
    ]
    own, *served = ranked[:4]
    for order in served:
        assert (order.reward, order.lower, order.upper) == (own.reward, own.lower, own.upper)
        assert order.training == own.training
        assert (order.compliance, order.observed_compliance) == (0.96, None)
    assert own.compliance == 0.97
    assert own.training is not None
    assert (own.training.trial, own.training.result) == (0, results[0])


def test_orders_that_one_policy_serves_are_the_best_together() -> None:
    results = [result(7, -20.0, also_keeps=[30]), result(9, -21.0)]
    belief = believed({7: -20.0, 9: -21.0})
    ranked = rank_orders(results, belief, ALL_DIFFERENT, np.random.default_rng(1))
    chances = {order.workflow.index: order.chance_to_be_best for order in ranked}
    assert chances[30] == chances[7] == pytest.approx(norm.cdf(1.0 / 2.0), abs=0.02)
    assert chances[7] + chances[9] == pytest.approx(1.0)


def test_an_order_is_served_by_the_best_policy_that_keeps_to_it() -> None:
    """Its own counts only as one of them; one that does not keep to its own order serves none."""
    results = [
        result(7, -20.0, also_keeps=[9]),
        result(9, -18.0, also_keeps=[30]),
        result(40, -10.0, met_threshold=False, also_keeps=[7, 9]),
    ]
    belief = believed({7: -20.0, 9: -18.0, 40: -10.0})
    ranked = rank_orders(results, belief, ALL_DIFFERENT, np.random.default_rng(1))
    assert [(order.rank, order.workflow.index, order.status) for order in ranked[:3]] == [
        (1, 9, "kept"),
        (1, 30, "served"),
        (3, 7, "kept"),
    ]
    assert ranked[-1].workflow.index == 40


def test_an_order_goes_by_its_last_training() -> None:
    """What an earlier policy kept to says nothing of the one that took its place."""
    results = [result(7, -20.0, also_keeps=[9]), replace(result(7, -19.0), continues=0)]
    ranked = rank_orders(results, believed({7: -19.0}), ALL_DIFFERENT, np.random.default_rng(0))
    assert (ranked[0].workflow.index, ranked[0].episodes) == (7, 1000)
    assert ranked[0].training is not None
    assert ranked[0].training.trial == 1
    assert next(order for order in ranked if order.workflow.index == 9).status == "predicted"


def test_what_is_delivered_was_trained_and_kept_to() -> None:
    assert best_trained([]) is None
    missed = result(1, -10.0, met_threshold=False)
    best = best_trained(ranking(missed, result(40, -50.0, also_keeps=[1, 2]), result(80, -60.0)))
    assert best is not None
    assert best.workflow.index == 40


def test_without_an_order_that_was_kept_to_the_most_compliant_is_delivered() -> None:
    results = [
        result(1, -10.0, met_threshold=False, compliance=None),
        result(2, -40.0, met_threshold=False, compliance=0.3),
        result(3, -60.0, met_threshold=False, compliance=0.7),
    ]
    best = best_trained(ranking(*results))
    assert best is not None
    assert best.workflow.index == 3
    alone = best_trained(ranking(results[0]))
    assert alone is not None
    assert alone.workflow.index == 1
