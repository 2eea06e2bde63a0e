"""Which order to train next: ask, train, tell.

    suggestion = search.suggest()                 # the most promising order
    ... train and evaluate suggestion.workflow ...
    search.observe(OrderResult(...))              # what came of it, whether it was learnt or not

An order is scored by GP-UCB (Srinivas et al. 2010, algorithm 1) on the exact posterior over all 120 orders
(`gaussian_process`), weighed by the chance that it can be learnt. Another way to choose is another function
beside `upper_confidence_bounds`: from the belief to one score per order. Training, evaluation and the episode
budget belong to the caller.

The search is a function of its seed and its results: it holds no other state and no generator, so asking
twice gives the same order twice, and a search rebuilt from `to_state` goes on as if it had never stopped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from workflow_rl.gaussian_process import Observation, OrderPosterior, posterior
from workflow_rl.seeding import Stream, generator
from workflow_rl.workflow import NUM_WORKFLOWS, Workflow

# Theorem 1's delta: the probability that some confidence bound of the whole search is wrong.
_FAILURE_PROBABILITY = 0.1

# Whether a trial meets the threshold is partly luck: the deviation of an outcome whose chance is 0.9 or 0.1.
_OUTCOME_DEVIATION = 0.3

# Orders among misses stay comparable by their bounds.
_SMALLEST_CHANCE = 0.02

# Bounds that are equal by symmetry differ in the last bits, and differently on each processor.
_TIE_TOLERANCE = 1e-9


@dataclass(frozen=True)
class OrderResult(Observation):
    """What training an order came to: its evaluated reward (see `Observation`) and how it was reached.

    Attributes:
        compliance: of the evaluated policy, 0..1; `None` if it never fixed a host.
        observed_compliance: the same, judged by what blue's observation showed.
        episodes: training episodes spent on the order in this trial.
        met_threshold: whether the policy keeps to the order as well as the run demands.
    """

    compliance: float | None
    observed_compliance: float | None
    episodes: int
    met_threshold: bool


@dataclass(frozen=True)
class Suggestion:
    """The order to train next, and what is believed about its reward.

    Attributes:
        workflow: the order.
        mean: expected reward; `None` before the first result, like the other two.
        standard_deviation: of that expectation.
        upper_confidence_bound: the highest reward that is believed possible.
    """

    workflow: Workflow
    mean: float | None
    standard_deviation: float | None
    upper_confidence_bound: float | None

    def to_state(self) -> dict[str, Any]:
        """Everything about it as JSON values."""
        return {**asdict(self), "workflow": str(self.workflow)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The suggestion that `to_state` described.

        Raises:
            KeyError, TypeError: the state is not one that `to_state` returned.
        """
        return cls(**{**state, "workflow": Workflow.parse(state["workflow"])})


