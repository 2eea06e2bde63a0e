"""A training of workflows that is scored on the way: what its policy is worth after so many episodes.

The policy after n episodes is the one that a training of n episodes ends with, so one training tells what
every shorter one would have come to. The episodes that score it are fresh ones, the same at every milestone
and for every order; they are those of `workflow-rl train --workflow ORDER`, and so is the score.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from contextlib import closing
from dataclasses import dataclass

from workflow_rl.alignment_schemes import mask_of
from workflow_rl.collectors.sequential import SequentialCollector
from workflow_rl.environments import cage2_environment
from workflow_rl.episode import EnvironmentSpec
from workflow_rl.evaluation import Score, evaluation_tickets, score
from workflow_rl.order_training import OrderTraining
from workflow_rl.pipeline import Counters
from workflow_rl.policy import ActorCritic
from workflow_rl.ppo import PPO
from workflow_rl.rollout import Player, shape_for
from workflow_rl.seeding import policy_seed
from workflow_rl.settings import TrainSettings
from workflow_rl.workflow import Workflow, all_workflows


@dataclass(frozen=True)
class Milestone:
    """What a policy was worth at one moment of its training.

    Attributes:
        episodes: training episodes so far.
        workflow: the order that it was told and judged by.
        score: over fresh episodes.
    """

    episodes: int
    workflow: Workflow
    score: Score


def score_on_the_way(settings: TrainSettings, milestones: Container[int]) -> Iterator[Milestone]:
    """Train one order, or all, in this process, from fresh weights.

    Args:
        settings: as for `workflow-rl train`: of `--workflow ORDER`, or of `--universal`. The stop rule holds.
        milestones: training episodes after which the policy is scored, multiples of a batch. At the end it is
            scored in any case.

    Yields:
        One for each order that the training is of, at each milestone.

    Raises:
        SettingError: the settings name neither an order nor all.
    """
    name = settings.search.workflow
    order = None if settings.search.universal or name is None else Workflow.parse(name)
    environment = cage2_environment(settings.simulator)
    policy = _fresh_policy(settings, environment)
    with SequentialCollector() as collector, closing(Player()) as player:
        training = OrderTraining(
            workflow=order,
            learner=PPO(policy, settings.ppo, seed=settings.run.seed, stream_index=0),
            environment=environment,
            settings=settings,
            collector=collector,
            counters=Counters(),
            is_interrupted=lambda: False,
        )
        scored = episodes = 0
        for report in training.run(settings.search.total_episodes):
            episodes = report.episodes
            if episodes in milestones:
                yield from _score(player, policy, environment, settings, order, episodes)
                scored = episodes
        if episodes > scored:
            yield from _score(player, policy, environment, settings, order, episodes)


def _fresh_policy(settings: TrainSettings, environment: EnvironmentSpec) -> ActorCritic:
    """The weights that the main job begins with."""
    shape = shape_for(environment, hidden_size=settings.ppo.hidden_size, has_workflow=True)
    return ActorCritic(shape, policy_seed(settings.run.seed, 0))


def _score(
    player: Player,
    policy: ActorCritic,
    environment: EnvironmentSpec,
    settings: TrainSettings,
    order: Workflow | None,
    episodes: int,
) -> Iterator[Milestone]:
    snapshot = policy.snapshot(episodes)  # a number of its own for each milestone, as players ask for
    for workflow in all_workflows() if order is None else [order]:
        tickets = evaluation_tickets(
            environment,
            snapshot,
            run_seed=settings.run.seed,
            episodes=range(settings.search.evaluation_episodes),
            batch=0,
            workflow=workflow,
            mask=mask_of(settings.alignment),
        )
        played = player.play(tickets, snapshot)
        yield Milestone(episodes, workflow, score(played, workflow, settings.alignment.compliance))
