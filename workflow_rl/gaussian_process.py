"""What a few trained orders say about all 120: an exact Gaussian process over permutations.

Rewards of evaluated orders go in, each with its own noise; a joint normal belief about every order's reward
comes out. The covariance is the Mallows kernel (`mallows_kernel`) in one of two models: with one length scale
for all pairs of host types, or with one for each pair, since it may matter much which of two types goes first
and little for the others.

Rewards are shifted by their weighted mean and divided by their spread. In each model signal variance and l
maximise the marginal likelihood times log-normal priors: with one or two observations the likelihood says
next to nothing and the priors decide; they fade as evidence comes in. The model with a scale per pair is
taken if the evidence for it is clearly higher (`hyperparameters`). Which order to try next is left to
`order_search`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]  # comes with scikit-learn

from workflow_rl.equivalent_orders import PAIRS, OrderClasses
from workflow_rl.hyperparameters import NormalPrior, Objective, log_evidence, most_probable, penalised
from workflow_rl.mallows_kernel import LENGTH_SCALE_INVERSE, MallowsKernel
from workflow_rl.workflow import Workflow

Float64Array = NDArray[np.float64]

# In units of the squared spread of the observed rewards; the median of its prior, and bounds.
SIGNAL_VARIANCE, SIGNAL_VARIANCE_BOUNDS = 1.0, (0.02, 50.0)

# The priors' deviations in natural logarithms. The scales of single pairs may differ more than that of all:
# one pair may decide nearly everything and the others next to nothing.
SIGNAL_DEVIATION, SCALE_DEVIATION, PAIR_SCALE_DEVIATION = 1.0, 0.75, 1.5

# Natural logarithm of the Bayes factor that speaks for a scale per pair: "positive" evidence (Kass and
# Raftery 1995, "Bayes factors", section 3.2).
_CLEARLY_MORE = 1.0

# No evaluation is trusted beyond a thousandth of the spread of rewards: keeps the covariance well conditioned
# when an order was evaluated twice without noise.
_SMALLEST_NOISE_VARIANCE = 1e-6


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
        covariance: of the orders' expected rewards (evaluation noise not included), (120, 120) float64.
        prior_mean: the weighted mean of the observed rewards, to which orders far from all data return.
        signal_standard_deviation: the prior standard deviation of an order's reward.
        length_scale_inverses: l of the Mallows kernel for each of `equivalent_orders.PAIRS`, (10,) float64,
            all the same unless `has_scale_per_pair`; small is a smooth landscape.
        has_scale_per_pair: whether the model with a scale per pair was taken.
    """

    mean: Float64Array
    covariance: Float64Array
    prior_mean: float
    signal_standard_deviation: float
    length_scale_inverses: Float64Array
    has_scale_per_pair: bool

    @property
    def standard_deviation(self) -> Float64Array:
        """Of each order's expected reward, (120,) float64."""
        return np.sqrt(np.maximum(self.covariance.diagonal(), 0.0))

    def samples(self, draws: np.random.Generator, count: int) -> Float64Array:
        """Draws from the joint belief, (count, 120) float64: what all orders may earn together."""
        normal = draws.standard_normal((count, len(self.mean)))
        # The root of the covariance by its eigenvectors: equivalent orders make it singular.
        with _one_thread():
            variances, vectors = np.linalg.eigh(self.covariance)
            return np.asarray(self.mean + normal @ (vectors * np.sqrt(np.maximum(variances, 0.0))).T)


@dataclass(frozen=True, eq=False)
class _Data:
    """Observations as a model takes them.

    Attributes:
        points: (n, 10) preferences of the observed orders.
        rewards: (n,), shifted and scaled.
        noise_variances: (n,), of these.
    """

    points: Float64Array
    rewards: Float64Array
    noise_variances: Float64Array


def posterior(observations: Sequence[Observation], classes: OrderClasses | None = None) -> OrderPosterior:
    """The belief about all 120 orders after some evaluations (Rasmussen and Williams 2006, algorithm 2.1).

    Args:
        observations: at least one, in any number and mixture; one order may occur several times.
        classes: which orders are equivalent; none unless given.

    Raises:
        ValueError: there are no observations, hence no scale of rewards.
    """
    if not observations:
        raise ValueError("a posterior needs at least one observation")
    points = (classes or OrderClasses.all_different()).preferences
    rewards = np.array([o.reward for o in observations], np.float64)
    noise_variances = np.array([o.standard_error for o in observations], np.float64) ** 2
    centre, scale = _centre_and_scale(rewards, noise_variances)
    data = _Data(
        points=points[[o.workflow.index for o in observations]],
        rewards=(rewards - centre) / scale,
        noise_variances=noise_variances / scale**2 + _SMALLEST_NOISE_VARIANCE,
    )
    with _one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a bound that holds is doing its work
        model = _better_model(data)
        mean, covariance = model.predict(points, return_cov=True)
    signal, mallows = model.kernel_.k1, model.kernel_.k2
    return OrderPosterior(
        mean=centre + scale * mean,
        covariance=scale**2 * covariance,
        prior_mean=centre,
        signal_standard_deviation=float(scale * np.sqrt(signal.constant_value)),
        length_scale_inverses=np.broadcast_to(mallows.length_scale_inverse, len(PAIRS)),
        has_scale_per_pair=np.ndim(mallows.length_scale_inverse) > 0,
    )


def _one_thread() -> AbstractContextManager[Any]:
    """Linear algebra in one thread.

    Matrices this small only wait for each other's threads (tenfold while workers are busy), and the last bits
    of the belief must not depend on the number of threads.
    """
    limit: AbstractContextManager[Any] = _loaded_libraries().limit(limits=1, user_api="blas")
    return limit


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


def _better_model(data: _Data) -> GaussianProcessRegressor:
    """The fitted model with one l, or with one for each pair if the evidence for it is clearly higher."""
    by_pair = MallowsKernel(np.full(len(PAIRS), LENGTH_SCALE_INVERSE))
    simple, evidence = _fitted(MallowsKernel(), SCALE_DEVIATION, data)
    rich, rich_evidence = _fitted(by_pair, PAIR_SCALE_DEVIATION, data)
    return rich if rich_evidence > evidence + _CLEARLY_MORE else simple


def _fitted(mallows: MallowsKernel, deviation: float, data: _Data) -> tuple[GaussianProcessRegressor, float]:
    """A model at its most probable hyper-parameters, and its log evidence.

    Args:
        mallows: with the prior's median of l.
        deviation: of the prior of log l.
        data: what was observed.
    """
    kernel = ConstantKernel(SIGNAL_VARIANCE, SIGNAL_VARIANCE_BOUNDS) * mallows
    deviations = np.full(kernel.n_dims, deviation)
    deviations[0] = SIGNAL_DEVIATION
    prior = NormalPrior(kernel.theta, deviations)

    def optimizer(
        objective: Objective, initial: Float64Array, bounds: Float64Array
    ) -> tuple[Float64Array, float]:
        return most_probable(penalised(objective, prior), initial, bounds)

    model = GaussianProcessRegressor(kernel=kernel, alpha=data.noise_variances, optimizer=optimizer)
    model.fit(data.points, data.rewards)

    def negative_log_likelihood(theta: Float64Array) -> tuple[float, Float64Array]:
        value, gradient = model.log_marginal_likelihood(theta, eval_gradient=True)
        return -float(value), -gradient

    return model, log_evidence(penalised(negative_log_likelihood, prior), model.kernel_.theta, prior)
