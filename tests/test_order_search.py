"""The search over orders: synthetic landscapes, interruptions, orders that cannot be learnt."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import wilcoxon

from workflow_rl.bench.search_landscapes import FULL, LANDSCAPES, regrets
from workflow_rl.equivalent_orders import OrderClasses
from workflow_rl.evaluation import KeptOrder
from workflow_rl.order_search import OrderSearch
from workflow_rl.search_strategies import (
    STRATEGIES,
    Evidence,
    chances_to_be_learnt,
    expected_improvements,
    exploration_weight,
    outcome,
    sampled_scores,
)
from workflow_rl.settings import SearchSettings
from workflow_rl.trials import OrderResult, Trial
from workflow_rl.workflow import HostType, all_workflows

WORKFLOWS = all_workflows()
RANKS = np.array([workflow.ranks for workflow in WORKFLOWS], np.float64)
DISTANCES = np.array([[a.kendall_distance(b) for b in WORKFLOWS] for a in WORKFLOWS])


ALL = OrderClasses.all_different()
BY_BELIEF = [name for name, strategy in STRATEGIES.items() if strategy.has_belief]


def result(
    index: int,
    reward: float = -60.0,
    *,
    standard_error: float = 1.0,
    compliance: float | None = 0.97,
    met_threshold: bool = True,
    continues: int | None = None,
    rung: int | None = None,
    episodes: int = 500,
) -> OrderResult:
    if rung is None:
        rung = 0 if continues is None else 1
    return OrderResult(
        WORKFLOWS[index],
        reward,
        standard_error,
        compliance,
        compliance,
        episodes,
        met_threshold,
        continues,
        rung,
    )


def search_with(
    *results: OrderResult, seed: int = 0, classes: OrderClasses | None = None, **settings: Any
) -> OrderSearch:
    """Of orders that are trained in full unless `halvings` is given."""
    search = OrderSearch(SearchSettings(**{"halvings": 0, **settings}), classes, seed=seed)
    for one in results:
        search.observe(one)
    return search


def observe_trial(search: OrderSearch, trial: Trial, reward: float, *, met_threshold: bool = True) -> None:
    search.observe(
        result(
            trial.workflow.index,
            reward,
            met_threshold=met_threshold,
            continues=trial.continues,
            rung=trial.rung,
        )
    )


def mallows_landscape(generator: np.random.Generator) -> NDArray[np.float64]:
    covariance = np.exp(-0.2 * DISTANCES) + 1e-9 * np.eye(120)
    return -60 + 5 * np.linalg.cholesky(covariance) @ generator.normal(size=120)


def linear_landscape(generator: np.random.Generator) -> NDArray[np.float64]:
    worth = -RANKS @ generator.normal(size=5)
    return -60 + 5 * (worth - worth.mean()) / worth.std()


def search_landscape(
    rewards: NDArray[np.float64], learnable: NDArray[np.bool_], seed: int, num_trials: int = 25
) -> OrderSearch:
    """Trials with evaluation noise of standard error 1; orders that are not learnable miss the threshold."""
    search, generator = search_with(seed=seed), np.random.default_rng(1000 + seed)
    for _ in range(num_trials):
        trial = search.suggest()
        index = trial.workflow.index
        reward = rewards[index] + generator.normal()
        observe_trial(search, trial, reward, met_threshold=bool(learnable[index]))
    return search


def regret(search: OrderSearch, rewards: NDArray[np.float64], learnable: NDArray[np.bool_]) -> float:
    """By how much the order that the search reports is worse than the best learnable one, without noise."""
    best = max((r for r in search.results if r.met_threshold), key=lambda r: r.reward)
    assert learnable[best.workflow.index]
    return float(rewards[learnable].max() - rewards[best.workflow.index])


def random_regrets(rewards: NDArray[np.float64], learnable: NDArray[np.bool_]) -> list[float]:
    """The same of 50 random searches over 25 different orders each."""
    regrets = []
    for repetition in range(50):
        generator = np.random.default_rng(2000 + repetition)
        tried = generator.permutation(120)[:25]
        learnt = tried[learnable[tried]]
        reported = learnt[(rewards[learnt] + generator.normal(size=len(learnt))).argmax()]
        regrets.append(float(rewards[learnable].max() - rewards[reported]))
    return regrets


def regrets_on(landscape: str, strategy: str, num_trials: int) -> NDArray[np.float64]:
    """Regret after so many full trainings, on 30 landscapes of a kind, (30,)."""
    settings = SearchSettings(search_strategy=strategy, halvings=0, max_episodes_per_workflow=FULL)
    budget = np.array([num_trials * FULL])
    return np.array(
        [
            regrets(LANDSCAPES[landscape](np.random.default_rng(seed)), settings, budget, seed)[0]
            for seed in range(30)
        ]
    )


@pytest.mark.parametrize(("landscape", "num_trials"), [("one pair", 10), ("curves", 8)])
def test_gp_ucb_is_significantly_better_than_random_search(landscape: str, num_trials: int) -> None:
    """Wilcoxon's signed rank test over 30 landscapes, on each of which both are played."""
    ours, by_chance = (regrets_on(landscape, strategy, num_trials) for strategy in ("gp-ucb", "random"))
    assert wilcoxon(ours, by_chance, alternative="less").pvalue < 0.01


