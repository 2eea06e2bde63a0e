"""What an update of the main job costs, and how much of it is saved by evaluating repeated observations once.

    python benchmarks/update.py

Against each attacker a policy is trained on one order, and then plays the batch to learn from: 100 episodes
of 100 steps. Two learners go on from there and take turns. One gets the batch as it is. The other gets its
bits as decimal numbers: the same values, but the learner looks for repetitions among bits only. All else is
the same; that both come to the same but for rounding is checked. `saving` is the ratio of their CPU times,
round by round. The batch counts as played by an older policy, as it does at the default lag.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from workflow_rl.bench import report
from workflow_rl.bench.timing import Figure, Spread, Workload, measure, ratio
from workflow_rl.cage2.scenario import RED_AGENTS
from workflow_rl.collectors import SequentialCollector
from workflow_rl.environments import cage2_environment
from workflow_rl.episode import Episodes
from workflow_rl.evaluation import evaluate_policy, evaluation_tickets
from workflow_rl.order_training import OrderTraining
from workflow_rl.pipeline import Counters
from workflow_rl.policy import ActorCritic
from workflow_rl.ppo import PPO
from workflow_rl.rollout import shape_for
from workflow_rl.settings import TrainSettings
from workflow_rl.workflow import Workflow

ROUNDS = 7

LearnerState = Mapping[str, NDArray[Any]]


def train_and_play(settings: TrainSettings, num_updates: int) -> tuple[LearnerState, Episodes]:
    """Train on one order; returns the learner's state and one more batch, played with its policy."""
    environment = cage2_environment(settings.simulator)
    learner = new_learner(settings)
    workflow, counters = Workflow.from_index(0), Counters()
    per_update = settings.search.episodes_per_update
    with SequentialCollector() as collector:
        training = OrderTraining(workflow, learner, environment, settings, collector, counters, lambda: False)
        for _ in training.run(num_updates * per_update):
            pass
        snapshot = learner.policy.snapshot(counters.version)
        tickets = evaluation_tickets(
            environment,
            snapshot,
            run_seed=settings.run.seed,
            episodes=range(per_update),
            batch=counters.batch,
            workflow=workflow,
        )
        return learner.state(), evaluate_policy(collector, snapshot, tickets)


def new_learner(settings: TrainSettings, state: LearnerState | None = None) -> PPO:
    """A learner with fresh weights, or one that goes on from another's state."""
    shape = shape_for(
        cage2_environment(settings.simulator), hidden_size=settings.ppo.hidden_size, has_workflow=True
    )
    learner = PPO(ActorCritic(shape, settings.run.seed), settings.ppo, seed=settings.run.seed)
    if state is not None:
        learner.restore(state)
    return learner


def repetition(batch: Episodes, settings: TrainSettings) -> dict[str, float]:
    """How many observations there are, and how many different ones; also in a minibatch, on average."""
    _, rows = np.unique(batch.observations, axis=0, return_inverse=True)
    is_step = np.ones(len(rows), np.bool_)
    is_step[np.cumsum(batch.lengths + 1) - 1] = False
    shuffled = np.random.default_rng(settings.run.seed).permutation(rows[is_step])
    size = settings.ppo.minibatch_size or len(shuffled)
    minibatches = np.array_split(shuffled, max(1, round(len(shuffled) / size)))
    return {
        "observations": len(rows),
        "distinct": int(rows.max()) + 1,
        "distinct_in_a_minibatch": float(np.mean([len(np.unique(part)) for part in minibatches])),
    }


def check_agreement(settings: TrainSettings, state: LearnerState, batches: Mapping[str, Episodes]) -> None:
    """See that an update comes to the same with each batch, so that the comparison is fair."""
    results = []
    for batch in batches.values():
        learner = new_learner(settings, state)
        statistics = learner.update(batch, batch.rewards, is_on_policy=False)
        results.append(list(asdict(statistics).values()))
    if not np.allclose(*results, rtol=1e-2, atol=1e-4):
        raise RuntimeError(f"the two updates differ by more than rounding: {results}")


def compare(settings: TrainSettings, num_updates: int, *, rounds: int, seconds: float) -> dict[str, Any]:
    """Time both updates against one attacker."""
    state, batch = train_and_play(settings, num_updates)
    batches = {
        "repetitions_once": batch,
        "one_by_one": replace(batch, observations=batch.observations.astype(np.float32)),
    }
    check_agreement(settings, state, batches)
    workloads = [_updating(name, new_learner(settings, state), batch) for name, batch in batches.items()]
    once, one_by_one = measure(workloads, rounds=rounds, seconds=seconds)
    return {
        **repetition(batch, settings),
        "milliseconds": {figure.name: _milliseconds(figure) for figure in (once, one_by_one)},
        "saving": asdict(ratio(once, one_by_one)),
    }


def _updating(name: str, learner: PPO, batch: Episodes) -> Workload:
    """Updates with one batch, again and again; their number counts as steps."""

    def update() -> int:
        learner.update(batch, batch.rewards, is_on_policy=False)
        return 1

    return Workload(name, update)


def _milliseconds(figure: Figure) -> dict[str, Any]:
    """Of one update."""
    return {
        "cpu": asdict(Spread.of(1000 * sample.cpu_seconds / sample.steps for sample in figure.samples)),
        "wall": asdict(Spread.of(1000 * sample.wall_seconds / sample.steps for sample in figure.samples)),
    }


@click.command(help=__doc__)
@click.option(
    "--updates", type=click.IntRange(1), default=25, show_default=True, help="Of training before it."
)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Of the learner.")
@report.json_option
@click.option("--quick", is_flag=True, help="Two short episodes and a single round, to see that it runs.")
def main(updates: int, threads: int, json_file: Path | None, quick: bool) -> None:
    values: dict[str, Any] = {"stop_rule": "plateau", "patience_updates": updates, "learner_threads": threads}
    rounds, seconds = ROUNDS, 1.0
    if quick:
        values |= {"episodes_per_update": 2, "max_steps": 10}
        updates, rounds, seconds = 1, 1, 0.0
    report.run(
        "update",
        lambda: {
            "settings": values,
            "updates_before": updates,
            "attackers": {
                attacker: compare(
                    TrainSettings.from_flat({**values, "red_agent": attacker}),
                    updates,
                    rounds=rounds,
                    seconds=seconds,
                )
                for attacker in RED_AGENTS
                if attacker != "SleepAgent"
            },
        },
        own_load=threads,
        json_file=json_file,
    )


if __name__ == "__main__":
    report.run_program(main)