class OrderSearch:
    """The search for the best of the 120 orders.

    Args:
        seed: of the run; decides the first order and every tie.
        beta: weight of the standard deviation at the first trial, see `exploration_weight`.
    """

    def __init__(self, *, seed: int, beta: float = 2.0) -> None:
        self._seed = seed
        self._beta = beta
        self._results: list[OrderResult] = []

    @property
    def results(self) -> tuple[OrderResult, ...]:
        """All results, oldest first."""
        return tuple(self._results)

    def observe(self, result: OrderResult) -> None:
        """Take in what training an order came to. It need not be an order that was suggested."""
        self._results.append(result)

    def suggest(self) -> Suggestion:
        """The most promising candidate; of equals, and before the first result, a seeded choice.

        The promise of an order is how far its upper confidence bound stands above the lowest one, times the
        chance that the order can be learnt at all: plain GP-UCB as long as every order met the threshold.

        An order that missed the threshold is set aside: it is a candidate only while the trials it missed are
        no more than the trials of the order tried least often. So it comes back when every order has been
        tried once, after a second miss when every order has been tried twice, and so on. Orders that met the
        threshold stay candidates. There is always a candidate: the order tried least often is one.

        The reward of an order that missed is evidence like any other: a policy that was told the order earned
        it. What it says against the order is said by the chance, so that one miss also counts against the
        orders near by, which training would likely fail on next.
        """
        candidates = self._candidates()
        if not self._results:
            return Suggestion(Workflow.from_index(self._pick(candidates)), None, None, None)
        weight = exploration_weight(self._beta, trial=len(self._results) + 1)
        belief = posterior(self._results)
        bounds = upper_confidence_bounds(belief, weight)
        promises = (bounds - bounds.min()) * chances_to_be_learnt(self._results, weight)
        tied = equally_high(promises[candidates], tolerance=_TIE_TOLERANCE * np.abs(bounds).max())
        index = self._pick(candidates[tied])
        return Suggestion(
            workflow=Workflow.from_index(index),
            mean=float(belief.mean[index]),
            standard_deviation=float(belief.standard_deviation[index]),
            upper_confidence_bound=float(bounds[index]),
        )

    def closest_trained(self, workflow: Workflow) -> Workflow | None:
        """The trained order with the fewest discordant pairs to `workflow`, to start its training from.

        It may be `workflow` itself. Of equally close orders the one with the better latest reward, then the
        lower index; whether they met the threshold does not matter. `None` before the first result.
        """
        latest = {result.workflow: result.reward for result in self._results}
        return min(
            latest,
            key=lambda trained: (trained.kendall_distance(workflow), -latest[trained], trained.index),
            default=None,
        )

    def to_state(self) -> dict[str, Any]:
        """Everything the search knows, as JSON values; floats survive a JSON file exactly."""
        return {
            "seed": int(self._seed),
            "beta": float(self._beta),
            "results": [_result_to_state(result) for result in self._results],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The search that `to_state` described.

        Raises:
            KeyError, TypeError, ValueError: the state is not one that `to_state` returned.
        """
        search = cls(seed=state["seed"], beta=state["beta"])
        for result in state["results"]:
            search.observe(OrderResult(**{**result, "workflow": Workflow.parse(result["workflow"])}))
        return search

    def _candidates(self) -> NDArray[np.intp]:
        """Indices of the orders that may be suggested, ascending; the rule is in `suggest`."""
        tried = np.array([result.workflow.index for result in self._results], np.intp)
        missed = np.array([not result.met_threshold for result in self._results], np.bool_)
        num_trials = np.bincount(tried, minlength=NUM_WORKFLOWS)
        num_misses = np.bincount(tried[missed], minlength=NUM_WORKFLOWS)
        return np.flatnonzero(num_misses <= num_trials.min())

    def _pick(self, indices: NDArray[np.intp]) -> int:
        """One of `indices`, decided by the seed and the number of results alone."""
        draws = generator(self._seed, Stream.SEARCH, len(self._results))
        return int(indices[draws.integers(len(indices))])


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


def upper_confidence_bounds(belief: OrderPosterior, weight: float) -> NDArray[np.float64]:
    """Mean plus `weight` standard deviations of every order, (120,) float64."""
    return belief.mean + weight * belief.standard_deviation


def chances_to_be_learnt(results: Sequence[OrderResult], weight: float) -> NDArray[np.float64]:
    """How likely training meets the threshold, for every order, judged as kindly as the rewards are.

    A second Gaussian process, over 1 for each trial that met the threshold and 0 for each that missed; its
    upper confidence bounds, cut to probabilities. Weighing an acquisition by the chance of feasibility is
    that of Gardner et al. 2014, "Bayesian optimization with inequality constraints", equation 7.

    Args:
        results: at least one.
        weight: of the standard deviation.

    Returns:
        (120,) float64, all 1 if every trial met the threshold.
    """
    outcomes = [Observation(r.workflow, float(r.met_threshold), _OUTCOME_DEVIATION) for r in results]
    return np.clip(upper_confidence_bounds(posterior(outcomes), weight), _SMALLEST_CHANCE, 1.0)


def equally_high(values: NDArray[np.float64], tolerance: float) -> NDArray[np.bool_]:
    """Which values are within `tolerance` of the highest, (n,) bool."""
    return np.asarray(values >= values.max() - tolerance)


def _result_to_state(result: OrderResult) -> dict[str, Any]:
    """The result as JSON values; the conversions accept numpy's scalars, which JSON does not."""
    return {
        "workflow": str(result.workflow),
        "reward": float(result.reward),
        "standard_error": float(result.standard_error),
        "compliance": _number(result.compliance),
        "observed_compliance": _number(result.observed_compliance),
        "episodes": int(result.episodes),
        "met_threshold": bool(result.met_threshold),
    }


def _number(value: float | None) -> float | None:
    return None if value is None else float(value)
