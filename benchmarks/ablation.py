"""Compares settings of the learner: trains each variant on several orders and seeds, and scores the result.

    python benchmarks/ablation.py horizon=truncation horizon=end
    python benchmarks/ablation.py learning_rate=0.001 learning_rate=0.003,minibatch_size=1000 --episodes 3000

A variant is a comma-separated list of settings (names as in config.json). Every variant sees the same seeds;
the score is of 500 fresh episodes. Prints JSON: per variant the mean over orders and seeds of reward and
compliance, and every single run. Learning, not speed: what else the machine does is of no consequence.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from typing import Any

from workflow_rl.collectors import SequentialCollector
from workflow_rl.environments import cage2_environment
from workflow_rl.evaluate import evaluate_policy, evaluation_tickets, score
from workflow_rl.policy import ActorCritic
from workflow_rl.ppo import PPO
from workflow_rl.rollout import shape_for
from workflow_rl.settings import TrainSettings
from workflow_rl.train import Counters, OrderTraining
from workflow_rl.workflow import Workflow

ORDERS = ("op_server,enterprise,defender,op_host,user", "op_host,user,enterprise,defender,op_server")
EVALUATION_EPISODES = 500


def parse_variant(text: str) -> dict[str, Any]:
    """`a=1,b=x` as a mapping; values are read as JSON where they can be."""
    pairs = (item.split("=", 1) for item in text.split(","))
    return {name: _value(value) for name, value in pairs}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def train_and_score(variant: dict[str, Any], order: str, seed: int, num_episodes: int) -> dict[str, Any]:
    """One training run."""
    fixed = {"total_episodes": num_episodes, "stop_rule": "plateau", "patience_updates": num_episodes}
    settings = TrainSettings.from_flat({"lag": 0, "seed": seed, **fixed, **variant})
    environment = cage2_environment(settings.simulator)
    shape = shape_for(environment, hidden_size=settings.ppo.hidden_size, has_workflow=True)
    policy = ActorCritic(shape, seed)
    workflow = Workflow.parse(order)
    counters = Counters()
    with SequentialCollector() as collector:
        learner = PPO(policy, settings.ppo, seed=seed)
        training = OrderTraining(workflow, learner, environment, settings, collector, counters, lambda: False)
        curve = [
            {"episodes": report.episodes, "env_reward": report.env_reward, "compliance": report.compliance}
            for report in training.run(num_episodes)
        ]
        snapshot = policy.snapshot(counters.version)
        tickets = evaluation_tickets(
            environment,
            snapshot,
            run_seed=seed,
            episodes=range(EVALUATION_EPISODES),
            batch=counters.batch,
            workflow=workflow,
        )
        episodes = evaluate_policy(collector, snapshot, tickets)
    result = score(episodes, workflow, settings.alignment.compliance)
    return {
        "order": order,
        "seed": seed,
        "reward": result.reward,
        "reward_standard_error": result.reward_standard_error,
        "compliance": result.compliance,
        "curve": curve[:: max(1, len(curve) // 10)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("variants", nargs="+", metavar="name=value[,name=value...]")
    parser.add_argument("--episodes", type=int, default=5000)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    results = []
    for text in arguments.variants:
        runs = [
            train_and_score(parse_variant(text), order, seed, arguments.episodes)
            for order in ORDERS
            for seed in range(arguments.seeds)
        ]
        mean = {key: statistics.fmean(run[key] or 0.0 for run in runs) for key in ("reward", "compliance")}
        print(text, mean, file=sys.stderr)
        results.append({"variant": text, "mean": mean, "runs": runs})
    print(json.dumps({"episodes": arguments.episodes, "variants": results}, indent=2))


if __name__ == "__main__":
    main()
