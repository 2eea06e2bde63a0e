"""The Gaussian process over orders, against a second, slow, obvious implementation."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import clone

from workflow_rl.equivalent_orders import PAIRS, OrderClasses
from workflow_rl.gaussian_process import (
    SCALE_DEVIATION,
    SIGNAL_DEVIATION,
    SIGNAL_VARIANCE_BOUNDS,
    Observation,
    OrderPosterior,
    posterior,
)
from workflow_rl.hyperparameters import NormalPrior, log_evidence, most_probable, penalised
from workflow_rl.mallows_kernel import (
    LENGTH_SCALE_INVERSE,
    LENGTH_SCALE_INVERSE_BOUNDS,
    MallowsKernel,
    discordances,
)
from workflow_rl.workflow import HostType, Workflow, all_workflows

WORKFLOWS = all_workflows()
RANKS = np.array([workflow.ranks for workflow in WORKFLOWS], np.float64)
PREFERENCES = OrderClasses.all_different().preferences
DISTANCES = np.array([[a.kendall_distance(b) for b in WORKFLOWS] for a in WORKFLOWS])


def landscape(seed: int, length_scale_inverse: float = 0.3) -> NDArray[np.float64]:
    """Rewards of all orders, drawn from a Mallows process around -60 with deviation 5."""
    covariance = np.exp(-length_scale_inverse * DISTANCES) + 1e-9 * np.eye(120)
    draws = np.random.default_rng(seed).normal(size=120)
    return -60 + 5 * np.linalg.cholesky(covariance) @ draws


def one_pair_decides(seed: int) -> NDArray[np.float64]:
    """Rewards of all orders: whether users go before op_servers is worth 10, every other pair up to 1."""
    worths = np.random.default_rng(seed).uniform(-0.5, 0.5, 10)
    worths[PAIRS.index((2, 4))] = 5.0
    return -60 + PREFERENCES @ worths


def observe(
    rewards: NDArray[np.float64], num_observations: int, seed: int, noise: float
) -> list[Observation]:
    generator = np.random.default_rng(seed)
    indices = generator.integers(0, 120, num_observations)
    return [Observation(WORKFLOWS[i], float(rewards[i] + noise * generator.normal()), noise) for i in indices]


def slow_covariance(
    signal_variance: float, length_scale_inverses: Sequence[float] | NDArray[np.float64]
) -> NDArray[np.float64]:
    def covariance(a: Workflow, b: Workflow) -> float:
        discordant = [(a.ranks[i] < a.ranks[j]) != (b.ranks[i] < b.ranks[j]) for i, j in PAIRS]
        return signal_variance * math.exp(-float(np.dot(length_scale_inverses, discordant)))

    return np.array([[covariance(a, b) for b in WORKFLOWS] for a in WORKFLOWS])


def slow_posterior(observations: list[Observation], belief: OrderPosterior) -> tuple[NDArray, NDArray]:
    """Mean and covariance by the textbook's formula, in units of reward, for the given hyper-parameters."""
    covariance = slow_covariance(belief.signal_standard_deviation**2, belief.length_scale_inverses)
    rows = [o.workflow.index for o in observations]
    noise = np.diag([o.standard_error**2 for o in observations])
    inverse = np.linalg.inv(covariance[np.ix_(rows, rows)] + noise)
    gain = covariance[:, rows] @ inverse
    mean = belief.prior_mean + gain @ (np.array([o.reward for o in observations]) - belief.prior_mean)
    return mean, covariance - gain @ covariance[rows]


