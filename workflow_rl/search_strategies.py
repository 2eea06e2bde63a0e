"""Ways to choose an order: from what is known to a score for each of the 120; the highest is trained next.

    gp-ucb                what the order may earn at best: GP-UCB (Srinivas et al. 2010, algorithm 1)
    expected-improvement  what it is expected to earn beyond the best so far (Jones et al. 1998, equation 15)
    thompson              what it earns in one draw from the belief (Thompson 1933; Russo et al. 2018)
    random                chance, before any order a second time
    round-robin           its number, likewise

The first three share the belief of `gaussian_process` and weigh what they hope for by the chance that the
order can be learnt at all. The other two know nothing, and are there to be compared with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from workflow_rl.equivalent_orders import OrderClasses
from workflow_rl.gaussian_process import Observation, OrderPosterior, posterior
from workflow_rl.trials import OrderResult
from workflow_rl.workflow import NUM_WORKFLOWS

Float64Array = NDArray[np.float64]

# Theorem 1's delta: the probability that some confidence bound of the whole search is wrong.
_FAILURE_PROBABILITY = 0.1

_LEARNT = 1.0

# Whether a trial meets the threshold is partly luck: the deviation of an outcome whose chance is 0.9 or 0.1.
_OUTCOME_DEVIATION = 0.3

# Orders among misses stay comparable by their scores.
_SMALLEST_CHANCE = 0.02


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known when an order is to be chosen.

    Attributes:
        observations: what each training is expected to come to, at least one.
        outcomes: whether each learns its order, see `outcome`.
        classes: which orders are equivalent.
        weight: of the standard deviation, for this trial.
        draws: of this trial.
    """

    observations: Sequence[Observation]
    outcomes: Sequence[Observation]
    classes: OrderClasses
    weight: float
    draws: np.random.Generator

    @cached_property
    def belief(self) -> OrderPosterior:
        """About the reward of every order."""
        return posterior(self.observations, self.classes)

    @cached_property
    def upper_confidence_bounds(self) -> Float64Array:
        """Mean plus `weight` standard deviations of every order, (120,) float64."""
        return self.belief.mean + self.weight * self.belief.standard_deviation

    @cached_property
    def chances(self) -> Float64Array:
        """Of every order, that it can be learnt, (120,) float64; see `chances_to_be_learnt`."""
        return chances_to_be_learnt(self.outcomes, self.classes, self.weight)


@dataclass(frozen=True)
class Strategy:
    """One way to choose an order.

    Attributes:
        scores: (what is known) -> a score for every order, (120,) float64.
        has_belief: whether it goes by a belief about rewards, or takes every order once before any twice.
    """

    scores: Callable[[Evidence], Float64Array]
    has_belief: bool


def optimistic_scores(evidence: Evidence) -> Float64Array:
    """How far each upper confidence bound stands above the lowest, times the chance to be learnt."""
    bounds = evidence.upper_confidence_bounds
    return np.asarray((bounds - bounds.min()) * evidence.chances)


def expected_improvements(evidence: Evidence) -> Float64Array:
    """By how much each order is expected to surpass the best one, times the chance to be learnt.

    The best one is the highest mean belief of an order that was learnt; if none was, any improves on the
    lowest mean of all. Since evaluations are noisy, improvement counts for less the less an evaluation would
    add to what is known (augmented expected improvement: Huang et al. 2006, equation 13); without that the
    best order is trained again and again.
    """
    belief = evidence.belief
    met = [outcome.workflow.index for outcome in evidence.outcomes if outcome.reward == _LEARNT]
    best = belief.mean[met].max() if met else belief.mean.min()
    deviation = np.maximum(belief.standard_deviation, np.finfo(np.float64).tiny)
    standardised = (belief.mean - best) / deviation
    improvement = deviation * (standardised * norm.cdf(standardised) + norm.pdf(standardised))
    noise = fmean(observation.standard_error for observation in evidence.observations)
    novelty = 1.0 - noise / np.hypot(noise, deviation)
    return np.asarray(improvement * novelty * evidence.chances)


def sampled_scores(evidence: Evidence) -> Float64Array:
    """How far each order stands above the lowest in a draw from the belief, times its chance to be learnt."""
    (rewards,) = evidence.belief.samples(evidence.draws, 1)
    return np.asarray((rewards - rewards.min()) * evidence.chances)


def _no_preference(_: Evidence) -> Float64Array:
    return np.zeros(NUM_WORKFLOWS)


def _by_number(_: Evidence) -> Float64Array:
    return -np.arange(NUM_WORKFLOWS, dtype=np.float64)


STRATEGIES: Mapping[str, Strategy] = {
    "gp-ucb": Strategy(optimistic_scores, has_belief=True),
    "expected-improvement": Strategy(expected_improvements, has_belief=True),
    "thompson": Strategy(sampled_scores, has_belief=True),
    "random": Strategy(_no_preference, has_belief=False),
    "round-robin": Strategy(_by_number, has_belief=False),
}
"""By the name that `--search-strategy` takes."""


def exploration_weight(beta: float, trial: int) -> float:
    """The square root of GP-UCB's beta_t, scaled to equal `beta` at the first trial.

    Srinivas et al. 2010, theorem 1, for a finite set D: beta_t = 2 log(|D| t^2 pi^2 / (6 delta)); with |D| =
    120 and delta = 0.1 its root is 3.9 at t = 1 and 5.3 at t = 25. The growth is kept and the size is `beta`,
    for the bound is known to explore too much (the authors divide beta_t by 5, which makes the first root
    1.7).

    Args:
        beta: the weight at the first trial, at least 0.
        trial: t, counted from 1.
    """
    first = math.log(NUM_WORKFLOWS * math.pi**2 / (6 * _FAILURE_PROBABILITY))
    return beta * math.sqrt((first + 2 * math.log(trial)) / first)


def outcome(result: OrderResult, *, is_full: bool, threshold: float) -> Observation:
    """Whether training learns an order, as an observation of 0 to 1.

    Args:
        result: of its last trial.
        is_full: whether that ended a full training. Before, no order has failed yet: it counts by how near
            to the threshold it is.
        threshold: of compliance.
    """
    if result.met_threshold:
        value = _LEARNT
    else:
        value = 0.0 if is_full or result.compliance is None else result.compliance / threshold
    return Observation(result.workflow, value, _OUTCOME_DEVIATION)


def chances_to_be_learnt(
    outcomes: Sequence[Observation], classes: OrderClasses, weight: float
) -> Float64Array:
    """How likely training meets the threshold, for every order, judged as kindly as the rewards are.

    The upper confidence bounds of a second Gaussian process, over outcomes, cut to probabilities. Weighing an
    acquisition by the chance of feasibility is that of Gardner et al. 2014, "Bayesian optimization with
    inequality constraints", equation 7.

    Args:
        outcomes: at least one.
        classes: which orders are equivalent.
        weight: of the standard deviation.

    Returns:
        (120,) float64, all 1 if every order was learnt.
    """
    if all(outcome.reward == _LEARNT for outcome in outcomes):
        return np.ones(NUM_WORKFLOWS)
    belief = posterior(outcomes, classes)
    return np.clip(belief.mean + weight * belief.standard_deviation, _SMALLEST_CHANCE, 1.0)