@pytest.mark.parametrize("landscape", [mallows_landscape, linear_landscape])
def test_leaves_a_region_that_cannot_be_learnt(
    landscape: Callable[[np.random.Generator], NDArray[np.float64]],
) -> None:
    """Two fifths of the orders, around the best one, always miss: the search must not spend itself there."""
    regrets, by_chance = [], []
    for seed in range(7):
        rewards = landscape(np.random.default_rng(seed))
        learnable = DISTANCES[rewards.argmax()] > 4
        search = search_landscape(rewards, learnable, seed)
        missed = [r.workflow for r in search.results if not r.met_threshold]
        assert len(set(missed)) == len(missed)
        regrets.append(regret(search, rewards, learnable))
        by_chance += random_regrets(rewards, learnable)
    assert np.mean(regrets) < 0.75 * np.mean(by_chance)


def test_first_suggestion_is_seeded_and_promises_nothing() -> None:
    suggestions = [search_with(seed=seed).suggest() for seed in range(40)]
    assert all(s.mean is s.standard_deviation is s.upper_confidence_bound is None for s in suggestions)
    assert len({s.workflow.index for s in suggestions}) > 25


def test_suggests_the_highest_upper_confidence_bound() -> None:
    results = result(0, -50), result(60, -70), result(119, -65), result(7, -52)
    suggestion = search_with(*results).suggest()
    assert suggestion.mean is not None
    assert suggestion.standard_deviation is not None
    assert suggestion.upper_confidence_bound == pytest.approx(
        suggestion.mean + exploration_weight(2.0, trial=5) * suggestion.standard_deviation
    )
    greedy, curious = (search_with(*results, ucb_beta=beta) for beta in (0.0, 50.0))
    assert greedy.suggest().workflow == WORKFLOWS[0]
    assert curious.suggest().workflow not in {r.workflow for r in results}


def evidence_of(*results: OrderResult, seed: int = 0) -> Evidence:
    return Evidence(
        observations=results,
        outcomes=[outcome(one, is_full=True, threshold=0.95) for one in results],
        classes=ALL,
        weight=2.0,
        draws=np.random.default_rng(seed),
    )


def test_expected_improvements_are_those_of_samples() -> None:
    evidence = evidence_of(*(result(i, -60.0 + i % 7) for i in (0, 17, 40, 63, 88, 119)))
    best = evidence.belief.mean[[0, 17, 40, 63, 88, 119]].max()
    samples = evidence.belief.samples(np.random.default_rng(1), 20_000)
    sampled = np.maximum(samples - best, 0.0).mean(axis=0)
    novelty = 1.0 - 1.0 / np.sqrt(1.0 + evidence.belief.standard_deviation**2)
    np.testing.assert_allclose(expected_improvements(evidence), novelty * sampled, atol=0.05)


