"""Training in pieces: every order a little, the better half of them on and on.

With h halvings an order's first trial has 1 / 2^h of the episodes of a full training, and each further one
doubles what it has had: after the first it stands on rung 0 of a ladder, fully trained on rung h. An order
goes on as soon as it is among the better half of those that have come as far (Li et al. 2020, "A system for
massively parallel hyperparameter tuning", algorithm 2, with eta = 2); nobody waits for a whole rung to fill.
That is for searches without a belief: one that has a belief chooses by it who goes on.

An order that has had less is not judged by what it earns today. It is expected to gain what others gained
from there on, as uncertainly as their gains differed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from workflow_rl.gaussian_process import Observation
from workflow_rl.trials import OrderResult, TrainedOrder


def episodes_to_rung(rung: int, halvings: int, full_episodes: int) -> int:
    """How many episodes take an order to a rung from the one below, at least 1; above h a full training's.

    Args:
        rung: 0 is reached from nothing.
        halvings: h.
        full_episodes: of a full training.
    """
    missing = halvings - max(rung - 1, 0)
    return max(1, full_episodes >> max(missing, 0))


def order_to_go_on(trained: Sequence[TrainedOrder], halvings: int) -> TrainedOrder | None:
    """The training to go on with because it is among the better half, those that had most first.

    Better is who met the threshold, then who earns more, then who began earlier.

    Args:
        trained: all trainings so far.
        halvings: h; who has come to that rung is fully trained.
    """
    for rung in reversed(range(halvings)):
        as_far = [order for order in trained if order.result.rung >= rung]
        better_half = sorted(as_far, key=_worth, reverse=True)[: len(as_far) // 2]
        for order in better_half:
            if order.result.rung == rung:
                return order
    return None


def _worth(order: TrainedOrder) -> tuple[bool, float]:
    return order.result.met_threshold, order.result.reward


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
    """The gain of the way to each rung but the first, (h,).

    Args:
        results: by number of trial.
        halvings: h.
    """
    gains: list[list[float]] = [[] for _ in range(halvings)]
    for result in results:
        if result.continues is not None and result.rung <= halvings:
            gains[result.rung - 1].append(result.reward - results[result.continues].reward)
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
    return [_with_gains(order.result, gains[order.result.rung :]) for order in trained]


def _with_gains(result: OrderResult, gains: Sequence[Gain]) -> Observation:
    variance = result.standard_error**2 + math.fsum(gain.variance for gain in gains)
    mean = result.reward + math.fsum(gain.mean for gain in gains)
    return Observation(result.workflow, mean, math.sqrt(variance) if gains else result.standard_error)
