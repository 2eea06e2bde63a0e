"""The learner: against a slow second update, at the edges of the clip, and on a small task it must learn."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from workflow_rl.collectors import SequentialCollector
from workflow_rl.episode import EnvironmentSpec, Episodes, Ticket, unpack_forbidden
from workflow_rl.errors import EpisodeError, LearnerError, SettingError
from workflow_rl.network_inputs import distinct_inputs
from workflow_rl.policy import ActorCritic, policy_digest
from workflow_rl.ppo import PPO, UpdateStatistics, torch_device
from workflow_rl.rollout import make_environment, network_shape
from workflow_rl.seeding import Stream
from workflow_rl.settings import PPOSettings
from workflow_rl.workflow import Workflow

ORDERS = (0, 119)
FULL_BATCH = PPOSettings(minibatch_size=0, epochs=1)


class NameTheNumber(gymnasium.Env[NDArray[Any], np.int64]):
    """Shows a number in two bits; naming it earns 1. Episodes of 3 to 6 steps end themselves or are cut.

    With masks it rules out some of the wrong numbers, others each time.
    """

    def __init__(self, is_binary: bool = True, terminates: bool = False, has_masks: bool = False) -> None:
        box = spaces.Box(0, 1, (2,), np.float32)
        self.observation_space = spaces.MultiBinary(2) if is_binary else box
        self.action_space = spaces.Discrete(4)
        self._terminates = terminates
        self._has_masks = has_masks

    def _show(self) -> tuple[NDArray[Any], dict[str, Any]]:
        self._number = int(self.np_random.integers(4))
        shown = np.array([self._number & 1, self._number >> 1], self.observation_space.dtype)
        if not self._has_masks:
            return shown, {}
        mask = self.np_random.integers(0, 2, 4)
        mask[self._number] = 1
        return shown, {"action_mask": mask}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        super().reset(seed=seed)
        self._steps_left = int(self.np_random.integers(3, 7))
        return self._show()

    def step(self, action: np.int64) -> tuple[NDArray[Any], float, bool, bool, dict[str, Any]]:
        reward = float(action == self._number)
        self._steps_left -= 1
        is_over = self._steps_left == 0
        shown, info = self._show()
        return shown, reward, is_over and self._terminates, is_over and not self._terminates, info


gymnasium.register("workflow_rl_tests/NameTheNumber-v0", entry_point=NameTheNumber)


def spec(**kwargs: bool) -> EnvironmentSpec:
    return EnvironmentSpec.of("workflow_rl_tests/NameTheNumber-v0", kwargs)


def new_policy(seed: int = 0, *, has_workflow: bool = True) -> ActorCritic:
    """A policy that is not uniform and a critic that is not constant."""
    shape = network_shape(make_environment(spec()), hidden_size=16, has_workflow=has_workflow)
    policy = ActorCritic(shape, seed)
    with torch.no_grad():
        policy.actor[4].weight *= 100
    return policy


def play(
    policy: ActorCritic, environment: EnvironmentSpec, *, first: int = 0, num_episodes: int = 12
) -> Episodes:
    """Episodes of two orders in turn, if the policy is told the order."""
    tickets = [
        Ticket(
            0,
            Stream.TRAINING_EPISODE,
            episode,
            environment,
            version=0,
            batch=0,
            workflow=ORDERS[episode % 2] if policy.shape.num_context else None,
        )
        for episode in range(first, first + num_episodes)
    ]
    with SequentialCollector() as collector:
        collector.publish(policy.snapshot(0))
        collector.submit(tickets)
        return collector.collect(0)


def shaped_rewards(batch: Episodes) -> NDArray[np.float32]:
    """Other rewards than the environment's, as the alignment reward makes them."""
    return batch.rewards + np.linspace(-1, 3, batch.num_steps, dtype=np.float32)


