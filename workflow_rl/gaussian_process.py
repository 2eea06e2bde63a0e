"""What a few trained orders say about all 120: an exact Gaussian process over permutations.

Rewards of evaluated orders go in, each with its own noise; mean and standard deviation of every order's
reward come out. Two orders are alike when they rank most pairs of host types the same way: the covariance is
the Mallows kernel, exp(-l * discordant pairs) (Jiao and Vert 2015, "The Kendall and Mallows kernels for
permutations"). It is positive definite for every l > 0: an order is the vector of its ten pairwise
preferences (+1 or -1), the number of discordant pairs is a quarter of the squared distance of two such
vectors, so it is a Gaussian kernel on them.

Rewards are shifted by their weighted mean and divided by their spread. Signal variance and l then maximise
the marginal likelihood times log-normal priors: with one or two observations the likelihood says next to
nothing and the priors decide; they fade as evidence comes in. Which order to try next is left to `search`.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Hyperparameter, Kernel, NormalizedKernelMixin
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]  # comes with scikit-learn

from workflow_rl.workflow import NUM_HOST_TYPES, Workflow, all_workflows

Float64Array = NDArray[np.float64]
Objective = Callable[[Float64Array], tuple[float, Float64Array]]

# The priors' medians, hard bounds, and the priors' deviations in natural logarithms. Signal variance is in
# units of the squared spread of the observed rewards. With l = 0.2 neighbours correlate by 0.82, reversed
# orders by 0.14; at the bounds of l neighbours correlate by 0.98 and by 0.14.
SIGNAL_VARIANCE, SIGNAL_VARIANCE_BOUNDS = 1.0, (0.02, 50.0)
LENGTH_SCALE_INVERSE, LENGTH_SCALE_INVERSE_BOUNDS = 0.2, (0.02, 2.0)
LOG_PRIOR_DEVIATIONS = np.array([1.0, 0.75])

# No evaluation is trusted beyond a thousandth of the spread of rewards: keeps the covariance well conditioned
# when an order was evaluated twice without noise.
_SMALLEST_NOISE_VARIANCE = 1e-6

_FIRST, _SECOND = np.array(list(itertools.combinations(range(NUM_HOST_TYPES), 2))).T  # the pairs, (10,) each
_ALL_RANKS = np.array([workflow.ranks for workflow in all_workflows()], np.float64)  # (120, 5)


@dataclass(frozen=True)
class Observation:
    """The evaluated reward of one order.

    Attributes:
        workflow: the order.
        reward: mean episode reward, in the simulator's units.
        standard_error: of `reward`, same units; 0 for an exact value.

    Raises:
        ValueError: `reward` is not finite, or `standard_error` is negative or not finite.
    """

    workflow: Workflow
    reward: float
    standard_error: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.reward):
            raise ValueError(f"reward must be finite, got {self.reward}")
        if not (math.isfinite(self.standard_error) and self.standard_error >= 0):
            raise ValueError(f"standard_error must be finite and at least 0, got {self.standard_error}")


@dataclass(frozen=True, eq=False)
class OrderPosterior:
    """What is believed about the reward of every order, by workflow index, in units of reward.

    Attributes:
        mean: (120,) float64.
        standard_deviation: (120,) float64, of the order's expected reward (evaluation noise not included).
        prior_mean: the weighted mean of the observed rewards, to which orders far from all data return.
        signal_standard_deviation: the prior standard deviation of an order's reward.
        length_scale_inverse: l of the Mallows kernel, per discordant pair; small is a smooth landscape.
    """

    mean: Float64Array
    standard_deviation: Float64Array
    prior_mean: float
    signal_standard_deviation: float
    length_scale_inverse: float


def discordant_pairs(ranks: Float64Array, other_ranks: Float64Array) -> Float64Array:
    """Number of pairs of host types that orders rank differently (Kendall 1938).

    Args:
        ranks: (n, 5) rank of each host type, one order a row (`Workflow.ranks`).
        other_ranks: (m, 5).

    Returns:
        (n, m) float64, whole numbers 0..10.
    """
    preferences, other_preferences = (np.sign(r[:, _FIRST] - r[:, _SECOND]) for r in (ranks, other_ranks))
    return np.asarray((len(_FIRST) - preferences @ other_preferences.T) / 2)


class MallowsKernel(NormalizedKernelMixin, Kernel):  # type: ignore[misc]  # scikit-learn carries no types
    """exp(-l * discordant pairs) over rank vectors, as a scikit-learn kernel (Jiao and Vert 2015).

    Args:
        length_scale_inverse: l > 0, per discordant pair.
        length_scale_inverse_bounds: (low, high) for its optimisation, or "fixed".
    """

    def __init__(
        self,
        length_scale_inverse: float = LENGTH_SCALE_INVERSE,
        length_scale_inverse_bounds: tuple[float, float] | str = LENGTH_SCALE_INVERSE_BOUNDS,
    ) -> None:
        self.length_scale_inverse = length_scale_inverse
        self.length_scale_inverse_bounds = length_scale_inverse_bounds

    @property
    def hyperparameter_length_scale_inverse(self) -> Hyperparameter:
        """How scikit-learn finds l and its bounds; it optimises log l."""
        return Hyperparameter("length_scale_inverse", "numeric", self.length_scale_inverse_bounds)

    def __call__(
        self,
        X: Float64Array,
        Y: Float64Array | None = None,
        eval_gradient: bool = False,
    ) -> Float64Array | tuple[Float64Array, Float64Array]:
        """The covariance of two sets of orders.

        Args:
            X: (n, 5) rank vectors.
            Y: (m, 5) rank vectors; `X` when not given.
            eval_gradient: also return the derivative by log l; only without `Y`.

        Returns:
            (n, m) float64; with `eval_gradient` also (n, n, 1), or (n, n, 0) when l is fixed.

        Raises:
            ValueError: a gradient is asked for between two different sets.
        """
        if Y is not None and eval_gradient:
            raise ValueError("the gradient of a kernel is defined for one set of orders, got two")
        distances = discordant_pairs(X, X if Y is None else Y)
        covariance: Float64Array = np.exp(-self.length_scale_inverse * distances)
        if not eval_gradient:
            return covariance
        gradient = (-self.length_scale_inverse * distances * covariance)[:, :, np.newaxis]
        return covariance, gradient[:, :, : self.n_dims]

    def is_stationary(self) -> bool:
        """False: renaming the host types changes nothing, but it is no function of a difference of ranks."""
        return False


def posterior(observations: Sequence[Observation]) -> OrderPosterior:
    """The belief about all 120 orders after some evaluations (Rasmussen and Williams 2006, algorithm 2.1).

    Args:
        observations: at least one, in any number and mixture; one order may occur several times.

    Raises:
        ValueError: there are no observations, hence no scale of rewards.
    """
    if not observations:
        raise ValueError("a posterior needs at least one observation")
    rewards = np.array([o.reward for o in observations], np.float64)
    noise_variances = np.array([o.standard_error for o in observations], np.float64) ** 2
    centre, scale = _centre_and_scale(rewards, noise_variances)
    model = GaussianProcessRegressor(
        kernel=ConstantKernel(SIGNAL_VARIANCE, SIGNAL_VARIANCE_BOUNDS) * MallowsKernel(),
        alpha=noise_variances / scale**2 + _SMALLEST_NOISE_VARIANCE,
        optimizer=_most_probable_hyperparameters,
    )
    ranks = np.array([o.workflow.ranks for o in observations], np.float64)
    # One thread: matrices this small only wait for each other's threads (tenfold while workers are busy), and
    # the last bits of the belief must not depend on the number of threads.
    with _loaded_libraries().limit(limits=1, user_api="blas"), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a bound that holds is doing its work
        model.fit(ranks, (rewards - centre) / scale)
        mean, standard_deviation = model.predict(_ALL_RANKS, return_std=True)
    signal, mallows = model.kernel_.k1, model.kernel_.k2
    return OrderPosterior(
        mean=centre + scale * mean,
        standard_deviation=scale * standard_deviation,
        prior_mean=centre,
        signal_standard_deviation=float(scale * np.sqrt(signal.constant_value)),
        length_scale_inverse=float(mallows.length_scale_inverse),
    )


@cache
def _loaded_libraries() -> ThreadpoolController:
    """The threaded libraries that numpy and scipy loaded; looking for them takes as long as a posterior."""
    return ThreadpoolController()


def _centre_and_scale(rewards: Float64Array, noise_variances: Float64Array) -> tuple[float, float]:
    """The weighted mean and the spread of rewards.

    A weight falls with the noise of a reward, measured against how much rewards differ at all. The spread is
    at least the noise, so that equal rewards, or a single one, have a scale too; exact equal ones take 1.
    """
    variance = max(float(rewards.var()), float(noise_variances.mean())) or 1.0
    centre = np.average(rewards, weights=1.0 / (noise_variances + variance))
    return float(centre), math.sqrt(variance)


def _most_probable_hyperparameters(
    objective: Objective, initial: Float64Array, bounds: Float64Array
) -> tuple[Float64Array, float]:
    """Minimise the negative log marginal likelihood plus the priors' penalty, from the priors' medians.

    The signature is the one that scikit-learn's `optimizer` takes; `theta` holds the natural logarithms of
    signal variance and l. The optimum is rounded: its last digits depend on the processor's arithmetic and
    would reach the logs and, at a near tie, the choice of an order.
    """

    def penalised(theta: Float64Array) -> tuple[float, Float64Array]:
        negative_log_likelihood, gradient = objective(theta)
        deviations = (theta - initial) / LOG_PRIOR_DEVIATIONS
        penalty = 0.5 * float(deviations @ deviations)
        return negative_log_likelihood + penalty, gradient + deviations / LOG_PRIOR_DEVIATIONS

    optimum = minimize(penalised, initial, jac=True, bounds=bounds, method="L-BFGS-B")
    return np.round(optimum.x, 3), float(optimum.fun)
