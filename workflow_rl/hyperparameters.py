"""The most probable hyper-parameters of a Gaussian process, and the evidence for it as a model.

Hyper-parameters are positive and vary by factors, so they are sought as natural logarithms `theta`, each with
a normal prior. The evidence, by which models of different sizes are compared, is Laplace's approximation at
the mode (MacKay 1992, "Bayesian interpolation"), and not the BIC: that charges log(n) / 2 for each
hyper-parameter, however little the data say about it, and so would keep ten of them out of any search of this
size. Here one about which data say nothing costs nothing, for its posterior is as wide as its prior.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Float64Array = NDArray[np.float64]

Objective = Callable[[Float64Array], tuple[float, Float64Array]]
"""From `theta`, (d,), to a value to minimise and its gradient, (d,)."""

# Step of the differences that give the curvature at the mode.
_CURVATURE_STEP = 1e-3


@dataclass(frozen=True, eq=False)
class NormalPrior:
    """Independent normal priors of `theta`.

    Attributes:
        mode: (d,) float64.
        deviations: (d,) float64.
    """

    mode: Float64Array
    deviations: Float64Array

    def penalty(self, theta: Float64Array) -> tuple[float, Float64Array]:
        """Minus the log density, 0 at the mode, and its gradient."""
        standardised = (theta - self.mode) / self.deviations
        return 0.5 * float(standardised @ standardised), standardised / self.deviations


def penalised(negative_log_likelihood: Objective, prior: NormalPrior) -> Objective:
    """Minus the log of likelihood times prior (0 at its mode), and its gradient."""

    def penalised(theta: Float64Array) -> tuple[float, Float64Array]:
        value, gradient = negative_log_likelihood(theta)
        penalty, penalty_gradient = prior.penalty(theta)
        return value + penalty, gradient + penalty_gradient

    return penalised


def most_probable(
    objective: Objective, initial: Float64Array, bounds: Float64Array
) -> tuple[Float64Array, float]:
    """Where an objective is lowest, found from the priors' medians.

    `theta` holds the natural logarithms of signal variance and l. The optimum is rounded: its last digits
    depend on the processor's arithmetic and would reach the logs and, at a near tie, the choice of an order.
    """
    optimum = minimize(objective, initial, jac=True, bounds=bounds, method="L-BFGS-B")
    return np.round(optimum.x, 3), float(optimum.fun)


def log_evidence(objective: Objective, mode: Float64Array, prior: NormalPrior) -> float:
    """Log marginal likelihood with the hyper-parameters integrated out, by Laplace's approximation.

    The posterior of `theta` is taken for a normal one around its mode (Rasmussen and Williams 2006, section
    5.2). Where data say nothing its curvature is the prior's, and a hyper-parameter costs nothing. No
    direction counts as wider than the prior: at a bound the mode is none, and the curvature anything.

    Args:
        objective: minus the log of likelihood times prior, 0 at the prior's mode, and its gradient.
        mode: where it is lowest, (d,).
        prior: of the hyper-parameters.
    """
    steps = _CURVATURE_STEP * np.eye(len(mode))
    rows = [(objective(mode + step)[1] - objective(mode - step)[1]) / (2 * _CURVATURE_STEP) for step in steps]
    in_prior_widths = (np.array(rows) + np.array(rows).T) / 2 * np.outer(prior.deviations, prior.deviations)
    curvatures = np.maximum(np.linalg.eigvalsh(in_prior_widths), 1.0)
    return -objective(mode)[0] - 0.5 * float(np.log(curvatures).sum())