def update(
    policy: ActorCritic,
    settings: PPOSettings,
    batch: Episodes,
    rewards: NDArray[np.float32] | None = None,
    *,
    is_on_policy: bool = True,
    seed: int = 0,
    stream_index: int = 0,
) -> tuple[ActorCritic, UpdateStatistics]:
    """The policy after one update, and what the update says; the argument stays as it is."""
    learner = PPO(copy.deepcopy(policy), settings, seed=seed, stream_index=stream_index)
    statistics = learner.update(
        batch, shaped_rewards(batch) if rewards is None else rewards, is_on_policy=is_on_policy
    )
    return learner.policy, statistics


def slow_update(
    policy: ActorCritic,
    settings: PPOSettings,
    batch: Episodes,
    rewards: NDArray[np.float32],
    *,
    is_decoupled: bool,
) -> tuple[ActorCritic, dict[str, float]]:
    """One update on the whole batch as the papers write it: step by step, in double precision."""
    learnt = copy.deepcopy(policy).double()
    rows, actions, advantages, returns, values = [], [], [], [], []
    for index, steps in enumerate(batch.step_slices()):
        order = Workflow.from_index(batch.tickets[index].workflow or 0).one_hot().ravel()
        seen = batch.observations[steps.start + index : steps.stop + index + 1]
        inputs = torch.tensor(np.array([[*row, *order] for row in seen]), dtype=torch.float64)
        v = learnt.values(inputs).tolist()
        if settings.horizon == "end" or batch.terminated[index]:
            v[-1] = 0.0
        scaled = rewards[steps] * settings.reward_scale
        advantage = 0.0
        backwards = []
        for t in reversed(range(len(scaled))):
            delta = scaled[t] + settings.discount * v[t + 1] - v[t]
            advantage = delta + settings.discount * settings.gae_lambda * advantage
            backwards.append(advantage)
        rows.append(inputs[:-1])
        actions += batch.actions[steps].tolist()
        advantages += backwards[::-1]
        returns += [a + value for a, value in zip(backwards[::-1], v[:-1], strict=True)]
        values += v[:-1]
    inputs = torch.cat(rows)
    explained = 1 - np.var(np.array(returns) - values) / np.var(returns)
    gain_of = torch.tensor(advantages)
    if settings.normalize_advantages:
        gain_of = (gain_of - gain_of.mean()) / gain_of.std(correction=0)
    behaviour = torch.tensor(batch.log_probs).double()
    allowed = torch.from_numpy(~unpack_forbidden(batch.forbidden, 4))
    position = [int(may[:action].sum()) for may, action in zip(allowed, actions, strict=True)]

    def choices() -> list[Tensor]:
        """Of each step, the log-probabilities of the actions it allowed."""
        return [row[may].log_softmax(-1) for row, may in zip(learnt.logits(inputs), allowed, strict=True)]

    def log_probs() -> Tensor:
        return torch.stack([choice[i] for choice, i in zip(choices(), position, strict=True)])

    proximal = log_probs().detach() if is_decoupled else behaviour
    weights = (proximal - behaviour).exp()
    optimizer = torch.optim.Adam(learnt.parameters(), settings.learning_rate, eps=1e-5)
    seen_by_epoch = []
    for _ in range(settings.epochs):
        ratio = (log_probs() - proximal).exp()
        low, high = 1 - settings.clip_range, 1 + settings.clip_range
        objective = torch.stack([ratio * gain_of, ratio.clip(low, high) * gain_of]).amin(0)
        policy_loss = -(weights.clip(max=settings.importance_weight_cap) * objective).mean()
        error = (learnt.values(inputs) - torch.tensor(returns)).abs()
        value_loss = torch.where(error < 1, error**2 / 2, error - 0.5).mean()
        entropy = -torch.stack([(choice.exp() * choice).sum() for choice in choices()]).mean()
        optimizer.zero_grad()
        loss = policy_loss + settings.value_coefficient * value_loss - settings.entropy_coefficient * entropy
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.stack([p.grad.square().sum() for p in learnt.parameters()]).sum().sqrt()
        for parameter in learnt.parameters():
            parameter.grad *= min(1.0, settings.max_gradient_norm / norm)
        optimizer.step()
        kl = (ratio - 1 - ratio.log()).mean()
        outside = ((ratio < low) | (ratio > high)).double().mean()
        seen_by_epoch.append([x.item() for x in (policy_loss, value_loss, entropy, kl, outside, norm)])
    names = ("policy_loss", "value_loss", "entropy", "approximate_kl", "clip_fraction", "gradient_norm")
    statistics = dict(zip(names, np.mean(seen_by_epoch, axis=0).tolist(), strict=True))
    statistics["explained_variance"] = float(explained)
    statistics["importance_weight_mean"] = float(weights.mean())
    statistics["importance_weight_max"] = float(weights.max())
    return learnt.float(), statistics