def slow_log_density(observations: list[Observation], belief: OrderPosterior, scale: float, theta) -> float:
    """Log marginal likelihood of the scaled rewards plus log prior, up to a constant."""
    signal_variance, length_scale_inverse = np.exp(theta)
    rows = [o.workflow.index for o in observations]
    covariance = signal_variance * np.exp(-length_scale_inverse * DISTANCES[np.ix_(rows, rows)])
    covariance += np.diag([(o.standard_error / scale) ** 2 for o in observations])
    rewards = (np.array([o.reward for o in observations]) - belief.prior_mean) / scale
    likelihood = -0.5 * (rewards @ np.linalg.inv(covariance) @ rewards + np.linalg.slogdet(covariance)[1])
    deviations = (theta - np.log([1.0, LENGTH_SCALE_INVERSE])) / [SIGNAL_DEVIATION, SCALE_DEVIATION]
    return float(likelihood - 0.5 * deviations @ deviations)


def test_discordances_are_kendall_distances() -> None:
    np.testing.assert_array_equal(discordances(PREFERENCES, PREFERENCES[:7]).sum(axis=2), DISTANCES[:, :7])


@pytest.mark.parametrize("length_scale_inverse", [*LENGTH_SCALE_INVERSE_BOUNDS, LENGTH_SCALE_INVERSE])
def test_kernel_is_a_covariance_over_all_orders(length_scale_inverse: float) -> None:
    kernel = MallowsKernel(length_scale_inverse)
    covariance = kernel(PREFERENCES)
    np.testing.assert_allclose(covariance, slow_covariance(1.0, [length_scale_inverse] * 10), rtol=1e-13)
    np.testing.assert_array_equal(covariance, covariance.T)
    np.testing.assert_array_equal(kernel.diag(PREFERENCES), np.diag(covariance))
    assert np.linalg.eigvalsh(covariance).min() > 1e-9


def test_kernel_with_a_scale_per_pair_weighs_each_pair() -> None:
    scales = np.geomspace(0.02, 2.0, 10)
    np.testing.assert_allclose(MallowsKernel(scales)(PREFERENCES), slow_covariance(1.0, scales), rtol=1e-13)


@pytest.mark.parametrize("scales", [0.35, np.geomspace(0.05, 1.0, 10)], ids=["single", "by pair"])
def test_kernel_gradient_matches_finite_differences(scales: float | NDArray[np.float64]) -> None:
    kernel, points = MallowsKernel(scales), PREFERENCES[::7]
    _, gradient = kernel(points, eval_gradient=True)
    assert gradient.shape == (18, 18, np.size(scales))
    for dimension, step in enumerate(1e-6 * np.eye(np.size(scales))):
        above, below = (kernel.clone_with_theta(kernel.theta + sign * step)(points) for sign in (1, -1))
        np.testing.assert_allclose(gradient[:, :, dimension], (above - below) / 2e-6, atol=1e-9)


def test_kernel_is_a_scikit_learn_kernel() -> None:
    kernel = MallowsKernel(0.35)
    assert clone(kernel) == kernel
    assert kernel.theta == pytest.approx([math.log(0.35)])
    np.testing.assert_allclose(kernel.bounds, [np.log(LENGTH_SCALE_INVERSE_BOUNDS)])
    assert not kernel.is_stationary()


def test_kernel_with_fixed_length_scale_has_nothing_to_optimise() -> None:
    covariance, gradient = MallowsKernel(0.35, "fixed")(PREFERENCES[:4], eval_gradient=True)
    assert covariance.shape == (4, 4)
    assert gradient.shape == (4, 4, 0)


def test_kernel_refuses_a_gradient_between_two_sets() -> None:
    with pytest.raises(ValueError, match="one set of orders"):
        MallowsKernel()(PREFERENCES, PREFERENCES, eval_gradient=True)


@pytest.mark.parametrize("num_observations", [1, 2, 3, 10, 60, 150])
def test_posterior_agrees_with_the_textbook(num_observations: int) -> None:
    observations = observe(landscape(1), num_observations, seed=2, noise=0.8)
    belief = posterior(observations)
    mean, covariance = slow_posterior(observations, belief)
    # The fast one adds a millionth of the rewards' variance as noise.
    np.testing.assert_allclose(belief.mean, mean, atol=1e-3)
    np.testing.assert_allclose(belief.covariance, covariance, atol=2e-3)
    np.testing.assert_allclose(belief.standard_deviation, np.sqrt(covariance.diagonal()), atol=1e-3)


