"""Generalised advantage estimation over whole episodes.

Source: Schulman et al. 2016, "High-dimensional continuous control using generalized advantage estimation",
equations 11-16.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from workflow_rl.compilation import compiled


@compiled
def generalized_advantages(
    rewards: NDArray[np.float32],
    values: NDArray[np.float32],
    lengths: NDArray[np.int32],
    has_future: NDArray[np.bool_],
    discount: float,
    gae_lambda: float,
) -> NDArray[np.float32]:
    """Advantages of every step of a batch.

    delta_t = r_t + discount * V(s_t+1) - V(s_t);  A_t = delta_t + discount * lambda * A_t+1

    Args:
        rewards: (N,) float32, episode after episode.
        values: (N + E,) float32: of each episode's T observations, then of its final one.
        lengths: (E,) int32, steps of each episode.
        has_future: (E,) bool: whether the return goes on after the last step, so that the value of the final
            observation counts. False for an episode that terminated.
        discount: gamma.
        gae_lambda: lambda.

    Returns:
        (N,) float32.
    """
    advantages = np.empty_like(rewards)
    end = 0
    for episode in range(len(lengths)):
        end += lengths[episode]
        value_shift = episode  # each earlier episode has one value more than it has steps
        next_value = float(values[end + value_shift]) if has_future[episode] else 0.0
        advantage = 0.0
        for t in range(end - 1, end - lengths[episode] - 1, -1):
            value = float(values[t + value_shift])
            delta = float(rewards[t]) + discount * next_value - value
            advantage = delta + discount * gae_lambda * advantage
            advantages[t] = advantage
            next_value = value
    return advantages
