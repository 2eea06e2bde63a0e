"""The challenge's protocol: its nine cells, their sum, and episodes that can be played again."""

from __future__ import annotations

import numpy as np
import pytest

from workflow_rl.cage2.scenario import RED_AGENTS
from workflow_rl.collectors import SequentialCollector
from workflow_rl.environments import NATIVE, with_attacker
from workflow_rl.episode import EnvironmentSpec, Episodes
from workflow_rl.evaluation import HORIZONS, evaluation_tickets
from workflow_rl.inference import Actor
from workflow_rl.policy import ActorCritic
from workflow_rl.protocol import PUBLISHED, Cell, play_protocol, total_of
from workflow_rl.rollout import make_environment, shape_for
from workflow_rl.workflow import Workflow

ENVIRONMENT = EnvironmentSpec.of(NATIVE, {"max_steps": 100})
WORKFLOW = Workflow.from_index(5)


def play(policy: ActorCritic, *, num_episodes: int) -> list[Cell]:
    with SequentialCollector() as collector:
        snapshot = policy.snapshot(0)
        collector.publish(snapshot)

        def play_cell(environment: EnvironmentSpec, episodes: range) -> Episodes:
            tickets = evaluation_tickets(
                environment,
                snapshot,
                run_seed=3,
                episodes=episodes,
                batch=episodes.start,
                workflow=WORKFLOW,
                greedy=True,
            )
            collector.submit(tickets)
            return collector.collect(episodes.start)

        return list(play_protocol(play_cell, ENVIRONMENT, num_episodes))


def replayed(policy: ActorCritic, cell: Cell) -> list[float]:
    """The returns of a cell's episodes, played step by step from its seeds alone."""
    environment = make_environment(with_attacker(ENVIRONMENT, cell.red_agent, cell.horizon))
    actor = Actor(policy.snapshot(0))
    returns = []
    for seed in cell.seeds:
        observation, _ = environment.reset(seed=seed)
        actor.begin_episode(WORKFLOW.one_hot().ravel(), np.uint64(0), greedy=True)
        rewards = []
        for step in range(cell.horizon):
            action, _ = actor.act(observation, step)
            observation, reward, _, is_over, _ = environment.step(action)
            rewards.append(float(reward))
        assert is_over
        returns.append(sum(rewards))
    return returns


def test_every_cell_can_be_played_again_from_its_seeds() -> None:
    policy = ActorCritic(shape_for(ENVIRONMENT, hidden_size=16, has_workflow=True), seed=1)
    cells = play(policy, num_episodes=3)
    assert [(cell.red_agent, cell.horizon) for cell in cells] == [
        (r, h) for r in RED_AGENTS for h in HORIZONS
    ]
    for cell in cells:
        returns = replayed(policy, cell)
        assert cell.mean == pytest.approx(np.mean(returns))
        assert cell.standard_error == pytest.approx(np.std(returns, ddof=1) / np.sqrt(3))
    assert len({seed for cell in cells for seed in cell.seeds}) == 9 * 3, "no cell shares an episode"


def test_the_total_is_the_sum_and_variances_add_up() -> None:
    cells = [Cell("B_lineAgent", 30, -3.0, 0.3, ()), Cell("B_lineAgent", 50, -5.0, 0.4, ())]
    total, half_width = total_of(cells)
    assert total == pytest.approx(-8.0)
    assert half_width == pytest.approx(1.96 * 0.5)


@pytest.mark.parametrize("known", PUBLISHED, ids=lambda known: known.name)
def test_published_means_add_up_to_the_published_total(known) -> None:
    total = sum(mean for red_agent in RED_AGENTS for mean in known.means[red_agent])
    assert total == pytest.approx(known.total, abs=0.02)
