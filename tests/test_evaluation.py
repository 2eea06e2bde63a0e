"""Scores of played episodes, against a slow account and against resampling."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from workflow_rl.alignment import compromised_types
from workflow_rl.cage2.scenario import ACTION_NAMES, HOST_NAMES
from workflow_rl.collectors import SequentialCollector
from workflow_rl.episode import EnvironmentSpec, Episodes, Ticket
from workflow_rl.equivalent_orders import OrderClasses
from workflow_rl.evaluation import HORIZONS, evaluate_policy, evaluation_tickets, kept_orders, score
from workflow_rl.policy import ActorCritic
from workflow_rl.rollout import make_environment, network_shape
from workflow_rl.seeding import Stream
from workflow_rl.workflow import HostType, Workflow, all_workflows

SPEC = EnvironmentSpec.of("workflow_rl/Cage2-v0", {"max_steps": 20})
WORKFLOW = Workflow.from_index(0)
SLEEP, DEFENDER_FIX, USER_FIX = 0, ACTION_NAMES.index("Remove Defender"), ACTION_NAMES.index("Restore User1")


def played(*episodes: list[tuple[int, float]]) -> Episodes:
    """Episodes of (action, reward), with Defender and User1 compromised throughout."""
    lengths = [len(steps) for steps in episodes]
    num_steps, num_episodes = sum(lengths), len(lengths)
    access = np.array([name in ("Defender", "User1") for name in HOST_NAMES], np.int8)
    return Episodes(
        tickets=tuple(Ticket(0, Stream.EVALUATION_EPISODE, e, SPEC, 0, 0) for e in range(num_episodes)),
        lengths=np.array(lengths, np.int32),
        observations=np.zeros((num_steps + num_episodes, 52), np.uint8),
        actions=np.array([action for steps in episodes for action, _ in steps], np.int16),
        forbidden=np.empty((num_steps, 0), np.uint8),
        log_probs=np.zeros(num_steps, np.float32),
        rewards=np.array([reward for steps in episodes for _, reward in steps], np.float32),
        compromised=np.full(num_steps, compromised_types(access), np.uint8),
        terminated=np.zeros(num_episodes, np.bool_),
        started=np.zeros(num_episodes),
        seconds=np.zeros(num_episodes, np.float32),
        worker=np.zeros(num_episodes, np.int32),
    )


def episodes_with_fixes(rates: NDArray[np.float64], lengths: NDArray[np.int64], seed: int) -> Episodes:
    """Each episode complies at its own rate in as many fixes as it has steps."""
    draws = np.random.default_rng(seed)
    return played(
        *[
            [(DEFENDER_FIX if complies else USER_FIX, 0.0) for complies in draws.random(length) < rate]
            for rate, length in zip(rates, lengths, strict=True)
        ]
    )


def test_reward_is_the_mean_return_with_its_standard_error() -> None:
    result = score(played([(SLEEP, -1), (SLEEP, -2)], [(SLEEP, -5)], [(SLEEP, -1)]), WORKFLOW, "reachable")
    assert result.episodes == 3
    assert result.reward == pytest.approx((-3 - 5 - 1) / 3)
    assert result.reward_standard_error == pytest.approx(np.std([-3, -5, -1], ddof=1) / np.sqrt(3))


def test_a_horizon_counts_the_first_steps_only() -> None:
    episodes = played([(USER_FIX, -1), (DEFENDER_FIX, -2), (DEFENDER_FIX, -4)], [(DEFENDER_FIX, -8)])
    whole, first = score(episodes, WORKFLOW, "reachable"), score(episodes, WORKFLOW, "reachable", horizon=1)
    second = score(episodes, WORKFLOW, "reachable", horizon=2)
    assert [first.reward, second.reward, whole.reward] == [-9 / 2, -11 / 2, -15 / 2]
    assert [first.compliance, second.compliance, whole.compliance] == [1 / 2, 2 / 3, 3 / 4]
    assert score(episodes, WORKFLOW, "reachable", horizon=100) == whole
    assert HORIZONS == (30, 50, 100)


def test_the_same_episodes_judged_by_another_order() -> None:
    episodes = played([(DEFENDER_FIX, 0), (DEFENDER_FIX, 0), (USER_FIX, 0)], [(DEFENDER_FIX, 0)])
    assert score(episodes, WORKFLOW, "reachable").compliance == 3 / 4
    assert score(episodes, Workflow.from_index(119), "reachable").compliance == 1 / 4


def test_the_orders_that_are_kept_to_are_those_that_score_above_the_threshold() -> None:
    """Defender and User1 are compromised all the time: orders differ in which of the two goes first."""
    episodes = played([(DEFENDER_FIX, 0), (DEFENDER_FIX, 0), (USER_FIX, 0)], [(DEFENDER_FIX, 0)])
    classes = OrderClasses.of(frozenset({HostType.DEFENDER, HostType.USER}), "reachable")
    defender_first = kept_orders(episodes, classes, "reachable", threshold=3 / 4)
    assert [(kept.workflow, kept.compliance) for kept in defender_first] == [(WORKFLOW, 3 / 4)]
    assert defender_first[0].observed_compliance == score(episodes, WORKFLOW, "reachable").observed_compliance
    assert len(kept_orders(episodes, classes, "reachable", threshold=1 / 4)) == 2
    assert kept_orders(episodes, classes, "reachable", threshold=0.76) == ()
    every = kept_orders(episodes, OrderClasses.all_different(), "reachable", threshold=3 / 4)
    assert [kept.workflow for kept in every] == [
        workflow
        for workflow in all_workflows()
        if workflow.ranks[HostType.DEFENDER] < workflow.ranks[HostType.USER]
    ]
    nothing = played([(SLEEP, 0)], [(SLEEP, 0)])
    assert kept_orders(nothing, classes, "reachable", threshold=0.0) == ()


def test_compliance_is_also_judged_by_what_was_seen() -> None:
    """Defender and User1 are compromised all the time; the second step shows User1, no other shows any."""
    episodes = played([(DEFENDER_FIX, 0), (USER_FIX, 0)], [(USER_FIX, 0)])
    episodes.observations[1, 4 * HOST_NAMES.index("User1") + 3] = 1
    result = score(episodes, WORKFLOW, "reachable")
    assert (result.compliance, result.observed_compliance) == (1 / 3, 1.0)
    assert result.compliance_standard_error is not None
    assert (result.compliance_standard_error > 0, result.observed_compliance_standard_error) == (True, 0.0)
    assert score(episodes, WORKFLOW, "reachable", horizon=1).observed_compliance is None


def test_compliance_without_fixes() -> None:
    nothing = played([(SLEEP, 0)], [(SLEEP, 0)])
    undefined = score(nothing, WORKFLOW, "reachable")
    assert (undefined.compliance, undefined.compliance_standard_error) == (None, None)
    older = score(nothing, WORKFLOW, "any-session")
    assert (older.compliance, older.compliance_standard_error) == (0.5, 0.0)


def test_the_older_definition_averages_the_episodes_rates() -> None:
    episodes = played([(DEFENDER_FIX, 0)], [(SLEEP, 0)], [(USER_FIX, 0), (USER_FIX, 0), (DEFENDER_FIX, 0)])
    result = score(episodes, WORKFLOW, "any-session")
    rates = [1, 0.5, 1 / 3]
    assert result.compliance == pytest.approx(np.mean(rates))
    assert result.compliance_standard_error == pytest.approx(np.std(rates, ddof=1) / np.sqrt(3))


def test_equally_long_episodes_have_the_standard_error_of_a_mean() -> None:
    """With as many fixes in each episode the pooled rate is a mean of rates."""
    episodes = episodes_with_fixes(np.full(40, 0.7), np.full(40, 10), seed=0)
    pooled, mean = (score(episodes, WORKFLOW, definition) for definition in ("reachable", "any-session"))
    assert pooled.compliance == pytest.approx(mean.compliance)
    assert pooled.compliance_standard_error == pytest.approx(mean.compliance_standard_error)


@pytest.mark.parametrize("definition", ["reachable", "any-session"])
def test_standard_error_of_compliance_agrees_with_resampled_sets(definition: str) -> None:
    """The spread of the compliance of 300 sets of 40 episodes; both are random, and agree to 12 %."""
    draws = np.random.default_rng(1)
    compliances, errors = [], []
    for repetition in range(300):
        rates, lengths = draws.beta(4, 2, 40), draws.integers(1, 12, 40)
        result = score(episodes_with_fixes(rates, lengths, seed=repetition), WORKFLOW, definition)
        compliances.append(result.compliance)
        errors.append(result.compliance_standard_error)
    assert np.mean(errors) == pytest.approx(np.std(compliances, ddof=1), rel=0.12)


def test_tickets_are_evaluation_tickets() -> None:
    policy = ActorCritic(network_shape(make_environment(SPEC), hidden_size=4, has_workflow=True))
    tickets = evaluation_tickets(
        SPEC, policy.snapshot(5), run_seed=3, episodes=range(10, 13), batch=8, workflow=WORKFLOW, greedy=True
    )
    expected = Ticket(3, Stream.EVALUATION_EPISODE, 10, SPEC, version=5, batch=8, workflow=0, greedy=True)
    assert tickets == [dataclasses.replace(expected, episode=episode) for episode in (10, 11, 12)]
    without = evaluation_tickets(SPEC, policy.snapshot(5), run_seed=3, episodes=[0], batch=8, workflow=None)
    assert (without[0].workflow, without[0].greedy) == (None, False)


def test_a_shorter_horizon_is_the_first_part_of_a_longer_episode() -> None:
    """What `horizon` relies on: the policy and the attack do not know how long the episode will be."""
    policy = ActorCritic(network_shape(make_environment(SPEC), hidden_size=4, has_workflow=True), seed=1)
    scores = []
    for max_steps, horizon in ((20, 12), (12, None)):
        environment = EnvironmentSpec.of("workflow_rl/Cage2-v0", {"max_steps": max_steps})
        snapshot = policy.snapshot(0)
        tickets = evaluation_tickets(
            environment, snapshot, run_seed=1, episodes=range(20), batch=0, workflow=WORKFLOW
        )
        with SequentialCollector() as collector:
            episodes = evaluate_policy(collector, snapshot, tickets)
        assert [ticket.episode for ticket in episodes.tickets] == list(range(20))
        scores.append(score(episodes, WORKFLOW, "reachable", horizon=horizon))
    assert scores[0] == scores[1]
    assert scores[0].reward < 0
