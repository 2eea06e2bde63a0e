"""Which order to train next, and how far: ask, train, tell.

    trial = search.suggest()                      # the most promising order, and how many episodes it gets
    ... train and evaluate trial.workflow ...
    search.observe(OrderResult(...))              # what came of it, whether it was learnt or not

Orders are scored by one of the `search_strategies`. The first ones begin with fresh weights and are trained
in full; later ones begin with the policy that earns most so far, and are trained in pieces
(`successive_halving`). A strategy with a belief asks for the next piece of whichever order it scores highest;
without one the better half goes on. The last episodes are for the best order. Equivalent orders are one
order here: its first by number is trained. Training and evaluation belong to the caller, who ends with the
episodes.

The search is a function of its seed, its settings and its results: it holds no other state and no generator,
so asking twice gives the same trial twice, and a search rebuilt from `to_state` goes on as if it had never
stopped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workflow_rl.equivalent_orders import OrderClasses
from workflow_rl.gaussian_process import OrderPosterior, posterior
from workflow_rl.search_strategies import STRATEGIES, Evidence, exploration_weight, outcome
from workflow_rl.seeding import Stream, generator
from workflow_rl.settings import SearchSettings
from workflow_rl.successive_halving import episodes_to_rung, expected_when_full, order_to_go_on
from workflow_rl.trials import OrderResult, TrainedOrder, Trial, trained_orders
from workflow_rl.workflow import NUM_WORKFLOWS, Workflow

# Scores that are equal by symmetry differ in the last bits, and differently on each processor. They are
# differences of rewards, whose size decides how much.
_TIE_TOLERANCE = 1e-9

# An order whose policy earns less than the best one by more than so many standard errors begins with that.
_CLEARLY_LESS = 2.0

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
        """The next trial: the best candidate, or without a belief an order that is in the better half.

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
        that is believed to earn most as it is, of those that were trained and met the threshold.
        """
        trained = trained_orders(self._results)
        if not trained and self._strategy.has_belief:
            return self._trial(self._pick(self._classes.representatives()), trained, None)
        evidence = self._evidence(trained)
        if self._is_refining() and (best := _best_kept(trained, self.belief())) is not None:
            return self._trial(best, trained, evidence)
        going_on = None if self._strategy.has_belief else order_to_go_on(trained, self._settings.halvings)
        if going_on is not None:
            return self._trial(going_on.result.workflow.index, trained, evidence)
        scores = self._strategy.scores(evidence)
        return self._trial(self._best_of(self._candidates(), scores, evidence), trained, evidence)

    def belief(self) -> OrderPosterior:
        """What is believed about every order's reward, by any strategy; of those trained, as far as they are.

        Raises:
            ValueError: there are no results.
        """
        return posterior([order.result for order in trained_orders(self._results)], self._classes)

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
                outcome(order.result, is_full=order.result.rung >= halvings, threshold=threshold)
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

    def _candidates(self) -> NDArray[np.int64]:
        """Orders that may be suggested, one of each class, ascending indices; the rule is in `suggest`."""
        results = self._results
        tried = self._classes.representative[
            np.array([result.workflow.index for result in results], np.int64)
        ]
        halvings = self._settings.halvings
        is_miss = np.array(
            [result.rung >= halvings and not result.met_threshold for result in results], np.bool_
        )
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
        trial = self._further(before[-1], trained) if before else self._first(workflow, trained)
        if evidence is None or not self._strategy.has_belief:
            return trial
        return replace(
            trial,
            mean=float(evidence.belief.mean[index]),
            standard_deviation=float(evidence.belief.standard_deviation[index]),
            upper_confidence_bound=float(evidence.upper_confidence_bounds[index]),
        )

    def _first(self, workflow: Workflow, trained: Sequence[TrainedOrder]) -> Trial:
        """The first trial of an order: a full training with fresh weights, or a piece of one.

        What a policy learnt about decoys and restoring serves any order, so it is passed on, and whether it
        kept to its own order says nothing about another. But a policy that was trained badly is passed on
        likewise: the first `fresh_beginnings` orders each begin with fresh weights.
        """
        settings = self._settings
        if len(trained) < settings.fresh_beginnings:
            return Trial(workflow, settings.max_episodes_per_workflow, rung=settings.halvings)
        return Trial(workflow, self._episodes_to(0), begins_with=_champion(trained).trial)

    def _further(self, order: TrainedOrder, trained: Sequence[TrainedOrder]) -> Trial:
        """The next trial of an order: it goes on, or begins with the best policy if that earns clearly more.

        Pieces that each go on by themselves would all stay behind; so they build on one another (the exploit
        step of population based training: Jaderberg et al. 2017, section 4.1.1, t-test selection).
        """
        rung, champion = order.result.rung + 1, _champion(trained)
        best = champion if _earns_clearly_less(order.result, champion.result) else order
        return Trial(
            order.result.workflow,
            self._episodes_to(rung),
            continues=order.trial,
            begins_with=best.trial,
            rung=rung,
        )

    def _episodes_to(self, rung: int) -> int:
        settings = self._settings
        return episodes_to_rung(rung, settings.halvings, settings.max_episodes_per_workflow)


def _best_kept(trained: Sequence[TrainedOrder], belief: OrderPosterior) -> int | None:
    """The order that is expected to earn most, of those that met the threshold; of equals the earlier."""
    kept = [order.result.workflow.index for order in trained if order.result.met_threshold]
    return max(kept, key=lambda index: float(belief.mean[index]), default=None)


def _champion(trained: Sequence[TrainedOrder]) -> TrainedOrder:
    """The training whose policy has earned most, kept to its order or not; of equals the earlier."""
    return max(trained, key=lambda order: order.result.reward)


def _earns_clearly_less(one: OrderResult, other: OrderResult) -> bool:
    error = math.hypot(one.standard_error, other.standard_error)
    return other.reward - one.reward > _CLEARLY_LESS * error
