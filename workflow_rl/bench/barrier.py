r"""What theory says about barriers: how long the slowest of several takes, in units of the mean.

With a barrier at every step, n environments step at the pace of the slowest, so that removing the barrier
makes them E[max of n] / E[step] times as fast, and never more than n times. With log-normal step times of
deviation sigma (of the logarithm), by integration over the standard normal z,

    E[max of n] / E[step]  =  \int exp(sigma z - sigma^2 / 2)  n phi(z) Phi(z)^(n-1)  dz ,

and with m measured times x_1 <= ... <= x_m, each as likely as the others,

    E[max of n]  =  sum_i  x_i ((i / m)^n - ((i - 1) / m)^n) .

(Order statistics: David and Nagaraja 2003, "Order Statistics", chapters 2 and 3.)
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import trapezoid
from scipy.optimize import brentq
from scipy.special import log_ndtr

from workflow_rl.bench.latency import Waits, read_step_times

_POINTS = 20_001
_WIDTH = 12.0
"""Of the normal distribution, in deviations, on both sides of where the integrand has its weight."""

_LARGEST_SIGMA = 20.0
_SIMULATED_BATCHES = 200


def slowest_of(n: int, waits: Waits) -> float:
    """E[max of n step times] / E[step time]."""
    if waits.step_times:
        return slowest_measured(n, read_step_times(Path(waits.step_times)))
    return slowest_lognormal(n, waits.sigma)


def slowest_lognormal(n: int, sigma: float) -> float:
    """The same for log-normal step times."""
    z = np.linspace(-_WIDTH, _WIDTH + sigma, _POINTS)
    log_density = -(z**2) / 2 - np.log(2 * np.pi) / 2
    integrand = n * np.exp(sigma * z - sigma**2 / 2 + log_density + (n - 1) * log_ndtr(z))
    return float(trapezoid(integrand, z))


def slowest_measured(n: int, times: NDArray[np.float64]) -> float:
    """The same for measured step times (m,), drawn with equal probability."""
    ordered, m = np.sort(times), len(times)
    weights = np.diff((np.arange(m + 1) / m) ** n)
    return float(ordered @ weights / ordered.mean())


def sigma_for(speed_up: float, n: int) -> float | None:
    """The sigma of log-normal step times at which removing the barrier between n gives a speed-up.

    Returns:
        `None` if no tail does: n environments gain less than n, and nothing without any spread.
    """
    if not 1 < speed_up < n or slowest_lognormal(n, _LARGEST_SIGMA) < speed_up:
        return None
    return float(brentq(lambda sigma: slowest_lognormal(n, sigma) - speed_up, 0.0, _LARGEST_SIGMA))


def slowest_episode_of(n: int, waits: Waits) -> float:
    """E[max of n episodes] / E[episode], by simulation: what waiting for the last of a batch costs."""
    draws = np.random.default_rng(0)
    size = (_SIMULATED_BATCHES, n, waits.num_steps)
    if waits.step_times:
        steps = draws.choice(read_step_times(Path(waits.step_times)), size)
    else:
        steps = waits.mean_step * draws.lognormal(-(waits.sigma**2) / 2, waits.sigma, size)
    resets = draws.uniform(waits.shortest_reset, waits.longest_reset, size[:2])
    episodes = steps.sum(axis=2) + resets
    return float(episodes.max(axis=1).mean() / waits.mean_episode)
