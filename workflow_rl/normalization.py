"""Statistics by which observations and rewards are brought to a common scale, reproducibly.

The learner takes them from whole batches in index order, so they depend on what was learnt from and on no
timing. Observations: a snapshot has the statistics of the moment folded into its first layer, so a worker
applies them without knowing. Rewards: only the learner sees them scaled.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workflow_rl.compilation import compiled
from workflow_rl.episode import Episodes

_SMALLEST_DEVIATION = 1e-4
"""Components that hardly vary are not blown up; a sum of float32 is no better than this anyway."""


class RunningMoments:
    """Mean and deviation of all rows seen so far, (O,) float64 each; 0 and 1 before there are any.

    Batches are merged as in Chan, Golub, LeVeque 1983, "Algorithms for computing the sample variance".
    """

    def __init__(self, num_components: int) -> None:
        self.mean = np.zeros(num_components)
        self._count = 0
        self._square_sum = np.zeros(num_components)

    def add(self, rows: NDArray[np.floating] | NDArray[np.uint8]) -> None:
        """Count rows (N, O), N at least 1."""
        values = rows.astype(np.float64)
        count = self._count + len(values)
        shift = values.mean(0) - self.mean
        self._square_sum += values.var(0) * len(values) + shift**2 * self._count * len(values) / count
        self.mean = self.mean + shift * len(values) / count
        self._count = count

    def state(self) -> dict[str, NDArray[Any]]:
        """All that later rows depend on."""
        return {
            "mean": self.mean.copy(),
            "count": np.array(self._count),
            "square_sum": self._square_sum.copy(),
        }

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from what `state` returned, to the last bit.

        Raises:
            KeyError, ValueError: it is the state of something else.
        """
        self.mean[:] = state["mean"]
        self._square_sum[:] = state["square_sum"]
        self._count = int(state["count"])

    @property
    def deviation(self) -> NDArray[np.float64]:
        """Standard deviation, (O,), at least 1e-4."""
        if self._count == 0:
            return np.ones_like(self.mean)
        return np.maximum(np.sqrt(self._square_sum / self._count), _SMALLEST_DEVIATION)


class RewardScaling:
    """Divides rewards by the deviation of the discounted sum of an episode's rewards so far.

    Source: Engstrom et al. 2020, "Implementation matters in deep policy gradients", section 3.

    Args:
        discount: gamma of that sum.

    Attributes:
        moments: of that sum, over all steps so far.
    """

    def __init__(self, discount: float) -> None:
        self._discount = discount
        self.moments = RunningMoments(1)

    def scale(self, batch: Episodes) -> NDArray[np.float32]:
        """The rewards of a batch, (N,) float32, after counting it."""
        sums = _discounted_sums(batch.rewards, batch.lengths, self._discount)
        self.moments.add(sums[:, None])
        return batch.rewards / np.float32(self.moments.deviation[0])


@compiled
def _discounted_sums(
    rewards: NDArray[np.float32], lengths: NDArray[np.int32], discount: float
) -> NDArray[np.float64]:
    """For each step the rewards of its episode so far, older ones discounted: (N,), (E,) -> (N,) float64."""
    sums = np.empty(len(rewards), np.float64)
    step = 0
    for length in lengths:
        total = 0.0
        for _ in range(length):
            total = discount * total + float(rewards[step])
            sums[step] = total
            step += 1
    return sums
