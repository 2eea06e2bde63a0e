"""The ranking at the end of a search: places, intervals, chances, and which order is delivered."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from workflow_rl.equivalent_orders import OrderClasses
from workflow_rl.gaussian_process import OrderPosterior, posterior
from workflow_rl.ranking import RankedOrder, best_trained, rank_orders
from workflow_rl.settings import AlignmentSettings
from workflow_rl.trials import OrderResult
from workflow_rl.workflow import Workflow

ALL_DIFFERENT = OrderClasses.all_different()
AGAINST_B_LINE = OrderClasses.in_training("B_lineAgent", AlignmentSettings(alignment="violation"))


def result(
    index: int, reward: float, *, met_threshold: bool = True, compliance: float | None = 0.97
) -> OrderResult:
    return OrderResult(
        workflow=Workflow.from_index(index),
        reward=reward,
        standard_error=0.5,
        compliance=compliance,
        observed_compliance=compliance,
        episodes=500,
        met_threshold=met_threshold,
    )


def ranking(*results: OrderResult, classes: OrderClasses = ALL_DIFFERENT) -> list[RankedOrder]:
    return rank_orders(results, posterior(results, classes), classes, np.random.default_rng(0))


def test_every_order_has_a_place() -> None:
    ranked = ranking(result(3, -40.0), result(80, -60.0))
    assert sorted(order.workflow.index for order in ranked) == list(range(120))
    assert [order.rank for order in ranked] == list(range(1, 121))
    rewards = [order.reward for order in ranked]
    assert rewards == sorted(rewards, reverse=True)
    assert sum(order.chance_to_be_best for order in ranked) == pytest.approx(1.0)
    trained = [order for order in ranked if order.result is not None]
    assert [(order.workflow.index, order.episodes) for order in trained] == [(3, 500), (80, 500)]


def test_an_order_that_was_not_kept_to_ranks_below_all_others() -> None:
    ranked = ranking(result(3, -20.0, met_threshold=False), result(80, -60.0))
    assert ranked[-1].workflow.index == 3
    assert ranked[-1].chance_to_be_best == 0
    assert all(other.reward < ranked[-1].reward for other in ranked[:-1])


def test_orders_that_no_rule_tells_apart_share_a_place() -> None:
    one, other = (
        int(index)
        for index in np.flatnonzero(AGAINST_B_LINE.representative == AGAINST_B_LINE.representative[0])[:2]
    )
    ranked = ranking(result(one, -50.0), result(other, -30.0), classes=AGAINST_B_LINE)
    assert len(ranked) == len(AGAINST_B_LINE.representatives())
    assert sum(1 + len(order.equivalent) for order in ranked) == 120
    (trained,) = [order for order in ranked if order.result is not None]
    assert (trained.workflow.index, trained.episodes) == (other, 1000)
    assert Workflow.from_index(one) in trained.equivalent
    assert -50 < trained.reward < -30


def test_chances_and_intervals_are_those_of_the_belief() -> None:
    mean = np.full(120, -200.0)
    mean[[7, 9]] = -20.0, -21.0
    belief = OrderPosterior(mean, np.diag(np.full(120, 2.0)), -200.0, 1.0, np.ones(10), False)
    first, second, *_ = rank_orders(
        [result(7, -20.0), result(9, -21.0)], belief, ALL_DIFFERENT, np.random.default_rng(1)
    )
    assert (first.workflow.index, second.workflow.index) == (7, 9)
    assert first.chance_to_be_best == pytest.approx(
        norm.cdf(1.0 / 2.0), abs=0.02
    )  # deviation of a difference
    assert (first.lower, first.upper) == pytest.approx((-20 - 1.96 * 2**0.5, -20 + 1.96 * 2**0.5))


def test_what_is_delivered_was_trained_and_kept_to() -> None:
    assert best_trained([]) is None
    missed = result(1, -10.0, met_threshold=False)
    best = best_trained(ranking(missed, result(40, -50.0), result(80, -60.0)))
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
    assert best.result == results[2]
    alone = best_trained(ranking(results[0]))
    assert alone is not None
    assert alone.result == results[0]
