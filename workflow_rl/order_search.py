"""Which order to train next, and how far: ask, train, tell.

    trial = search.suggest()                      # the most promising order, and how many episodes it gets
    ... train and evaluate trial.workflow ...
    search.observe(OrderResult(...))              # what came of it, whether it was learnt or not

Orders are scored by one of the `search_strategies`; with `successive_halving` an order is trained in pieces,
and the better half goes on; the last episodes are for the best one. Equivalent orders are one order here:
its first by number is trained. Training and evaluation belong to the caller, who ends with the episodes.

The search is a function of its seed, its settings and its results: it holds no other state and no generator,
so asking twice gives the same trial twice, and a search rebuilt from `to_state` goes on as if it had never
stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workflow_rl.equivalent_orders import OrderClasses
from workflow_rl.gaussian_process import OrderPosterior
from workflow_rl.search_strategies import STRATEGIES, Evidence, exploration_weight, outcome
from workflow_rl.seeding import Stream, generator
from workflow_rl.settings import SearchSettings
from workflow_rl.successive_halving import episodes_of_next_trial, expected_when_full, order_to_go_on
from workflow_rl.trials import OrderResult, TrainedOrder, Trial, trained_orders, trial_counts
from workflow_rl.workflow import NUM_WORKFLOWS, Workflow

# Scores that are equal by symmetry differ in the last bits, and differently on each processor. They are
# differences of rewards, whose size decides how much.
_TIE_TOLERANCE = 1e-9

# Index of the draws that a strategy makes, beside those that decide ties.
_DRAWS_OF_STRATEGY = 1


class OrderSearch:
    """The search for the best of the 120 orders.

    Args:
        settings: the strategy, and how trials are cut.
        classes: which orders are equivalent; none unless given.
        seed: of the run; decides the first order, every tie and every draw.
    """

    def __init__(
        self, settings: SearchSettings, classes: OrderClasses | None = None, *, seed: int = 0
    ) -> None:
        self._settings = settings
        self._strategy = STRATEGIES[settings.search_strategy]
        self._classes = classes or OrderClasses.all_different()
        self._seed = seed
        self._results: list[OrderResult] = []

    @property
    def results(self) -> tuple[OrderResult, ...]:
        """The results of all trials, by number of trial."""
        return tuple(self._results)

    def observe(self, result: OrderResult) -> None:
        """Take in what training an order came to. It need not be an order that was suggested."""
        self._results.append(result)

    def suggest(self) -> Trial:
        """The next trial: an order that goes on for being in the better half, or else the best candidate.

        Candidates are scored by the strategy; of equals, and before the first result, a seeded choice. An
        order that missed the threshold when it was fully trained is set aside: it is a candidate only while
        the trials it missed are no more than the trials of the order tried least often. So it comes back when
        every order has been tried once, after a second miss when every order has been tried twice, and so on.
        Orders that met the threshold stay candidates, unless the strategy takes every order once before any
        twice. There is always a candidate: the order tried least often is one.

        The reward of an order that missed is evidence like any other: a policy that was told the order earned
        it. What it says against the order is said by the chance to be learnt, so that one miss also counts
        against the orders near by, which training would likely fail on next.

        In the end nothing is tried any more: for the last `refining_share` of the episodes the order goes on
        that is expected to earn most, of those that were trained and met the threshold.
        """
        trained = trained_orders(self._results)
        if not trained and self._strategy.has_belief:
            return self._trial(self._pick(self._classes.representatives()), trained, None)
        evidence = self._evidence(trained)
        if self._is_refining() and (best := _best_kept(trained, evidence.belief)) is not None:
            return self._trial(best, trained, evidence)
        scores = self._strategy.scores(evidence)
        going_on = order_to_go_on(trained, self._settings.halvings, lambda order: self._worth(order, scores))
        if going_on is None:
            index = self._best_of(self._candidates(), scores, evidence)
        else:
            index = going_on.result.workflow.index
        return self._trial(index, trained, evidence)

    def belief(self) -> OrderPosterior:
        """What is believed about the reward of every order after a full training, by any strategy.

        Raises:
            ValueError: there are no results.
        """
        return self._evidence(trained_orders(self._results)).belief

    def beginning(self) -> int | None:
        """The trial whose policy an order that was never trained begins with; `None` is fresh weights.

        It is the one that has earned most, of those that met the threshold if any did, of equals the earlier.
        What it learnt about decoys and restoring serves any order. But a policy that was trained badly is
        passed on likewise, so the first `fresh_beginnings` orders each begin with fresh weights.
        """
        trained = trained_orders(self._results)
        if len(trained) < self._settings.fresh_beginnings:
            return None
        return max(trained, key=lambda order: (order.result.met_threshold, order.result.reward)).trial

    def to_state(self) -> dict[str, Any]:
        """What `restore` needs, as JSON values."""
        return {"results": [result.to_state() for result in self._results]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `to_state` returned in a search with the same seed, settings and classes.

        Raises:
            KeyError, TypeError, ValueError: the state is not one that `to_state` returned.
        """
        self._results = [OrderResult.from_state(result) for result in state["results"]]

    def _evidence(self, trained: Sequence[TrainedOrder]) -> Evidence:
        halvings, threshold = self._settings.halvings, self._settings.compliance_threshold
        return Evidence(
            observations=expected_when_full(trained, self._results, halvings),
            outcomes=[
                outcome(order.result, is_full=order.num_trials > halvings, threshold=threshold)
                for order in trained
            ],
            classes=self._classes,
            weight=exploration_weight(self._settings.ucb_beta, trial=len(self._results) + 1),
            draws=generator(self._seed, Stream.SEARCH, len(self._results), _DRAWS_OF_STRATEGY),
        )

    def _is_refining(self) -> bool:
        """Whether what is left of the episodes is for the best order."""
        spent = sum(result.episodes for result in self._results)
        return spent >= (1.0 - self._settings.refining_share) * self._settings.total_episodes

    def _worth(self, order: TrainedOrder, scores: NDArray[np.float64]) -> tuple[float, ...]:
        """What decides who is in the better half: its score, or without a belief what it came to."""
        result = order.result
        if self._strategy.has_belief:
            return (float(scores[result.workflow.index]),)
        return (float(result.met_threshold), result.reward)

    def _candidates(self) -> NDArray[np.int64]:
        """Orders that may be suggested, one of each class, ascending indices; the rule is in `suggest`."""
        results, counts = self._results, np.array(trial_counts(self._results), np.int64)
        tried = self._classes.representative[
            np.array([result.workflow.index for result in results], np.int64)
        ]
        has_met = np.array([result.met_threshold for result in results], np.bool_)
        is_miss = (counts > self._settings.halvings) & ~has_met
        representatives = self._classes.representatives()
        num_trials = np.bincount(tried, minlength=NUM_WORKFLOWS)[representatives]
        num_misses = np.bincount(tried[is_miss], minlength=NUM_WORKFLOWS)[representatives]
        counted = num_misses if self._strategy.has_belief else num_trials
        return np.asarray(representatives[counted <= num_trials.min()])

    def _best_of(self, candidates: NDArray[np.int64], scores: NDArray[np.float64], evidence: Evidence) -> int:
        """The candidate with the highest score; of equals a seeded choice."""
        size = float(np.abs(evidence.belief.mean).max()) if self._strategy.has_belief else 0.0
        scores = scores[candidates]
        return self._pick(candidates[scores >= scores.max() - _TIE_TOLERANCE * size])

    def _pick(self, indices: NDArray[np.int64]) -> int:
        """One of `indices`, decided by the seed and the number of results alone."""
        draws = generator(self._seed, Stream.SEARCH, len(self._results))
        return int(indices[draws.integers(len(indices))])

    def _trial(self, index: int, trained: Sequence[TrainedOrder], evidence: Evidence | None) -> Trial:
        """The next trial of an order, which goes on from the last one of its class."""
        workflow = Workflow.from_index(index)
        before = [one for one in trained if self._classes.are_equivalent(one.result.workflow, workflow)]
        num_trials = before[-1].num_trials if before else 0
        trial = Trial(
            workflow=before[-1].result.workflow if before else workflow,
            episodes=episodes_of_next_trial(
                num_trials, self._settings.halvings, self._settings.max_episodes_per_workflow
            ),
            continues=before[-1].trial if before else None,
            full_trainings=max(0, num_trials - self._settings.halvings),
        )
        if evidence is None or not self._strategy.has_belief:
            return trial
        return replace(
            trial,
            mean=float(evidence.belief.mean[index]),
            standard_deviation=float(evidence.belief.standard_deviation[index]),
            upper_confidence_bound=float(evidence.upper_confidence_bounds[index]),
        )


def _best_kept(trained: Sequence[TrainedOrder], belief: OrderPosterior) -> int | None:
    """The order that is expected to earn most, of those that met the threshold; of equals the earlier."""
    kept = [order.result.workflow.index for order in trained if order.result.met_threshold]
    return max(kept, key=lambda index: float(belief.mean[index]), default=None)