def test_without_a_learnt_order_any_improves_on_the_lowest_mean() -> None:
    exact = [result(i, -60.0 + i, met_threshold=False, standard_error=0.0) for i in range(3)]
    evidence = evidence_of(*exact)
    gain = evidence.belief.mean - evidence.belief.mean.min()
    assert (expected_improvements(evidence) >= 0.999 * gain * evidence.chances).all()


def test_thompson_draws_orders_as_often_as_they_are_the_best() -> None:
    results = [result(i, -60.0 + i % 7) for i in (0, 17, 40, 63, 88, 119)]
    evidence = evidence_of(*results)
    chosen = [int(sampled_scores(evidence).argmax()) for _ in range(300)]
    samples = evidence.belief.samples(np.random.default_rng(9), 20_000)
    chances = np.bincount(samples.argmax(axis=1), minlength=120) / 20_000
    shares = np.bincount(chosen, minlength=120) / 300
    np.testing.assert_allclose(shares, chances, atol=5 * np.sqrt(0.25 / 300) * np.sqrt(chances.max() * 4))


@pytest.mark.parametrize("strategy", ["random", "round-robin"])
def test_searches_without_a_belief_take_every_order_once_before_any_twice(strategy: str) -> None:
    search = search_with(search_strategy=strategy, seed=5, total_episodes=10**6)
    orders = []
    for number in range(240):
        trial = search.suggest()
        orders.append(trial.workflow.index)
        assert (trial.mean, trial.upper_confidence_bound) == (None, None)
        observe_trial(search, trial, -60.0, met_threshold=number % 3 > 0)
    for half in (orders[:120], orders[120:]):
        assert sorted(half) == list(range(120))
        assert (half == list(range(120))) is (strategy == "round-robin")
    assert (orders[:120] == orders[120:]) is (strategy == "round-robin")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_equivalent_orders_are_one_order(strategy: str) -> None:
    classes = OrderClasses.of(
        frozenset({HostType.ENTERPRISE, HostType.OP_SERVER, HostType.USER}), "reachable"
    )
    search, draws = search_with(search_strategy=strategy, classes=classes), np.random.default_rng(0)
    suggested = set()
    for _ in range(12):
        trial = search.suggest()
        suggested.add(trial.workflow.index)
        observe_trial(search, trial, -60.0 + draws.normal())
    assert suggested <= set(classes.representatives().tolist())
    assert len(suggested) > 3


def test_an_order_goes_on_from_what_was_learnt_about_an_equivalent_one() -> None:
    classes = OrderClasses.of(frozenset({HostType.ENTERPRISE, HostType.USER}), "reachable")
    trained = [result(index, -50.0 - index) for index in (3, 110)]
    trial = search_with(*trained, classes=classes, ucb_beta=0.0).suggest()
    assert (trial.workflow, trial.continues) == (WORKFLOWS[3], 0)


def test_a_result_takes_the_place_of_the_one_it_went_on_from() -> None:
    others = result(30, -70.0), result(90, -71.0)
    undertrained = search_with(result(0, -90.0), *others, result(0, -40.0, continues=0), ucb_beta=0.0)
    trial = undertrained.suggest()
    assert (trial.workflow, trial.continues) == (WORKFLOWS[0], 3)
    assert trial.mean == search_with(result(0, -40.0), *others, ucb_beta=0.0).suggest().mean


def test_round_robin_starts_at_the_first_order() -> None:
    assert search_with(search_strategy="round-robin", seed=3).suggest().workflow == WORKFLOWS[0]


def test_exploration_follows_theorem_1() -> None:
    """Srinivas et al. 2010: beta_t = 2 log(|D| t^2 pi^2 / (6 delta)), |D| = 120, delta = 0.1."""
    theorem = [np.sqrt(2 * np.log(120 * t**2 * np.pi**2 / 0.6)) for t in (1, 2, 25, 1000)]
    ours = [exploration_weight(theorem[0], trial) for trial in (1, 2, 25, 1000)]
    np.testing.assert_allclose(ours, theorem)