def test_posterior_with_a_scale_per_pair_agrees_with_the_textbook() -> None:
    observations = observe(one_pair_decides(1), 40, seed=2, noise=0.8)
    belief = posterior(observations)
    assert belief.has_scale_per_pair
    mean, covariance = slow_posterior(observations, belief)
    np.testing.assert_allclose(belief.mean, mean, atol=2e-3)
    np.testing.assert_allclose(belief.covariance, covariance, atol=5e-3)


@pytest.mark.parametrize("num_observations", [2, 5, 20, 60])
def test_hyper_parameters_are_the_most_probable(num_observations: int) -> None:
    observations = observe(landscape(3), num_observations, seed=4, noise=0.8)
    belief = posterior(observations)
    assert not belief.has_scale_per_pair
    rewards = np.array([o.reward for o in observations])
    scale = max(rewards.std(), 0.8)
    found = np.log([(belief.signal_standard_deviation / scale) ** 2, belief.length_scale_inverses[0]])
    grid = itertools.product(
        np.linspace(*np.log(SIGNAL_VARIANCE_BOUNDS), 30),
        np.linspace(*np.log(LENGTH_SCALE_INVERSE_BOUNDS), 30),
    )
    best_on_grid = max(slow_log_density(observations, belief, scale, np.array(theta)) for theta in grid)
    assert slow_log_density(observations, belief, scale, found) > best_on_grid - 1e-4


@pytest.mark.parametrize("num_observations", [1, 2, 3])
def test_few_observations_leave_the_priors_in_charge(num_observations: int) -> None:
    for seed in range(20):
        observations = observe(landscape(seed), num_observations, seed, noise=1.0)
        belief = posterior(observations)
        spread = max(np.std([o.reward for o in observations]), 1.0)
        assert 1 / 3 < belief.length_scale_inverses[0] / LENGTH_SCALE_INVERSE < 3
        assert 1 / 3 < belief.signal_standard_deviation / spread < 3


@pytest.mark.parametrize("length_scale_inverse", [0.05, 0.2, 0.8])
def test_many_observations_find_the_length_scale(length_scale_inverse: float) -> None:
    found = [
        posterior(observe(landscape(seed, length_scale_inverse), 100, seed, noise=0.1)).length_scale_inverses
        for seed in range(5)
    ]
    # The prior's median, 0.2, pulls: a factor of two is what 100 orders settle for the smoothest landscape.
    assert length_scale_inverse / 2 < np.median(found) < length_scale_inverse * 2


def test_evidence_finds_the_pair_that_decides() -> None:
    for seed in range(5):
        belief = posterior(observe(one_pair_decides(seed), 20, seed, noise=0.8))
        assert belief.has_scale_per_pair
        assert belief.length_scale_inverses.argmax() == PAIRS.index((2, 4))


def test_evidence_is_for_one_length_scale_where_all_pairs_count_alike() -> None:
    num_rich = sum(
        posterior(observe(landscape(seed), 40, seed, noise=0.8)).has_scale_per_pair for seed in range(10)
    )
    assert num_rich <= 3


