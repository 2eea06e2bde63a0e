"""The pipeline of one order: which policy plays what, and that nothing played is lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import pytest

from workflow_rl.alignment import Fix, judge_fixes
from workflow_rl.alignment_schemes import Alignment
from workflow_rl.collectors import SequentialCollector
from workflow_rl.environments import cage2_environment
from workflow_rl.episode import Episodes, Snapshot, Ticket
from workflow_rl.order_training import OrderProgress, OrderTraining, UpdateReport, drawn_workflow, judge
from workflow_rl.pipeline import Counters
from workflow_rl.plateau import SPAN
from workflow_rl.policy import ActorCritic
from workflow_rl.ppo import PPO
from workflow_rl.rollout import make_environment, network_shape
from workflow_rl.settings import AlignmentSettings, SearchSettings, TrainSettings
from workflow_rl.workflow import Workflow

WORKFLOW = Workflow.from_index(31)


class DiaryCollector(SequentialCollector):
    """The sequential collector, with a diary of what it was asked."""

    def __init__(self, seen: list[Episodes] | None = None) -> None:
        super().__init__()
        self._seen = seen
        self.published: list[int] = []
        self.submitted: list[Ticket] = []
        self.collected: list[int] = []

    def publish(self, snapshot: Snapshot) -> None:
        self.published.append(snapshot.version)
        super().publish(snapshot)

    def submit(self, tickets: Sequence[Ticket]) -> None:
        self.submitted += tickets
        super().submit(tickets)

    def collect(self, batch: int) -> Episodes:
        episodes = super().collect(batch)
        self.collected += [ticket.episode for ticket in episodes.tickets]
        if self._seen is not None:
            self._seen.append(episodes)
        return episodes


def settings(**changes: Any) -> TrainSettings:
    """Short episodes, and no ending before the budget is spent."""
    values = {
        "max_steps": 6,
        "episodes_per_update": 10,
        "stop_rule": "plateau",
        "patience_updates": 1000,
        "hidden_size": 8,
        "learner_threads": 1,
    }
    return TrainSettings.from_flat({**values, **changes})


@dataclass
class Trained:
    """What came of training an order."""

    reports: list[UpdateReport] = field(default_factory=list)
    collector: DiaryCollector = field(default_factory=DiaryCollector)
    counters: Counters = field(default_factory=Counters)


def train(
    chosen: TrainSettings,
    num_episodes: int,
    *,
    counters: Counters | None = None,
    is_interrupted: Callable[[list[UpdateReport]], bool] = lambda reports: False,
    workflow: Workflow | None = WORKFLOW,
    seen: list[Episodes] | None = None,
) -> Trained:
    """Train one order on the native simulator."""
    trained = Trained(counters=counters or Counters(), collector=DiaryCollector(seen))
    environment = cage2_environment(chosen.simulator)
    shape = network_shape(make_environment(environment), hidden_size=8, has_workflow=True)
    with trained.collector:
        training = OrderTraining(
            workflow=workflow,
            learner=PPO(ActorCritic(shape), chosen.ppo, seed=0, stream_index=0),
            environment=environment,
            settings=chosen,
            collector=trained.collector,
            counters=trained.counters,
            is_interrupted=lambda: is_interrupted(trained.reports),
        )
        for report in training.run(num_episodes):
            trained.reports.append(report)
    return trained


@pytest.mark.parametrize("lag", [0, 1, 2, 9])
def test_batch_u_is_played_with_the_policy_after_u_minus_lag_updates(lag: int) -> None:
    trained = train(settings(lag=lag), 50)
    versions = {ticket.batch: ticket.version for ticket in trained.collector.submitted}
    assert versions == {batch: max(0, batch - lag) for batch in range(5)}
    assert [report.policy_lag for report in trained.reports] == [min(batch, lag) for batch in range(5)]


@pytest.mark.parametrize("lag", [0, 2])
def test_every_version_is_published_once(lag: int) -> None:
    assert train(settings(lag=lag), 30).collector.published == [0, 1, 2, 3]


@pytest.mark.parametrize("lag", [0, 1, 2])
def test_all_episodes_are_played_once_and_learnt_in_index_order(lag: int) -> None:
    trained = train(settings(lag=lag), 34)
    assert trained.collector.collected == list(range(34))
    assert [report.batch_size for report in trained.reports] == [10, 10, 10, 4]
    assert [report.episodes for report in trained.reports] == [10, 20, 30, 34]
    assert [report.update for report in trained.reports] == [1, 2, 3, 4]


@pytest.mark.parametrize("lag", [0, 1, 2])
def test_lag_is_how_far_collection_runs_ahead(lag: int) -> None:
    ahead = []

    def note(reports: list[UpdateReport]) -> bool:
        ahead.append(trained_so_far.episode - reports[-1].total_episodes)
        return False

    trained_so_far = Counters()
    train(settings(lag=lag), 60, counters=trained_so_far, is_interrupted=note)
    assert ahead == [10 * min(lag, 5 - update) for update in range(6)]


def test_a_second_order_goes_on_counting() -> None:
    first = train(settings(lag=1), 20)
    second = train(settings(lag=1), 20, counters=first.counters)
    assert [ticket.episode for ticket in second.collector.submitted] == list(range(20, 40))
    assert second.collector.published == [3, 4, 5]
    assert {ticket.batch: ticket.version for ticket in second.collector.submitted} == {2: 3, 3: 3}
    assert [report.episodes for report in second.reports] == [10, 20]
    assert [report.total_episodes for report in second.reports] == [30, 40]


@pytest.mark.parametrize("lag", [0, 1, 2])
def test_nothing_played_is_dropped_when_training_ends_early(lag: int) -> None:
    ending_at_once = settings(lag=lag, stop_rule="threshold", compliance_threshold=0.0)
    trained = train(ending_at_once, 100)
    assert len(trained.reports) == 1 + lag
    assert trained.counters.episode == trained.reports[-1].episodes == 10 * (1 + lag)
    assert trained.collector.collected == list(range(10 * (1 + lag)))


def test_an_interruption_ends_training_after_the_update_in_progress() -> None:
    trained = train(settings(lag=1), 100, is_interrupted=lambda reports: len(reports) == 2)
    assert len(trained.reports) == 2


def test_tickets_name_the_run_and_the_order() -> None:
    trained = train(settings(seed=12), 10)
    assert {ticket.run_seed for ticket in trained.collector.submitted} == {12}
    assert {ticket.workflow for ticket in trained.collector.submitted} == {WORKFLOW.index}
    assert not any(ticket.greedy for ticket in trained.collector.submitted)


def test_reports_add_up() -> None:
    (report,) = train(settings(alignment_lambda=100.0), 10).reports
    assert report.alignment_reward < 0
    assert report.total_reward == report.env_reward + report.alignment_reward
    assert report.round_seconds >= report.collection_seconds + report.update_seconds > 0
    assert report.episodes_per_second == 10 / report.round_seconds
    assert report.compliance is not None
    assert 0 <= report.compliance < 1
    assert 0 < report.fixes_per_episode <= 6


def reported(reward: float, compliance: float | None) -> UpdateReport:
    """An update with this total reward and compliance."""
    (report,) = train(settings(), 10).reports
    return replace(report, env_reward=reward, alignment_reward=0.0, compliance=compliance)


def endings(rule: SearchSettings, updates: Sequence[tuple[float, float | None]]) -> list[bool]:
    progress = OrderProgress.start(1000, Counters())
    reached = []
    for reward, compliance in updates:
        progress.count_update(reported(reward, compliance), rule)
        reached.append(progress.is_ending)
    return reached


def test_the_threshold_rule_ends_training_when_the_order_is_learnt() -> None:
    rule = SearchSettings(stop_rule="threshold", compliance_threshold=0.9)
    assert endings(rule, [(-5.0, None), (-4.0, 0.89), (-3.0, 0.9)]) == [False, False, True]


@pytest.mark.parametrize("stop_rule", ["plateau", "budget"])
def test_other_rules_go_on_after_the_threshold(stop_rule: str) -> None:
    rule = SearchSettings(stop_rule=stop_rule, compliance_threshold=0.9)
    assert endings(rule, [(-5.0, 1.0), (-4.0, 1.0)]) == [False, False]


@pytest.mark.parametrize("stop_rule", ["threshold", "plateau"])
def test_training_ends_on_a_plateau(stop_rule: str) -> None:
    rule = SearchSettings(stop_rule=stop_rule, patience_updates=3)
    assert endings(rule, [(-5.0, 0.0)] * (SPAN + 3)) == [False] * (SPAN + 2) + [True]


def test_the_budget_rule_ends_nothing() -> None:
    rule = SearchSettings(stop_rule="budget", patience_updates=1)
    assert endings(rule, [(-5.0, 1.0)] * 30) == [False] * 30


def test_a_universal_training_draws_an_order_for_each_episode() -> None:
    trained = train(settings(seed=3), 300, workflow=None)
    drawn = [cast(int, ticket.workflow) for ticket in trained.collector.submitted]
    assert drawn == [drawn_workflow(3, episode) for episode in range(300)]
    assert drawn != [drawn_workflow(4, episode) for episode in range(300)]
    assert {report.workflow for report in trained.reports} == {None}


def test_every_order_is_drawn_as_often() -> None:
    """Chi-squared of 119 degrees of freedom: mean 119, deviation 15.4."""
    counts = np.bincount([drawn_workflow(0, episode) for episode in range(60_000)], minlength=120)
    assert len(counts) == 120
    assert 119 - 4 * 15.4 < (np.square(counts - 500) / 500).sum() < 119 + 4 * 15.4


def test_each_episode_is_judged_by_its_own_order() -> None:
    """Judged all at once, and one by one."""
    seen: list[Episodes] = []
    train(settings(alignment_lambda=3.0), 10, workflow=None, seen=seen)
    alignment = Alignment(AlignmentSettings(alignment_lambda=3.0), 0.95)
    (batch,) = seen
    judgement = judge(batch, alignment)
    for e, steps in enumerate(batch.step_slices()):
        order = Workflow.from_index(cast(int, batch.tickets[e].workflow))
        judged = judge_fixes(batch.actions[steps], batch.compromised[steps], order, "reachable")
        np.testing.assert_array_equal(judgement.alignment_rewards[steps], -3.0 * (judged == Fix.VIOLATING))
    assert judgement.alignment_rewards.any()


def test_a_lagrangian_weight_follows_the_batches_from_the_next_update_on() -> None:
    reports = train(settings(alignment="lagrangian", alignment_lambda=4.0), 40).reports
    alignment = Alignment(AlignmentSettings(alignment="lagrangian", alignment_lambda=4.0), 0.95)
    for report in reports:
        assert report.alignment_weight == alignment.weight
        alignment.adapt(report.compliance)
    assert len({report.alignment_weight for report in reports}) == 4


def test_a_masked_training_never_violates_what_blue_observes() -> None:
    trained = train(settings(alignment="mask"), 30)
    assert {ticket.mask for ticket in trained.collector.submitted} == {"reachable"}
    assert {report.observed_compliance for report in trained.reports} <= {1.0, None}
    assert {report.alignment_reward for report in trained.reports} == {0.0}