def test_asking_twice_gives_the_same_answer() -> None:
    search = search_with(result(3), result(40))
    assert search.suggest() == search.suggest()


def test_ties_are_broken_by_seed() -> None:
    """After one result the reversed order stands alone; after these two, several orders are equal."""
    assert search_with(result(0)).suggest().workflow == WORKFLOWS[119]
    suggested = {search_with(result(0), result(119), seed=seed).suggest().workflow for seed in range(20)}
    assert len(suggested) > 3
    assert len({workflow.kendall_distance(WORKFLOWS[0]) for workflow in suggested}) == 1


def resumed(search: OrderSearch, **settings: Any) -> OrderSearch:
    """A search that went through a JSON file."""
    other = search_with(**settings)
    other.restore(json.loads(json.dumps(search.to_state(), allow_nan=False)))
    return other


@pytest.mark.parametrize("halvings", [0, 2])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_state_survives_a_json_file_in_the_middle(strategy: str, halvings: int) -> None:
    settings = {"search_strategy": strategy, "halvings": halvings}
    rewards, search = mallows_landscape(np.random.default_rng(5)), search_with(**settings)
    for _ in range(6):
        trial = search.suggest()
        observe_trial(search, trial, rewards[trial.workflow.index])
    other = resumed(search, **settings)
    for _ in range(4):
        trial = search.suggest()
        assert other.suggest() == trial
        for one in (search, other):
            observe_trial(one, trial, rewards[trial.workflow.index])
    assert other.results == search.results


def test_a_trial_survives_a_json_file() -> None:
    trial = search_with(result(0, -50.1), result(60, -70.7)).suggest()
    assert Trial.from_state(json.loads(json.dumps(trial.to_state()))) == trial


def test_state_keeps_odd_values_exactly() -> None:
    search = search_with(
        result(11, -0.1 - 0.2, standard_error=5e-324, compliance=None, met_threshold=False),
        result(12, np.float32(1 / 3), compliance=np.float64(2 / 3), met_threshold=np.True_, continues=0),
    )
    assert resumed(search).results == search.results
    assert resumed(search).to_state() == search.to_state()


def test_state_keeps_the_orders_that_a_policy_keeps_to() -> None:
    kept = (KeptOrder(WORKFLOWS[1], 0.96, None), KeptOrder(WORKFLOWS[2], 1 / 3 + 2 / 3, 0.1 + 0.2))
    search = search_with(replace(result(1), kept_orders=kept))
    assert resumed(search).results == search.results
    state = search.to_state()
    del state["results"][0]["kept_orders"]  # as checkpoints of earlier commits are
    with pytest.raises(KeyError):
        search_with().restore(state)


def test_state_that_is_not_one_is_refused() -> None:
    state = search_with(result(1)).to_state()
    state["results"][0]["workflow"] = "defender,defender,op_server,op_host,user"
    with pytest.raises(ValueError, match="once"):
        search_with().restore(state)


_TRIALS = """
from workflow_rl.order_search import OrderSearch
from workflow_rl.settings import SearchSettings
from workflow_rl.trials import OrderResult
suggestions = []
for strategy in ("gp-ucb", "thompson"):
    search = OrderSearch(SearchSettings(search_strategy=strategy, halvings=1), seed=3)
    for number in range(6):
        suggestions.append(trial := search.suggest())
        reward = -50.0 - (trial.workflow.index * 37) % 11
        measured = (reward, 1.5, 0.9, 0.8, 100, number % 3 > 0)
        search.observe(OrderResult(trial.workflow, *measured, trial.continues, trial.rung))
"""


