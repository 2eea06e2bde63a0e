"""Training in pieces: who goes on, for how long, and what is expected of those that wait."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

import pytest

from workflow_rl.order_search import OrderSearch
from workflow_rl.settings import SearchSettings
from workflow_rl.successive_halving import (
    Gain,
    episodes_to_rung,
    expected_when_full,
    gains_by_rung,
    order_to_go_on,
)
from workflow_rl.trials import OrderResult, trained_orders
from workflow_rl.workflow import all_workflows

WORKFLOWS = all_workflows()


def result(
    index: int, reward: float, *, continues: int | None = None, rung: int = 0, episodes: int = 10
) -> OrderResult:
    return OrderResult(WORKFLOWS[index], reward, 1.0, 0.97, 0.97, episodes, True, continues, rung)


def going_on(results: Sequence[OrderResult], halvings: int) -> int | None:
    order = order_to_go_on(trained_orders(results), halvings)
    return None if order is None else order.result.workflow.index


@pytest.mark.parametrize(("halvings", "full"), [(0, 10_000), (3, 10_000), (3, 1000), (2, 2)])
def test_trials_double_what_an_order_has_had_until_it_is_full(halvings: int, full: int) -> None:
    episodes = [episodes_to_rung(rung, halvings, full) for rung in range(halvings + 3)]
    had = list(itertools.accumulate(episodes))
    if full >> halvings:
        assert had[: halvings + 1] == [full >> (halvings - rung) for rung in range(halvings + 1)]
    assert episodes[halvings + 1 :] == [full, full]
    assert min(episodes) >= 1


def test_nobody_goes_on_without_halvings_or_alone() -> None:
    assert going_on([result(i, -50.0) for i in range(9)], halvings=0) is None
    assert going_on([result(0, -50.0)], halvings=3) is None


def test_the_better_half_goes_on_the_most_trained_first() -> None:
    first = [result(0, -60.0), result(1, -50.0), result(2, -55.0), result(3, -70.0)]
    assert going_on(first[:2], halvings=2) == 1
    assert going_on(first, halvings=2) == 1
    once = [*first, result(1, -49.0, continues=1, rung=1)]
    assert going_on(once, halvings=2) == 2
    twice = [*once, result(2, -40.0, continues=2, rung=1)]
    assert going_on(twice, halvings=2) == 2, "of the two that had more it is the better one"
    assert going_on(twice, halvings=1) is None, "both are fully trained"
    full = [*twice, result(2, -39.0, continues=5, rung=2)]
    assert going_on(full, halvings=2) is None


def test_who_has_fallen_behind_does_not_go_on() -> None:
    """An order that others have overtaken since is no longer in the better half."""
    results = [result(0, -50.0), result(1, -60.0), result(2, -40.0), result(3, -41.0)]
    assert going_on(results, halvings=1) == 2
    assert going_on([*results, result(2, -39.0, continues=2, rung=1)], halvings=1) == 3


def test_who_missed_the_threshold_is_worse_than_who_met_it() -> None:
    missed = replace(result(0, -10.0), met_threshold=False)
    assert going_on([missed, result(1, -50.0)], halvings=1) == 1


def test_who_was_trained_in_full_at_once_does_not_go_on_and_is_one_to_be_better_than() -> None:
    full = result(0, -50.0, rung=2)
    assert going_on([full, result(1, -60.0)], halvings=2) is None
    assert going_on([full, result(1, -40.0)], halvings=2) == 1


def test_trainings_follow_what_went_on() -> None:
    results = [result(0, -9.0), result(1, -8.0), result(0, -7.0, continues=0, rung=1, episodes=30)]
    assert [(order.trial, order.episodes) for order in trained_orders(results)] == [(1, 10), (2, 40)]


def test_gains_are_those_of_each_rung() -> None:
    results = [
        result(0, -60.0),
        result(1, -50.0),
        result(0, -50.0, continues=0, rung=1),
        result(1, -46.0, continues=1, rung=1),
        result(0, -49.0, continues=2, rung=2),
        result(0, -9.0, continues=4, rung=3),
        result(2, -90.0, rung=2),
        result(2, -20.0, continues=6, rung=3),
    ]
    assert gains_by_rung(results, halvings=2) == [
        Gain(7.0, pytest.approx((9 + 9 + 49) / 2)),
        Gain(1.0, pytest.approx(1.0)),
    ]
    assert gains_by_rung(results[:2], halvings=2) == [Gain(0.0, 0.0)] * 2


def test_who_has_had_less_is_expected_to_gain_what_others_gained() -> None:
    results = [
        result(0, -60.0),
        result(1, -50.0),
        result(0, -52.0, continues=0, rung=1),
        result(2, -44.0, rung=1),
    ]
    waiting, *full = expected_when_full(trained_orders(results), results, halvings=1)
    assert (waiting.workflow, waiting.reward) == (WORKFLOWS[1], -42.0)
    assert waiting.standard_error == pytest.approx((1 + 64) ** 0.5)
    expected = [(WORKFLOWS[0], -52.0, 1.0), (WORKFLOWS[2], -44.0, 1.0)]
    assert [(one.workflow, one.reward, one.standard_error) for one in full] == expected


@pytest.mark.parametrize("strategy", ["gp-ucb", "random"])
def test_a_search_spends_more_on_better_orders(strategy: str) -> None:
    """On a landscape of learning curves that rise to the middle of the orders."""
    settings = SearchSettings(
        search_strategy=strategy, halvings=3, max_episodes_per_workflow=800, refining_share=0.0
    )
    search = OrderSearch(settings, seed=1)
    counts = [0] * 120
    for _ in range(60):
        trial = search.suggest()
        index = trial.workflow.index
        counts[index] += trial.episodes
        reward = -60.0 - abs(index - 40) / 5 - 500 / counts[index]
        search.observe(
            result(index, reward, continues=trial.continues, rung=trial.rung, episodes=trial.episodes)
        )
    fresh = {one.workflow.index for one in search.results[:2]}
    assert [one.episodes for one in search.results[:2]] == [800, 800]
    distances = {
        count: [abs(i - 40) for i in range(120) if counts[i] == count and i not in fresh]
        for count in set(counts)
    }
    few, many = (
        [distance for count, some in distances.items() if is_kind(count) for distance in some]
        for is_kind in (lambda count: count == 100, lambda count: count >= 400)
    )
    assert many
    assert fmean(many) < fmean(few)
