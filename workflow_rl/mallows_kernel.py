"""The Mallows kernel: how alike two orders are, by the pairs of host types that they rank differently.

exp(-l * discordant pairs) (Jiao and Vert 2015, "The Kendall and Mallows kernels for permutations"). It is
positive definite for every l > 0: an order is the vector of its ten pairwise preferences (+1 or -1), and the
kernel is a product of Laplacian kernels on its components. So each pair may have an l of its own. A pair that
no rule ever decides has the preference 0 in all orders, and equivalent orders are one point.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.gaussian_process.kernels import Hyperparameter, Kernel, NormalizedKernelMixin

Float64Array = NDArray[np.float64]

# With l = 0.2 neighbours correlate by 0.82, reversed orders by 0.14; at the bounds neighbours correlate by
# 0.98 and by 0.14.
LENGTH_SCALE_INVERSE, LENGTH_SCALE_INVERSE_BOUNDS = 0.2, (0.02, 2.0)


class MallowsKernel(NormalizedKernelMixin, Kernel):  # type: ignore[misc]  # scikit-learn carries no types
    """exp(-sum of l over discordant pairs) over preferences, as a scikit-learn kernel (Jiao and Vert 2015).

    Args:
        length_scale_inverse: l > 0 for each discordant pair, or one for each of the P pairs, (P,) float64.
        length_scale_inverse_bounds: (low, high) for its optimisation, or "fixed".
    """

    def __init__(
        self,
        length_scale_inverse: float | Float64Array = LENGTH_SCALE_INVERSE,
        length_scale_inverse_bounds: tuple[float, float] | str = LENGTH_SCALE_INVERSE_BOUNDS,
    ) -> None:
        self.length_scale_inverse = length_scale_inverse
        self.length_scale_inverse_bounds = length_scale_inverse_bounds

    @property
    def hyperparameter_length_scale_inverse(self) -> Hyperparameter:
        """How scikit-learn finds l and its bounds; it optimises log l."""
        name, bounds = "length_scale_inverse", self.length_scale_inverse_bounds
        if np.ndim(self.length_scale_inverse) == 0:
            return Hyperparameter(name, "numeric", bounds)
        return Hyperparameter(name, "numeric", bounds, np.size(self.length_scale_inverse))

    def __call__(
        self,
        X: Float64Array,
        Y: Float64Array | None = None,
        eval_gradient: bool = False,
    ) -> Float64Array | tuple[Float64Array, Float64Array]:
        """The covariance of two sets of orders.

        Args:
            X: (n, P) preferences, 1 or -1, see `OrderClasses`.
            Y: (m, P) preferences; `X` when not given.
            eval_gradient: also return the derivatives by log l; only without `Y`.

        Returns:
            (n, m) float64; with `eval_gradient` also (n, n, 1), with a scale per pair (n, n, P), or
            (n, n, 0) when l is fixed.

        Raises:
            ValueError: a gradient is asked for between two different sets.
        """
        if Y is not None and eval_gradient:
            raise ValueError("the gradient of a kernel is defined for one set of orders, got two")
        weighted = self.length_scale_inverse * discordances(X, X if Y is None else Y)
        covariance: Float64Array = np.exp(-weighted.sum(axis=2))
        if not eval_gradient:
            return covariance
        if np.ndim(self.length_scale_inverse) == 0:
            weighted = weighted.sum(axis=2, keepdims=True)
        return covariance, (-weighted * covariance[:, :, np.newaxis])[:, :, : self.n_dims]

    def is_stationary(self) -> bool:
        """False: scikit-learn means functions of X - Y alone, and asks nothing of those here."""
        return False


def discordances(preferences: Float64Array, other_preferences: Float64Array) -> Float64Array:
    """Which pairs of host types two orders rank differently (Kendall 1938).

    Args:
        preferences: (n, P), one order a row, see `OrderClasses`.
        other_preferences: (m, P).

    Returns:
        (n, m, P) float64, 0 or 1.
    """
    return np.asarray(np.abs(preferences[:, np.newaxis] - other_preferences) / 2)
