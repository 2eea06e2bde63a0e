"""Running statistics against those of all rows at once, and the policy that they are folded into."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from workflow_rl.collectors import SequentialCollector
from workflow_rl.environment_training import EnvironmentTraining
from workflow_rl.episode import EnvironmentSpec, Episodes, NetworkShape, Ticket
from workflow_rl.inference import actor_of
from workflow_rl.normalization import RewardScaling, RunningMoments
from workflow_rl.policy import ActorCritic, load_policy, policy_digest, policy_to_bytes
from workflow_rl.seeding import Stream
from workflow_rl.settings import EnvironmentTrainSettings

SHAPE = NetworkShape(num_observations=3, num_context=2, hidden_size=16, num_actions=4)
MEAN, DEVIATION = np.array([5.0, -0.1, 0.0]), np.array([2.0, 0.01, 1.0])


def sharpen(policy: ActorCritic) -> None:
    """Make a fresh policy one that is not nearly uniform."""
    with torch.no_grad():
        list(policy.actor.parameters())[-2].mul_(100)


def normalizing_policy() -> ActorCritic:
    policy = ActorCritic(SHAPE, seed=1, normalizes_observations=True)
    sharpen(policy)
    policy.set_normalization(MEAN, DEVIATION)
    return policy


def test_moments_are_those_of_all_rows() -> None:
    draws = np.random.default_rng(0)
    batches = [draws.normal([3, -1e3], [0.1, 20], (size, 2)).astype(np.float32) for size in (1, 40, 7, 300)]
    moments = RunningMoments(2)
    assert (moments.mean.tolist(), moments.deviation.tolist()) == ([0, 0], [1, 1])
    for batch in batches:
        moments.add(batch)
    rows = np.concatenate(batches).astype(np.float64)
    np.testing.assert_allclose(moments.mean, rows.mean(0), rtol=1e-12)
    np.testing.assert_allclose(moments.deviation, rows.std(0), rtol=1e-9)


def test_what_never_varies_is_not_blown_up() -> None:
    moments = RunningMoments(1)
    moments.add(np.full((5, 1), 7.0))
    assert moments.deviation[0] == 1e-4


def played(num_episodes: int) -> Episodes:
    """Episodes of different lengths."""
    environment = EnvironmentSpec("CartPole-v1")
    policy = ActorCritic(NetworkShape(4, 0, 4, 2))
    with SequentialCollector() as collector:
        collector.publish(policy.snapshot(0))
        collector.submit(
            [
                Ticket(0, Stream.TRAINING_EPISODE, episode, environment, version=0, batch=0)
                for episode in range(num_episodes)
            ]
        )
        return collector.collect(0)


def test_rewards_are_divided_by_the_deviation_of_their_discounted_sums() -> None:
    batch = played(5)
    rewards = np.random.default_rng(0).normal(size=batch.num_steps).astype(np.float32)
    batch = dataclasses.replace(batch, rewards=rewards)
    sums = [
        sum(0.9 ** (t - k) * float(rewards[steps][k]) for k in range(t + 1))
        for steps in batch.step_slices()
        for t in range(steps.stop - steps.start)
    ]
    scaling = RewardScaling(0.9)
    np.testing.assert_allclose(scaling.scale(batch), rewards / np.std(sums), rtol=1e-6)
    again = dataclasses.replace(batch, rewards=10 * rewards)
    deviation = np.std([*sums, *(10 * s for s in sums)])
    np.testing.assert_allclose(scaling.scale(again), 10 * rewards / deviation, rtol=1e-6)


def test_the_policy_sees_normalised_observations_and_untouched_context() -> None:
    plain, policy = ActorCritic(SHAPE, seed=1), normalizing_policy()
    raw = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
    normal = raw.copy()
    normal[:, :3] = (raw[:, :3] - MEAN) / DEVIATION
    sharpen(plain)
    with torch.no_grad():
        for function in ("logits", "values"):
            seen = getattr(policy, function)(torch.from_numpy(raw))
            expected = getattr(plain, function)(torch.from_numpy(normal))
            np.testing.assert_allclose(seen, expected, atol=1e-4)


def test_workers_evaluate_the_same_policy() -> None:
    policy = normalizing_policy()
    actor = actor_of(policy.snapshot(0))
    context = np.array([1, 0], np.float32)
    actor.begin_episode(context, np.uint64(1), greedy=False)
    rows = np.random.default_rng(1).normal(MEAN, DEVIATION, (20, 3)).astype(np.float32)
    with torch.no_grad():
        expected = policy.logits(torch.from_numpy(np.array([[*row, *context] for row in rows])))
    np.testing.assert_allclose([actor.logits(row) for row in rows], expected, atol=1e-4)


def test_policy_files_keep_the_statistics(tmp_path: Path) -> None:
    policy = normalizing_policy()
    file = tmp_path / "policy.safetensors"
    file.write_bytes(policy_to_bytes(policy, {}))
    loaded, _ = load_policy(file)
    assert policy_digest(loaded) == policy_digest(policy) != policy_digest(ActorCritic(SHAPE, seed=1))
    assert loaded.snapshot(0).parameters.tobytes() == policy.snapshot(0).parameters.tobytes()


@pytest.mark.parametrize("name", ["normalize_observations", "normalize_rewards"])
def test_the_training_uses_the_statistics_of_what_it_learnt_from(name: str) -> None:
    digests = set()
    for value in (False, True):
        settings = EnvironmentTrainSettings.from_flat({"total_steps": 300, "hidden_size": 8, name: value})
        with SequentialCollector() as collector:
            training = EnvironmentTraining(settings, collector)
            list(training.run())
        digests.add(tuple(training.learner.policy.snapshot(0).parameters.tolist()))
        if value and name == "normalize_observations":
            policy = training.learner.policy
            assert bool((policy.observation_scale > 1).all())  # all numbers of CartPole are small
    assert len(digests) == 2