def test_evidence_agrees_with_an_integral() -> None:
    """One hyper-parameter with a skewed posterior: Laplace's approximation is close to the area."""
    prior = NormalPrior(np.array([0.5]), np.array([0.75]))

    def poisson(theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        return float(np.exp(theta[0]) - 4 * theta[0]), np.exp(theta) - 4

    grid = np.linspace(-6, 7, 20001)
    densities = [math.exp(-penalised(poisson, prior)(np.array([theta]))[0]) for theta in grid]
    area = np.trapezoid(densities, grid) / (0.75 * math.sqrt(2 * math.pi))
    mode, _ = most_probable(penalised(poisson, prior), prior.mode, np.array([[-6.0, 7.0]]))
    assert log_evidence(penalised(poisson, prior), mode, prior) == pytest.approx(math.log(area), abs=0.02)


def test_a_hyperparameter_without_influence_costs_nothing() -> None:
    def one(theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        return 5 * theta[0] ** 2, np.array([10 * theta[0], *np.zeros(len(theta) - 1)])

    small, large = (NormalPrior(np.zeros(size), np.full(size, 1.5)) for size in (1, 4))
    evidences = [log_evidence(penalised(one, prior), prior.mode, prior) for prior in (small, large)]
    assert evidences[0] == pytest.approx(evidences[1])


@pytest.mark.parametrize("num_observations", [1, 12])
def test_equivalent_orders_share_their_observations(num_observations: int) -> None:
    classes = OrderClasses.of(
        frozenset({HostType.ENTERPRISE, HostType.OP_SERVER, HostType.USER}), "reachable"
    )
    belief = posterior(observe(landscape(5), num_observations, seed=6, noise=0.8), classes)
    for index in range(120):
        same = classes.representative == classes.representative[index]
        np.testing.assert_allclose(belief.mean[same], belief.mean[index], rtol=1e-12)
        np.testing.assert_allclose(
            belief.covariance[same][:, same], belief.covariance[index, index], rtol=1e-9
        )
    assert len(np.unique(belief.covariance.round(6), axis=0)) == 6


def test_orders_that_never_differ_have_one_belief() -> None:
    classes = OrderClasses.of(frozenset(), "reachable")
    belief = posterior([Observation(WORKFLOWS[0], -3.0, 1.0), Observation(WORKFLOWS[70], -5.0, 1.0)], classes)
    np.testing.assert_allclose(belief.mean, -4.0)
    np.testing.assert_allclose(belief.covariance, belief.covariance[0, 0])


def test_samples_have_the_moments_of_the_belief() -> None:
    belief = posterior(observe(landscape(3), 12, seed=4, noise=0.8))
    samples = belief.samples(np.random.default_rng(0), 20_000)
    np.testing.assert_allclose(samples.mean(axis=0), belief.mean, atol=0.2)
    np.testing.assert_allclose(np.cov(samples.T), belief.covariance, atol=0.05 * belief.covariance.max())


def test_exact_rewards_are_interpolated() -> None:
    rewards = landscape(7)
    observations = observe(rewards, 30, seed=8, noise=0.0)
    belief = posterior(observations)
    observed = [o.workflow.index for o in observations]
    np.testing.assert_allclose(belief.mean[observed], rewards[observed], atol=0.02)
    assert belief.standard_deviation[observed].max() < 0.02
    others = np.setdiff1d(np.arange(120), observed)
    assert belief.standard_deviation[others].min() > 0.5


def test_belief_returns_to_the_prior_away_from_the_data() -> None:
    belief = posterior([Observation(WORKFLOWS[0], -50.0, 0.0)])
    by_distance = [belief.standard_deviation[DISTANCES[0] == distance] for distance in range(11)]
    assert all(deviations.std() < 1e-12 for deviations in by_distance)
    assert all(near[0] < far[0] for near, far in itertools.pairwise(by_distance))
    assert by_distance[0][0] < 0.01 * belief.signal_standard_deviation
    assert by_distance[10][0] > 0.95 * belief.signal_standard_deviation

    near_zero = np.flatnonzero(DISTANCES[0] <= 2)
    rough = [Observation(WORKFLOWS[i], -60.0 + 10 * (DISTANCES[0, i] % 2), 0.1) for i in near_zero]
    belief = posterior(rough)
    assert belief.mean[119] == pytest.approx(belief.prior_mean, abs=0.1)
    assert belief.mean[near_zero] == pytest.approx([o.reward for o in rough], abs=0.5)


def test_noisier_reward_counts_less() -> None:
    others = [Observation(WORKFLOWS[i], -60.0 + i % 3, 1.0) for i in range(20, 120, 20)]
    beliefs = [posterior([*others, Observation(WORKFLOWS[0], -40.0, noise)]) for noise in (0.1, 2.0, 10.0)]
    assert beliefs[0].mean[0] > beliefs[1].mean[0] > beliefs[2].mean[0]
    assert (
        beliefs[0].standard_deviation[0] < beliefs[1].standard_deviation[0] < beliefs[2].standard_deviation[0]
    )
    assert beliefs[0].prior_mean > beliefs[1].prior_mean > beliefs[2].prior_mean


def test_repeating_an_order_narrows_the_belief() -> None:
    observations = observe(landscape(9), 12, seed=10, noise=2.0)
    once, often = posterior(observations), posterior(observations + [observations[0]] * 8)
    index = observations[0].workflow.index
    assert often.standard_deviation[index] < 0.8 * once.standard_deviation[index]
    assert abs(often.mean[index] - observations[0].reward) < abs(once.mean[index] - observations[0].reward)


def test_exact_rewards_may_repeat_and_contradict() -> None:
    rewards = landscape(11, length_scale_inverse=0.02)
    observations = [
        Observation(w, float(rewards[w.index]) + shift, 0.0) for shift in (0.0, 0.1) for w in WORKFLOWS[::2]
    ]
    belief = posterior(observations)
    np.testing.assert_allclose(belief.mean[::2], rewards[::2] + 0.05, atol=0.05)


def test_equal_exact_rewards_have_a_belief() -> None:
    belief = posterior([Observation(WORKFLOWS[i], -3.0, 0.0) for i in (0, 50)])
    np.testing.assert_allclose(belief.mean, -3.0)
    assert belief.standard_deviation[100] > 0.1


def test_the_smoothest_landscape_is_no_warning() -> None:
    """Its l is below the bound, which holds; scikit-learn would warn, and a warning fails a test here."""
    rewards = PREFERENCES.sum(axis=1)
    belief = posterior([Observation(w, float(rewards[w.index]), 0.0) for w in WORKFLOWS])
    assert not belief.has_scale_per_pair
    assert belief.length_scale_inverses[0] == pytest.approx(LENGTH_SCALE_INVERSE_BOUNDS[0], rel=1e-3)
    np.testing.assert_allclose(belief.mean, rewards, atol=0.01)


def test_units_of_reward_do_not_matter() -> None:
    observations = observe(landscape(12), 15, seed=13, noise=1.0)
    changed = [Observation(o.workflow, 1000 * o.reward + 7, 1000 * o.standard_error) for o in observations]
    belief, changed_belief = posterior(observations), posterior(changed)
    np.testing.assert_allclose(changed_belief.mean, 1000 * belief.mean + 7, rtol=1e-9)
    np.testing.assert_allclose(changed_belief.standard_deviation, 1000 * belief.standard_deviation, rtol=1e-9)


def test_order_of_observations_does_not_matter() -> None:
    observations = observe(landscape(14), 25, seed=15, noise=1.0)
    belief, reversed_belief = posterior(observations), posterior(observations[::-1])
    np.testing.assert_allclose(reversed_belief.mean, belief.mean, rtol=1e-9)


def test_deviations_are_honest() -> None:
    """Of the orders never tried, about 95 % lie within two deviations of the mean."""
    inside = []
    for seed in range(15):
        rewards = landscape(seed)
        observations = observe(rewards, 40, seed, noise=1.0)
        belief = posterior(observations)
        untried = np.setdiff1d(np.arange(120), [o.workflow.index for o in observations])
        inside.append(np.abs(rewards - belief.mean)[untried] < 2 * belief.standard_deviation[untried])
    assert 0.88 < np.concatenate(inside).mean() < 0.99


def test_no_observations_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one observation"):
        posterior([])


@pytest.mark.parametrize(
    ("reward", "standard_error", "name"),
    [
        (math.nan, 1.0, "reward"),
        (math.inf, 1.0, "reward"),
        (0.0, -1.0, "standard_error"),
        (0.0, math.nan, "standard_error"),
    ],
)
def test_impossible_observations_are_refused(reward: float, standard_error: float, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Observation(Workflow.from_index(0), reward, standard_error)
