"""Does it learn? Trains one order and scores the policy on fresh episodes.

Against B_lineAgent over 100 steps a uniformly random defender earns about -725 (400 reference episodes:
-724.7 +- 17.7), a sleeping one about -1134.
"""

from __future__ import annotations

import pytest

from workflow_rl.alignment_schemes import mask_of
from workflow_rl.collectors import make_collector
from workflow_rl.environments import cage2_environment
from workflow_rl.evaluation import Score, evaluate_policy, evaluation_tickets, score
from workflow_rl.order_training import OrderTraining
from workflow_rl.pipeline import Counters
from workflow_rl.policy import ActorCritic
from workflow_rl.ppo import PPO
from workflow_rl.rollout import shape_for
from workflow_rl.settings import TrainSettings
from workflow_rl.workflow import Workflow

RANDOM_REWARD = -725.0
ORDER = Workflow.parse("op_server,enterprise,defender,op_host,user")


def train_and_score(num_episodes: int, **settings: object) -> Score:
    """Train on one order with the default settings, then score 200 fresh episodes."""
    resolved = TrainSettings.from_flat({"n_workers": 2, "stop_rule": "budget", **settings})
    environment = cage2_environment(resolved.simulator)
    shape = shape_for(environment, hidden_size=resolved.ppo.hidden_size, has_workflow=True)
    policy = ActorCritic(shape)
    counters = Counters()
    with make_collector(resolved.collector, environment) as collector:
        learner = PPO(policy, resolved.ppo, seed=0)
        training = OrderTraining(ORDER, learner, environment, resolved, collector, counters, lambda: False)
        assert sum(report.batch_size for report in training.run(num_episodes)) == num_episodes
        snapshot = policy.snapshot(counters.version)
        tickets = evaluation_tickets(
            environment,
            snapshot,
            run_seed=0,
            episodes=range(200),
            batch=counters.batch,
            workflow=ORDER,
            mask=mask_of(resolved.alignment),
        )
        return score(evaluate_policy(collector, snapshot, tickets), ORDER, "reachable")


def test_three_thousand_native_episodes_are_enough_for_a_useful_defender() -> None:
    result = train_and_score(3000)
    assert result.reward > RANDOM_REWARD / 5
    assert result.compliance is not None
    assert result.compliance > 0.9


@pytest.mark.learning
@pytest.mark.parametrize("red_agent", ["B_lineAgent", "RedMeanderAgent"])
def test_every_attacker_is_learnt_natively(red_agent: str) -> None:
    assert train_and_score(10_000, red_agent=red_agent).reward > -60


@pytest.mark.learning
def test_a_masked_and_priced_policy_learns_to_defend_and_to_comply() -> None:
    result = train_and_score(5000, alignment="mask-lagrangian")
    assert result.reward > RANDOM_REWARD / 10
    assert result.compliance is not None
    assert result.compliance > 0.95
    assert result.observed_compliance == 1.0


@pytest.mark.learning
def test_three_thousand_reference_episodes_are_enough_for_a_useful_defender() -> None:
    result = train_and_score(3000, simulator="cyborg")
    assert result.reward > RANDOM_REWARD / 5
    assert result.compliance is not None
    assert result.compliance > 0.9
