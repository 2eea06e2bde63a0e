"""Action masks, from an environment's infos to the learner: kept to, recorded, refused if they are wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from awkward_environments import specification

from workflow_rl.collectors import Collector, ExecutorCollector, SequentialCollector, SynchronousCollector
from workflow_rl.environment_training import EnvironmentTraining
from workflow_rl.episode import EnvironmentSpec, Episodes, Ticket, unpack_forbidden
from workflow_rl.errors import EpisodeError
from workflow_rl.network_inputs import distinct_inputs
from workflow_rl.policy import ActorCritic, policy_digest
from workflow_rl.rollout import Player, shape_for
from workflow_rl.seeding import Stream
from workflow_rl.settings import EnvironmentTrainSettings

COLLECTORS: tuple[Callable[[], Collector], ...] = (
    SequentialCollector,
    partial(ExecutorCollector, 2),
    partial(SynchronousCollector, 3),
)


def decided_policy(environment: EnvironmentSpec) -> ActorCritic:
    """Far from uniform, so that a mask that is ignored shows."""
    policy = ActorCritic(shape_for(environment, hidden_size=16, has_workflow=False), seed=1)
    with torch.no_grad():
        policy.actor[4].weight *= 300
    return policy


def play(
    environment: EnvironmentSpec, policy: ActorCritic, *, episodes: int = 20, greedy: bool = False
) -> Episodes:
    tickets = [
        Ticket(3, Stream.TRAINING_EPISODE, e, environment, version=0, batch=0, greedy=greedy)
        for e in range(episodes)
    ]
    player = Player()
    try:
        return player.play(tickets, policy.snapshot(0))
    finally:
        player.close()


MASKED = {
    "one": specification("Masked"),
    "several": specification("Masked", has_branches=True),
    "taxi": EnvironmentSpec.of("Taxi-v4", {"max_episode_steps": 30}),
}


@pytest.mark.parametrize("greedy", [False, True])
@pytest.mark.parametrize("environment", MASKED.values(), ids=MASKED)
def test_what_was_chosen_was_allowed(environment: EnvironmentSpec, greedy: bool) -> None:
    """`Masked` raises if it gets another action."""
    policy = decided_policy(environment)
    batch = play(environment, policy, greedy=greedy)
    forbidden = unpack_forbidden(batch.forbidden, policy.shape.num_actions)
    assert 0.2 < forbidden.mean() < 0.8
    choices = policy.shape.branches or (policy.shape.num_actions,)
    columns = batch.actions.reshape(len(forbidden), -1) + np.cumsum((0, *choices[:-1]))
    assert not np.take_along_axis(forbidden, columns, 1).any()


@pytest.mark.parametrize("environment", MASKED.values(), ids=MASKED)
def test_the_learner_judges_masked_actions_as_the_workers_did(environment: EnvironmentSpec) -> None:
    policy = decided_policy(environment)
    batch = play(environment, policy)
    distinct = distinct_inputs(batch, policy.shape.num_actions)
    assert distinct.forbidden is not None
    with torch.no_grad():
        log_probs, entropies = policy.judge_actions(
            torch.from_numpy(distinct.inputs),
            torch.from_numpy(distinct.rows[batch.is_acted_upon]),
            torch.from_numpy(batch.actions.astype(np.int64)),
            torch.from_numpy(distinct.forbidden),
        )
    np.testing.assert_allclose(log_probs, batch.log_probs, rtol=0, atol=5e-5)
    assert torch.isfinite(entropies).all()
    assert np.abs(batch.log_probs).max() > 1


def test_a_step_without_a_mask_allows_everything() -> None:
    """Here the masks of the first two steps are given only, and not those of later ones."""
    environment = specification("Masked", flaw="absent")
    batch = play(environment, decided_policy(environment))
    forbidden = unpack_forbidden(batch.forbidden, 145)
    for steps in batch.step_slices():
        assert forbidden[steps][:2].any(1).all()
        assert not forbidden[steps][2:].any()


def settings(environment: EnvironmentSpec, **changes: int) -> EnvironmentTrainSettings:
    small = {"total_steps": 300, "steps_per_update": 100, "hidden_size": 8, "epochs": 1, "minibatch_size": 50}
    kwargs = ", ".join(f'"{name}": {str(value).lower()}' for name, value in environment.kwargs)
    return EnvironmentTrainSettings.from_flat(
        {**small, "env": environment.id, "env_kwargs": f"{{{kwargs}}}", **changes}
    )


@pytest.mark.parametrize("environment", MASKED.values(), ids=MASKED)
def test_the_weights_are_the_same_to_the_last_bit_whoever_plays(environment: EnvironmentSpec) -> None:
    digests = set()
    for make in COLLECTORS:
        with make() as collector:
            training = EnvironmentTraining(settings(environment), collector)
            assert all(np.isfinite(report.statistics.entropy) for report in training.run())
            digests.add(policy_digest(training.learner.policy))
    assert len(digests) == 1


WRONG = {
    "short": "it must have 145 numbers, has 144",
    "split": "it must have 145 numbers, has 1 + 144",
    "half": "its numbers must be 0 or 1",
    "empty": "it leaves nothing to choose from",
}


@pytest.mark.parametrize(("flaw", "complaint"), WRONG.items(), ids=WRONG)
def test_a_wrong_mask_ends_the_run_with_the_step_it_came_for(flaw: str, complaint: str) -> None:
    environment = specification("Masked", flaw=flaw)
    with pytest.raises(EpisodeError) as caught:
        play(environment, decided_policy(environment))
    message = str(caught.value)
    assert re.fullmatch(
        rf"the action mask of \S+ at step 2 of episode \d+ \(run seed 3, policy version 0\) is no good: "
        rf"{re.escape(complaint)}",
        message,
    )
