"""Alignment schemes, against slow second versions that read as they are defined, and their multiplier."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from workflow_rl.alignment import Fix, FixCounts
from workflow_rl.alignment_schemes import SCHEMES, Alignment, mask_of
from workflow_rl.lagrange_multiplier import Gains, LagrangeMultiplier
from workflow_rl.settings import AlignmentSettings, allowed_values

judgements = st.lists(st.sampled_from(list(Fix)), min_size=1, max_size=40).map(lambda j: np.array(j, np.int8))
GAINS = Gains(proportional=10.0, integral=2.0, derivative=5.0)


def reward_of(judged: NDArray[np.int8], scheme: str, weight: float) -> NDArray[np.float32]:
    (reward,) = Alignment(AlignmentSettings(alignment=scheme, alignment_lambda=weight), 0.95).rewards(
        [judged]
    )
    assert (reward.dtype, reward.shape) == (np.float32, judged.shape)
    return reward


def test_every_scheme_can_be_asked_for() -> None:
    assert allowed_values(AlignmentSettings.__dataclass_fields__["alignment"]) == "one of " + ", ".join(
        SCHEMES
    )


@given(judgements, st.floats(0, 100), st.sampled_from(["violation", "lagrangian", "mask-lagrangian"]))
@settings(deadline=None)
def test_each_violating_fix_is_charged(judged: NDArray[np.int8], weight: float, scheme: str) -> None:
    np.testing.assert_array_equal(
        reward_of(judged, scheme, weight),
        [-np.float32(weight) if v == Fix.VIOLATING else 0.0 for v in judged],
    )


def slow_rate_reward(judged: list[int], weight: float) -> list[float]:
    """The rate after each step minus the rate before it; no judged fix yet is a rate of 0."""
    rewards = []
    for t in range(len(judged)):
        rates = []
        for prefix in (judged[:t], judged[: t + 1]):
            fixes = prefix.count(Fix.COMPLIANT) + prefix.count(Fix.VIOLATING)
            rates.append(prefix.count(Fix.COMPLIANT) / fixes if fixes else 0.0)
        rewards.append(weight * (rates[1] - rates[0]))
    if all(value == Fix.NONE for value in judged):
        rewards[-1] -= 0.2 * weight
    return rewards


@given(judgements, st.floats(0, 100))
@settings(deadline=None)
def test_rate_scheme_agrees_with_the_slow_one_and_telescopes(judged: NDArray[np.int8], weight: float) -> None:
    reward = reward_of(judged, "rate", weight)
    np.testing.assert_allclose(reward, slow_rate_reward(judged.tolist(), weight), atol=1e-5)
    final_rate = FixCounts.of(judged).compliance or 0.0
    penalty = 0.0 if np.any(judged) else 0.2
    assert reward.sum(dtype=np.float64) == pytest.approx(weight * (final_rate - penalty), abs=1e-4)


def test_rate_scheme_by_hand() -> None:
    judged = np.array([Fix.NONE, Fix.COMPLIANT, Fix.NEEDLESS, Fix.VIOLATING, Fix.NONE], np.int8)
    assert reward_of(judged, "rate", 10.0).tolist() == [0, 10, 0, -5, 0]
    assert reward_of(np.zeros(3, np.int8), "rate", 10.0).tolist() == [0, 0, -2]
    assert reward_of(np.array([0, Fix.NEEDLESS], np.int8), "rate", 10.0).tolist() == [0, 0]


@given(judgements, st.sampled_from(["mask", "none"]))
@settings(deadline=None)
def test_who_masks_or_binds_nobody_rewards_nothing(judged: NDArray[np.int8], scheme: str) -> None:
    assert not reward_of(judged, scheme, 10.0).any()


@pytest.mark.parametrize("definition", ["reachable", "any-session"])
def test_schemes_that_mask_do_it_by_the_definition_of_the_run(definition: str) -> None:
    masks = {name: mask_of(AlignmentSettings(alignment=name, compliance=definition)) for name in SCHEMES}
    assert masks == {
        "violation": None,
        "rate": None,
        "lagrangian": None,
        "mask": definition,
        "mask-lagrangian": definition,
        "none": None,
    }


# The multiplier


def slow_multiplier(costs: list[float], limit: float, start: float) -> float:
    """Algorithm 2 of Stooke, Achiam, Abbeel 2020 with bounded steps, term by term from the whole history."""
    integral = start
    for cost in costs:
        integral = max(0.0, integral + GAINS.integral * np.clip(cost - limit, -0.05, 0.05))
    rise = max(0.0, costs[-1] - costs[-2]) if len(costs) > 1 else 0.0
    return max(0.0, GAINS.proportional * (costs[-1] - limit) + integral + GAINS.derivative * rise)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.floats(0, 1), st.floats(0, 50))
@settings(deadline=None)
def test_the_multiplier_follows_the_costs(costs: list[float], limit: float, start: float) -> None:
    multiplier = LagrangeMultiplier.start(GAINS, limit=limit, value=start)
    assert multiplier.value == start
    for cost in costs:
        multiplier = multiplier.after(cost)
    assert multiplier.value == pytest.approx(slow_multiplier(costs, limit, start))


def test_integral_control_finds_the_price_of_a_constraint() -> None:
    """Maximise -(x - 1)^2 under x <= 0.25: the multiplier of the best x is 1.5."""
    multiplier = LagrangeMultiplier.start(Gains(0.5, 0.5, 0.5), limit=0.25, value=0.0)
    for _ in range(400):
        multiplier = multiplier.after(1 - multiplier.value / 2)
    assert multiplier.value == pytest.approx(1.5)
    assert multiplier.last_cost == pytest.approx(0.25)


def lagrangian(**changes: Any) -> Alignment:
    return Alignment(replace(AlignmentSettings(alignment="lagrangian"), **changes), 0.95)


@pytest.mark.parametrize("scheme", ["lagrangian", "mask-lagrangian"])
def test_the_weight_rises_while_compliance_is_missing_and_falls_when_it_is_not(scheme: str) -> None:
    alignment = lagrangian(alignment=scheme, alignment_lambda=5.0)
    weights = [alignment.weight]
    for compliance in (0.5, 0.8, 0.9, *[1.0] * 60, None):
        alignment.adapt(compliance)
        weights.append(alignment.weight)
    assert weights[0] == 5.0
    assert weights[1] > weights[0]
    assert weights[-1] == weights[-2] < weights[4]
    judged = np.array([Fix.VIOLATING], np.int8)
    assert alignment.rewards([judged])[0] == -np.float32(weights[-1])


def test_the_margin_moves_the_aim() -> None:
    for margin, is_too_little in ((0.0, False), (0.03, True)):
        alignment = lagrangian(compliance_margin=margin)
        alignment.adapt(0.96)
        assert (alignment.weight > 10.0) is is_too_little


@pytest.mark.parametrize("scheme", ["violation", "rate", "mask", "none"])
def test_other_weights_stay_as_they_are_set(scheme: str) -> None:
    alignment = Alignment(AlignmentSettings(alignment=scheme, alignment_lambda=7.0), 0.95)
    alignment.adapt(0.1)
    assert alignment.weight == 7.0


def test_a_scheme_goes_on_from_its_state() -> None:
    one, other = lagrangian(), lagrangian()
    for compliance in (0.3, 0.5, 0.4):
        one.adapt(compliance)
    other.restore(json.loads(json.dumps(one.to_state())))
    for alignment in (one, other):
        alignment.adapt(0.7)
    assert one.weight == other.weight != lagrangian().weight
