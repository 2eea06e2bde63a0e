"""Advantages: the recursion against the paper's sum, and cases with a closed form."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from workflow_rl.gae import generalized_advantages


def slow_advantages(
    rewards: list[NDArray[np.float32]],
    values: list[NDArray[np.float32]],
    has_future: list[bool],
    discount: float,
    gae_lambda: float,
) -> list[float]:
    """Equation 16 of the paper: A_t = sum over l of (gamma lambda)^l delta_t+l, episode by episode."""
    advantages = []
    for r, v, goes_on in zip(rewards, values, has_future, strict=True):
        following = [*v[1:-1], v[-1] if goes_on else 0.0]
        deltas = [r[t] + discount * following[t] - v[t] for t in range(len(r))]
        advantages += [
            sum((discount * gae_lambda) ** step * delta for step, delta in enumerate(deltas[t:]))
            for t in range(len(r))
        ]
    return advantages


def advantages_of(
    rewards: list[float],
    values: list[float],
    lengths: list[int],
    has_future: list[bool],
    discount: float,
    gae_lambda: float,
) -> NDArray[np.float32]:
    result = generalized_advantages(
        np.array(rewards, np.float32),
        np.array(values, np.float32),
        np.array(lengths, np.int32),
        np.array(has_future),
        discount,
        gae_lambda,
    )
    assert result.dtype == np.float32
    return result


@given(
    st.lists(st.tuples(st.integers(1, 12), st.booleans()), min_size=1, max_size=6),
    st.floats(0, 1),
    st.floats(0, 1),
    st.integers(0, 2**31),
)
@settings(deadline=None)
def test_recursion_agrees_with_the_papers_sum(
    episodes: list[tuple[int, bool]], discount: float, gae_lambda: float, seed: int
) -> None:
    draws = np.random.default_rng(seed)
    lengths = [length for length, _ in episodes]
    has_future = [goes_on for _, goes_on in episodes]
    rewards = [draws.normal(size=length).astype(np.float32) for length in lengths]
    values = [draws.normal(size=length + 1).astype(np.float32) for length in lengths]
    arrays = (
        np.concatenate(rewards),
        np.concatenate(values),
        np.array(lengths, np.int32),
        np.array(has_future),
        discount,
        gae_lambda,
    )
    expected = slow_advantages(rewards, values, has_future, discount, gae_lambda)
    np.testing.assert_allclose(generalized_advantages(*arrays), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(generalized_advantages.py_func(*arrays), generalized_advantages(*arrays))


def test_lambda_0_is_the_temporal_difference() -> None:
    assert advantages_of([1, 2], [10, 20, 40], [2], [True], 0.5, 0.0).tolist() == [1 + 10 - 10, 2 + 20 - 20]


def test_lambda_1_is_the_discounted_return_minus_the_value() -> None:
    result = advantages_of([1, 2, 4], [10, 20, 30, 64], [3], [True], 0.5, 1.0)
    assert result.tolist() == [1 + 1 + 1 + 8 - 10, 2 + 2 + 16 - 20, 4 + 32 - 30]


def test_a_constant_reward_without_values_sums_geometrically() -> None:
    """With r = 1 and V = 0, A_t = (1 - (gamma lambda)^(T - t)) / (1 - gamma lambda)."""
    result = advantages_of([1] * 50, [0] * 51, [50], [False], 0.99, 0.95)
    expected = [(1 - 0.9405 ** (50 - t)) / (1 - 0.9405) for t in range(50)]
    np.testing.assert_allclose(result, expected, rtol=1e-6)


def test_true_values_leave_no_advantage() -> None:
    """A critic that knows the discounted return to come: every delta is 0, for any lambda."""
    rewards = [3.0, -1.0, 2.0, 5.0]
    values = [5.0] * 5
    for t in reversed(range(4)):
        values[t] = rewards[t] + 0.5 * values[t + 1]
    assert not advantages_of(rewards, values, [4], [True], 0.5, 0.9).any()


def test_the_final_value_counts_only_where_the_return_goes_on() -> None:
    """A terminated episode is worth nothing after its end; a truncated one what the critic says."""
    assert advantages_of([1], [10, 100], [1], [False], 0.5, 0.95).tolist() == [1 - 10]
    assert advantages_of([1], [10, 100], [1], [True], 0.5, 0.95).tolist() == [1 + 50 - 10]


def test_nothing_flows_from_one_episode_into_another() -> None:
    """Each episode of a batch of unequal lengths gets what it gets alone."""
    draws = np.random.default_rng(0)
    lengths, has_future = [3, 1, 7, 2], [True, False, True, False]
    rewards = [draws.normal(size=n).tolist() for n in lengths]
    values = [draws.normal(size=n + 1).tolist() for n in lengths]
    together = advantages_of([*chain(*rewards)], [*chain(*values)], lengths, has_future, 0.99, 0.95)
    alone = [
        advantages_of(r, v, [n], [f], 0.99, 0.95)
        for r, v, n, f in zip(rewards, values, lengths, has_future, strict=True)
    ]
    np.testing.assert_array_equal(together, np.concatenate(alone))


@pytest.mark.parametrize(("discount", "gae_lambda"), [(0.0, 0.95), (0.9, 0.0)])
def test_without_discount_or_lambda_no_later_reward_counts(discount: float, gae_lambda: float) -> None:
    base = advantages_of([1, 1, 1], [2, 2, 2, 2], [3], [True], discount, gae_lambda)
    changed = advantages_of([1, 1, 9], [2, 2, 2, 2], [3], [True], discount, gae_lambda)
    assert (changed - base).tolist() == [0, 0, 8]
