"""Training in pieces: every order a little, the better half of them on and on.

With h halvings an order's first trial has 1 / 2^h of the episodes of a full training, and each further one
doubles what it has had. An order goes on as soon as it is among the better half of those that have had as
much (Li et al. 2020, "A system for massively parallel hyperparameter tuning", algorithm 2, with eta = 2);
nobody waits for a whole rung to fill. Better by what is up to the search: by a belief about rewards this is
the model-based variant of Klein et al. 2020, without one it is successive halving as it was published.

An order that has had less is not judged by what it earns today. It is expected to gain what others gained
from there on, as uncertainly as their gains differed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from workflow_rl.gaussian_process import Observation
from workflow_rl.trials import OrderResult, TrainedOrder, trial_counts


def episodes_of_next_trial(num_trials: int, halvings: int, full_episodes: int) -> int:
    """How many episodes the next trial of an order gets, at least 1; beyond a full training as many again.

    Args:
        num_trials: that it has had.
        halvings: h.
        full_episodes: of a full training.
    """
    missing = halvings - max(num_trials - 1, 0)
    return max(1, full_episodes >> max(missing, 0))


def order_to_go_on(
    trained: Sequence[TrainedOrder], halvings: int, worth: Callable[[TrainedOrder], tuple[float, ...]]
) -> TrainedOrder | None:
    """The training to go on with because it is among the better half, those that had most first.

    Args:
        trained: all trainings so far.
        halvings: h; who has had more trials is fully trained.
        worth: of a training, the higher the better; of equals the earlier one is better.
    """
    for num_trials in range(halvings, 0, -1):
        rung = [order for order in trained if order.num_trials >= num_trials]
        better_half = sorted(rung, key=worth, reverse=True)[: len(rung) // 2]
        for order in better_half:
            if order.num_trials == num_trials:
                return order
    return None


@dataclass(frozen=True)
class Gain:
    """What the next trial adds to an order's reward.

    Attributes:
        mean: over the orders that had it; 0 before the first.
        variance: of a gain, with that of the mean; after a single one the square of it.
    """

    mean: float
    variance: float

    @classmethod
    def of(cls, gains: Sequence[float]) -> Gain:
        """The gain to expect after some."""
        if not gains:
            return cls(0.0, 0.0)
        mean = math.fsum(gains) / len(gains)
        squares = math.fsum((gain - mean) ** 2 for gain in gains)
        return cls(mean, (squares + mean**2) / len(gains))


def gains_by_rung(results: Sequence[OrderResult], halvings: int) -> list[Gain]:
    """The gain of each trial after the first, (h,).

    Args:
        results: by number of trial.
        halvings: h.
    """
    gains: list[list[float]] = [[] for _ in range(halvings)]
    for result, count in zip(results, trial_counts(results), strict=True):
        if result.continues is not None and count <= halvings + 1:
            gains[count - 2].append(result.reward - results[result.continues].reward)
    return [Gain.of(some) for some in gains]


def expected_when_full(
    trained: Sequence[TrainedOrder], results: Sequence[OrderResult], halvings: int
) -> list[Observation]:
    """What each training has come to, as an observation of what a full one would.

    Args:
        trained: of `results`.
        results: by number of trial.
        halvings: h; with 0 every training is full, and its result stands as it is.
    """
    gains = gains_by_rung(results, halvings)
    return [_with_gains(order.result, gains[order.num_trials - 1 :]) for order in trained]


def _with_gains(result: OrderResult, gains: Sequence[Gain]) -> Observation:
    variance = result.standard_error**2 + math.fsum(gain.variance for gain in gains)
    mean = result.reward + math.fsum(gain.mean for gain in gains)
    return Observation(result.workflow, mean, math.sqrt(variance) if gains else result.standard_error)