def test_suggestions_do_not_depend_on_the_process() -> None:
    here: dict[str, list[Trial]] = {}
    exec(_TRIALS, here)
    elsewhere = subprocess.run(
        [sys.executable, "-c", f"{_TRIALS}\nprint(suggestions)"],
        env={**os.environ, "PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert elsewhere.stdout.strip() == str(here["suggestions"])


def test_first_orders_stay_what_they_were() -> None:
    """A change here changes every seeded run: it belongs in the changelog."""
    assert [search_with(seed=seed).suggest().workflow.index for seed in range(5)] == [49, 14, 37, 30, 7]


def test_an_order_that_missed_is_set_aside_however_good_its_reward() -> None:
    others = [result(i, -60.0 - i % 5, met_threshold=False) for i in range(1, 119)]
    for met_threshold, expected in ((True, 0), (False, 119)):
        search = search_with(*others, result(0, 0.0, met_threshold=met_threshold))
        assert search.suggest().workflow == WORKFLOWS[expected]


def chances(results: Sequence[OrderResult], weight: float) -> NDArray[np.float64]:
    return chances_to_be_learnt([outcome(one, is_full=True, threshold=0.95) for one in results], ALL, weight)


def test_chances_fall_around_a_miss_only() -> None:
    met = [result(i) for i in (20, 45, 119)]
    np.testing.assert_array_equal(chances(met, 1.0), np.ones(120))
    fallen = chances([*met, result(0, met_threshold=False)], 0.0)
    neighbours = np.flatnonzero(DISTANCES[0] == 1)
    assert fallen[0] < fallen[neighbours].max() < fallen[[20, 45, 119]].min()
    assert chances([result(i, met_threshold=False) for i in range(9)], 0.0).min() > 0


@pytest.mark.parametrize(
    ("one", "is_full", "value"),
    [
        (result(0), True, 1.0),
        (result(0), False, 1.0),
        (result(0, compliance=0.76, met_threshold=False), True, 0.0),
        (result(0, compliance=0.76, met_threshold=False), False, 0.8),
        (result(0, compliance=None, met_threshold=False), False, 0.0),
    ],
)
def test_an_order_has_failed_only_when_it_was_fully_trained(
    one: OrderResult, is_full: bool, value: float
) -> None:
    assert outcome(one, is_full=is_full, threshold=0.95).reward == pytest.approx(value)


def test_orders_that_missed_come_back_when_all_have_been_tried() -> None:
    search = search_with(*(result(i, -60.0, met_threshold=False) for i in range(119)))
    assert search.suggest().workflow == WORKFLOWS[119]
    search.observe(result(119, -99.0, met_threshold=False))
    second_round = []
    for _ in range(4):
        second_round.append(search.suggest().workflow)
        search.observe(result(second_round[-1].index, -20.0, met_threshold=False))
    assert len(set(second_round)) == 4
    assert WORKFLOWS[119] not in second_round


def test_every_order_is_tried_once_before_any_twice_if_none_can_be_learnt() -> None:
    classes = OrderClasses.of(frozenset(HostType) - {HostType.DEFENDER}, "reachable")
    search, draws = search_with(classes=classes, seed=1), np.random.default_rng(0)
    for _ in range(24):
        observe_trial(search, search.suggest(), -60.0 + draws.normal(), met_threshold=False)
    assert sorted(r.workflow.index for r in search.results) == classes.representatives().tolist()


def begins_with(*results: OrderResult, **settings: Any) -> int | None:
    """The trial whose policy the next new order begins with."""
    trial = search_with(*results, search_strategy="random", **settings).suggest()
    assert trial.continues is None
    return trial.begins_with


def test_the_first_orders_begin_with_fresh_weights() -> None:
    first, second, third = (result(index, reward) for index, reward in ((3, -60.0), (30, -80.0), (77, -50.0)))
    assert begins_with() is None
    assert begins_with(first) is None
    assert begins_with(first, second) == 0
    assert begins_with(first, fresh_beginnings=1) == 0
    assert begins_with(first, second, fresh_beginnings=3) is None
    assert begins_with(first, second, third, fresh_beginnings=3) == 2


def test_fresh_weights_have_a_full_training_and_the_policy_of_another_a_piece() -> None:
    settings = {"halvings": 2, "max_episodes_per_workflow": 400}
    search = search_with(**settings)
    for episodes, rung in ((400, 2), (400, 2), (100, 0)):
        trial = search.suggest()
        assert (trial.episodes, trial.rung, trial.continues) == (episodes, rung, None)
        observe_trial(search, trial, -60.0)


@pytest.mark.parametrize(("rung", "episodes"), [(0, 100), (1, 200), (2, 400), (3, 400)])
def test_a_belief_asks_for_the_next_piece_of_the_order_it_scores_highest(rung: int, episodes: int) -> None:
    fresh = [result(index, -70.0 - index, rung=2) for index in (1, 2)]
    best = result(60, -20.0, rung=rung)
    search = search_with(*fresh, best, halvings=2, max_episodes_per_workflow=400, ucb_beta=0.0)
    trial = search.suggest()
    assert (trial.workflow, trial.continues) == (WORKFLOWS[60], 2)
    assert (trial.rung, trial.episodes) == (rung + 1, episodes)


def test_what_is_believed_in_the_end_is_of_orders_as_they_are() -> None:
    """An order that waits is asked for because of what it may gain, but delivered as what it is."""
    first, gained = result(1, -40.0, rung=0), result(1, -20.0, continues=0, rung=1)
    waiting = result(60, -22.0, rung=0)
    search = search_with(first, gained, waiting, halvings=1, ucb_beta=0.0)
    assert search.suggest().workflow == WORKFLOWS[60]
    assert search.belief().mean[1] > search.belief().mean[60]
    refining = search_with(first, gained, waiting, halvings=1, ucb_beta=0.0, total_episodes=1500)
    assert refining.suggest().workflow == WORKFLOWS[1]


def test_going_on_with_an_order_is_no_second_beginning() -> None:
    assert begins_with(result(3, -60.0), result(3, -50.0, continues=0)) is None


def test_later_orders_begin_with_the_policy_that_earns_most_whether_it_keeps_to_its_order_or_not() -> None:
    missed, kept = result(3, -10.0, met_threshold=False), result(30, -60.0)
    assert begins_with(kept, missed) == 1
    assert begins_with(replace(missed, reward=-90.0), kept) == 1
    assert begins_with(kept, result(77, -60.0)) == 0
    # What is left of an order is the policy that it came to last.
    assert begins_with(kept, result(77, -50.0), result(77, -90.0, continues=1)) == 0
    assert begins_with(kept, result(77, -90.0), result(77, -50.0, continues=1)) == 2


@pytest.mark.parametrize(("reward", "goes_on"), [(-42.0, True), (-43.0, False)])
def test_an_order_begins_with_the_best_policy_if_its_own_earns_clearly_less(
    reward: float, goes_on: bool
) -> None:
    """Two standard errors of the difference are 2.8."""
    best, behind = result(3, -40.0, met_threshold=False), result(30, reward)
    trial = search_with(best, behind, total_episodes=1000).suggest()
    assert (trial.workflow, trial.continues) == (WORKFLOWS[30], 1)
    assert trial.begins_with == (1 if goes_on else 0)
    assert trial.goes_on is goes_on


def test_the_last_episodes_go_to_the_best_order_that_was_kept_to() -> None:
    settings = {"total_episodes": 5000, "max_episodes_per_workflow": 1000}
    spent = [
        result(3, -60.0, episodes=1000),
        result(30, -20.0, met_threshold=False, episodes=1000),
        result(77, -50.0, episodes=1000),
    ]
    assert search_with(*spent, **settings).suggest().continues is None
    last = search_with(*spent, result(101, -90.0, episodes=1000), **settings).suggest()
    assert (last.workflow, last.continues, last.rung) == (WORKFLOWS[77], 2, 1)
    again = search_with(*spent, result(101, -90.0, episodes=1000), **settings, refining_share=0.0).suggest()
    assert again.continues is None


def test_what_no_order_was_kept_to_is_not_refined() -> None:
    missed = [result(index, -60.0, met_threshold=False, episodes=1000) for index in (3, 30)]
    assert search_with(*missed, total_episodes=2000).suggest().continues is None


def test_results_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="reward must be finite"):
        result(0, float("nan"))