VARIANTS = {
    "default": {},
    "coupled": {"objective": "coupled"},
    "low-cap": {"importance_weight_cap": 1.1},
    "end": {"horizon": "end"},
    "raw-advantages": {"normalize_advantages": False, "reward_scale": 3.0},
    "no-value": {"value_coefficient": 0.0},
    "no-entropy": {"entropy_coefficient": 0.0},
    "much-entropy": {"entropy_coefficient": 0.5},
    "wide-clip": {"clip_range": 0.9},
    "discount": {"discount": 0.7, "gae_lambda": 0.5},
    "small-gradients": {"max_gradient_norm": 1e-5},
    "large-gradients": {"max_gradient_norm": 1e5},
}


@pytest.mark.parametrize("played_by", ["this", "older"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_an_update_agrees_with_the_slow_one(variant: str, played_by: str) -> None:
    check_against_the_slow_one(VARIANTS[variant], spec(), is_on_policy=played_by == "this")


@pytest.mark.parametrize("played_by", ["this", "older"])
@pytest.mark.parametrize("is_binary", [True, False])
def test_an_update_under_masks_agrees_with_the_slow_one(is_binary: bool, played_by: str) -> None:
    """Also where the same observation came with different masks."""
    environment = spec(is_binary=is_binary, has_masks=True)
    check_against_the_slow_one({"entropy_coefficient": 0.1}, environment, is_on_policy=played_by == "this")


def check_against_the_slow_one(
    variant: dict[str, Any], environment: EnvironmentSpec, *, is_on_policy: bool
) -> None:
    """Weights to 2e-6 after steps of 1e-2, and every statistic to 1e-4: float32 against float64."""
    settings = dataclasses.replace(FULL_BATCH, epochs=4, learning_rate=1e-2, **variant)
    policy = new_policy(0)
    batch = play(policy if is_on_policy else new_policy(1), environment)
    expected, expected_statistics = slow_update(
        policy,
        settings,
        batch,
        shaped_rewards(batch),
        is_decoupled=settings.objective == "decoupled" and not is_on_policy,
    )
    learnt, statistics = update(policy, settings, batch, is_on_policy=is_on_policy)
    for name, value in expected_statistics.items():
        assert getattr(statistics, name) == pytest.approx(value, rel=1e-4, abs=1e-5), name
    for got, wanted in zip(learnt.parameters(), expected.parameters(), strict=True):
        np.testing.assert_allclose(got.detach(), wanted.detach(), rtol=0, atol=2e-6)


def test_the_variants_are_variants() -> None:
    """Otherwise the comparison above would not notice a setting that is ignored."""
    policy, batch = new_policy(0), play(new_policy(1), spec())
    digests = set()
    for variant in VARIANTS.values():
        settings = dataclasses.replace(FULL_BATCH, epochs=4, learning_rate=1e-2, **variant)
        digests.add(policy_digest(update(policy, settings, batch, is_on_policy=False)[0]))
    assert len(digests) == len(VARIANTS)


def test_observations_seen_once_or_row_by_row_teach_the_same() -> None:
    """Equal bits are evaluated once; as decimal numbers each step is evaluated."""
    policy, binary = new_policy(), play(new_policy(), spec())
    decimal = play(new_policy(), spec(is_binary=False))
    assert (binary.observations.dtype, decimal.observations.dtype) == (np.uint8, np.float32)
    np.testing.assert_array_equal(binary.actions, decimal.actions)
    (first, _), (second, _) = (update(policy, FULL_BATCH, batch) for batch in (binary, decimal))
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        np.testing.assert_allclose(a.detach(), b.detach(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("is_on_policy", [True, False])
def test_inputs_that_are_never_set_may_be_left_out(is_on_policy: bool) -> None:
    """Two orders set ten of the twenty-five bits of the workflow."""
    policy, rare = new_policy(), dataclasses.replace(FULL_BATCH, epochs=3, minibatch_size=20)
    batch = play(new_policy(1), spec())
    whole, told = update(policy, rare, batch, is_on_policy=is_on_policy)
    quick, told_of_quick = update(
        policy, dataclasses.replace(rare, drop_unused_inputs=True), batch, is_on_policy=is_on_policy
    )
    for name, weights in whole.state_dict().items():
        torch.testing.assert_close(quick.state_dict()[name], weights, rtol=1e-4, atol=1e-6)
        assert not torch.equal(weights, policy.state_dict()[name])
    assert told_of_quick.entropy == pytest.approx(told.entropy, rel=1e-5)


def test_annealing_weighs_the_settings() -> None:
    policy, batch = new_policy(), play(new_policy(), spec())
    halved = dataclasses.replace(
        FULL_BATCH,
        learning_rate=FULL_BATCH.learning_rate / 2,
        entropy_coefficient=FULL_BATCH.entropy_coefficient / 4,
    )
    expected, _ = update(policy, halved, batch)
    learner = PPO(copy.deepcopy(policy), FULL_BATCH, seed=0)
    learner.anneal(learning_rate=0.5, entropy=0.25)
    learner.update(batch, shaped_rewards(batch), is_on_policy=True)
    assert policy_digest(learner.policy) == policy_digest(expected)
    assert policy_digest(expected) != policy_digest(update(policy, FULL_BATCH, batch)[0])


def test_the_first_gradient_step_on_policy_has_ratio_1() -> None:
    """What workers stored and what torch computes are the same policy, to float32."""
    policy = new_policy()
    _, statistics = update(policy, FULL_BATCH, play(policy, spec()))
    assert abs(statistics.approximate_kl) < 1e-7
    assert statistics.clip_fraction == 0
    assert statistics.importance_weight_mean == statistics.importance_weight_max == 1
    _, later = update(policy, dataclasses.replace(FULL_BATCH, epochs=8), play(policy, spec()))
    assert later.approximate_kl > 1e-6


@pytest.mark.parametrize("is_outside_on_the_gaining_side", [True, False])
def test_where_the_clip_is_active_there_is_no_gradient(is_outside_on_the_gaining_side: bool) -> None:
    """A ratio that has already moved where the advantage points is held; one on the other side is not."""
    policy = new_policy()
    batch = play(policy, spec())
    is_gain = np.arange(batch.num_steps) % 2 == 0
    towards = np.where(is_gain == is_outside_on_the_gaining_side, 1, -1).astype(np.float32)
    moved = dataclasses.replace(batch, log_probs=batch.log_probs - towards)  # ratio e or 1/e
    settings = dataclasses.replace(
        FULL_BATCH,
        objective="coupled",
        value_coefficient=0.0,
        entropy_coefficient=0.0,
        normalize_advantages=False,
        gae_lambda=0.0,
        horizon="end",
    )
    rewards = np.where(is_gain, 1000, -1000).astype(np.float32)
    _, statistics = update(policy, settings, moved, rewards, is_on_policy=False)
    assert statistics.clip_fraction == 1
    assert (statistics.gradient_norm == 0) == is_outside_on_the_gaining_side


def test_without_lag_the_two_objectives_are_one() -> None:
    policy = new_policy()
    batch = play(policy, spec())
    settings = [
        dataclasses.replace(FULL_BATCH, epochs=3, objective=name) for name in ("decoupled", "coupled")
    ]
    digests = {policy_digest(update(policy, s, batch)[0]) for s in settings}
    assert len(digests) == 1
    recomputed, _ = update(policy, settings[0], batch, is_on_policy=False)
    stored, _ = update(policy, settings[0], batch)
    for a, b in zip(recomputed.parameters(), stored.parameters(), strict=True):
        np.testing.assert_allclose(a.detach(), b.detach(), rtol=0, atol=2e-6)


def test_an_older_policys_batch_is_clipped_around_the_present_one_only_if_decoupled() -> None:
    policy, batch = new_policy(0), play(new_policy(1), spec())
    clip_fractions = {}
    for objective in ("decoupled", "coupled"):
        settings = dataclasses.replace(FULL_BATCH, objective=objective)
        _, statistics = update(policy, settings, batch, is_on_policy=False)
        clip_fractions[objective] = statistics.clip_fraction
        assert (statistics.importance_weight_max > 1.1) == (objective == "decoupled")
    assert clip_fractions["decoupled"] == 0 < clip_fractions["coupled"]


def test_importance_weights_are_truncated_and_reported_before() -> None:
    """Ten times too rare under the behaviour policy: a weight of 10, of which the cap leaves 2."""
    policy = new_policy()
    batch = play(policy, spec())
    rare = dataclasses.replace(batch, log_probs=batch.log_probs - np.log(np.float32(10)))
    losses = {}
    for cap in (1.0, 2.0, 10.0, 100.0):
        settings = dataclasses.replace(FULL_BATCH, importance_weight_cap=cap, normalize_advantages=False)
        _, statistics = update(policy, settings, rare, is_on_policy=False)
        assert statistics.importance_weight_max == pytest.approx(10, rel=1e-4)
        assert statistics.importance_weight_mean == pytest.approx(10, rel=1e-4)
        losses[cap] = statistics.policy_loss
    assert losses[2.0] == pytest.approx(2 * losses[1.0])
    assert losses[10.0] == pytest.approx(10 * losses[1.0], rel=1e-4)
    assert losses[100.0] == pytest.approx(10 * losses[1.0], rel=1e-4)


@pytest.mark.parametrize(
    ("num_steps", "size", "expected"), [(103, 10, 10), (100, 0, 1), (5, 2500, 1), (15, 10, 2)]
)
def test_minibatches_take_every_step_once_an_epoch(num_steps: int, size: int, expected: int) -> None:
    learner = PPO(new_policy(), PPOSettings(minibatch_size=size, epochs=3), seed=0)
    minibatches = [rows.tolist() for rows in learner._minibatches(num_steps)]
    assert len(minibatches) == 3 * expected
    epochs = [minibatches[i : i + expected] for i in range(0, 3 * expected, expected)]
    orders = [list(itertools.chain(*epoch)) for epoch in epochs]
    assert all(sorted(order) == list(range(num_steps)) for order in orders)
    assert orders[0] != orders[1] != orders[2]
    sizes = {len(rows) for rows in minibatches}
    assert max(sizes) - min(sizes) <= 1


def test_weights_follow_from_the_seed() -> None:
    policy = new_policy()
    batch = play(policy, spec())
    settings = PPOSettings(minibatch_size=8)

    def digest(**names: int) -> str:
        return policy_digest(update(policy, settings, batch, **names)[0])

    assert digest() == digest()
    assert len({digest(), digest(seed=1), digest(stream_index=1)}) == 3


def test_every_update_shuffles_anew() -> None:
    learner = PPO(new_policy(), PPOSettings(minibatch_size=8, epochs=1), seed=0)
    batch = play(learner.policy, spec())
    before = [rows.tolist() for rows in learner._minibatches(batch.num_steps)]
    learner.update(batch, batch.rewards, is_on_policy=True)
    assert learner.num_updates == 1
    assert [rows.tolist() for rows in learner._minibatches(batch.num_steps)] != before


@pytest.mark.parametrize("terminates", [True, False])
def test_the_horizon_matters_only_to_episodes_that_were_cut(terminates: bool) -> None:
    policy = new_policy()
    batch = play(policy, spec(terminates=terminates))
    assert batch.terminated.tolist() == [terminates] * len(batch)
    settings = [dataclasses.replace(FULL_BATCH, horizon=name) for name in ("truncation", "end")]
    digests = {policy_digest(update(policy, s, batch)[0]) for s in settings}
    assert len(digests) == (1 if terminates else 2)


def test_what_is_not_finite_is_not_learnt_from() -> None:
    learner = PPO(new_policy(), FULL_BATCH, seed=0)
    batch = play(learner.policy, spec())
    before = policy_digest(learner.policy)
    spoilt = dataclasses.replace(batch, rewards=np.full_like(batch.rewards, np.nan))
    with pytest.raises(EpisodeError, match="a reward that is not finite at step 0 of episode 0 "):
        learner.update(spoilt, spoilt.rewards, is_on_policy=True)
    assert policy_digest(learner.policy) == before


def test_weights_that_are_no_numbers_are_an_error() -> None:
    learner = PPO(new_policy(), dataclasses.replace(FULL_BATCH, learning_rate=1e38, epochs=2), seed=0)
    batch = play(learner.policy, spec())
    with pytest.raises(LearnerError, match=r"^update 1 made weights .* --learning-rate"):
        learner.update(batch, batch.rewards, is_on_policy=True)


@pytest.mark.parametrize("terminates", [True, False])
def test_an_episode_that_was_cut_is_worth_what_would_have_come(terminates: bool) -> None:
    """At 1 a step for ever the return is 2; over the 1 to 6 steps that are left it is less.

    (Discount 0.5; whether an episode was cut is all in which the two cases differ.)
    """
    settings = PPOSettings(learning_rate=1e-2, minibatch_size=32, discount=0.5, reward_scale=1.0)
    learner = PPO(new_policy(), settings, seed=0)
    for number in range(12):
        batch = play(learner.policy, spec(terminates=terminates), first=20 * number, num_episodes=20)
        learner.update(batch, np.ones_like(batch.rewards), is_on_policy=True)
    with torch.no_grad():
        values = learner.policy.values(torch.from_numpy(distinct_inputs(batch, 4).inputs))
    if terminates:
        assert values.max() < 1.8
    else:
        np.testing.assert_allclose(values, 2, atol=0.1)


@pytest.mark.parametrize("is_binary", [True, False])
def test_a_small_task_is_learnt(is_binary: bool) -> None:
    """From chance, 1 in 4, to 9 in 10 in 25 updates; with rewards turned round it would learn to be wrong."""
    environment = spec(is_binary=is_binary)
    shape = network_shape(make_environment(environment), hidden_size=16, has_workflow=False)
    learner = PPO(ActorCritic(shape, seed=3), PPOSettings(learning_rate=1e-2, minibatch_size=32), seed=0)
    shares = []
    for number in range(25):
        batch = play(learner.policy, environment, first=20 * number, num_episodes=20)
        shares.append(batch.rewards.mean())
        learner.update(batch, batch.rewards, is_on_policy=True)
    assert shares[0] == pytest.approx(0.25, abs=0.15)
    assert np.mean(shares[-3:]) > 0.9


def test_the_critic_learns_the_return() -> None:
    """Explained variance goes from nothing towards 1 when the return can be told from the observation."""
    learner = PPO(new_policy(), PPOSettings(learning_rate=1e-2, minibatch_size=32, discount=0.0), seed=0)
    explained = []
    for number in range(15):
        batch = play(learner.policy, spec(), first=20 * number, num_episodes=20)
        bits = np.delete(batch.observations[:, 0], np.cumsum(batch.lengths + 1) - 1)
        rewards = np.where(bits == 1, 10, -10).astype(np.float32)
        explained.append(learner.update(batch, rewards, is_on_policy=True).explained_variance)
    assert explained[0] < 0.5
    assert explained[-1] > 0.95


def test_a_device_that_cannot_be_used_is_refused_in_one_line() -> None:
    assert torch_device("cpu") == torch.device("cpu")
    for name in ("abacus", "cuda:99", "meta"):
        with pytest.raises(SettingError) as caught:
            torch_device(name)
        assert f"--device '{name}'" in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1
