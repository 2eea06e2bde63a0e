"""Searches replayed on landscapes whose best order is known.

A landscape says what training an order for so many episodes comes to. Synthetic ones, drawn at random:

    smooth       drawn from a Mallows process: orders that rank most pairs alike earn alike
    one pair     the sum of what each pair of types decides, and one pair decides most
    rough        nearly independent from order to order, so that there is little to learn
    plateaus     smooth over the 24 rules that Meander's 120 orders are
    curves       the same, and orders are learnt slowly, some more than others

A measured one is read from a table of all orders, trained equally long and scored on the way.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from workflow_rl.bench.score_table import ScoreTable, Worth
from workflow_rl.equivalent_orders import PAIRS, OrderClasses
from workflow_rl.errors import SettingError
from workflow_rl.mallows_kernel import MallowsKernel
from workflow_rl.order_search import OrderSearch
from workflow_rl.settings import AlignmentSettings, SearchSettings
from workflow_rl.trials import OrderResult, Trial, trained_orders
from workflow_rl.workflow import NUM_WORKFLOWS, HostType, Workflow

Float64Array = NDArray[np.float64]

_MEAN, _SPREAD = -60.0, 5.0
_SMALL_VARIANCE = 1e-9

# Tables are scored on 1,000 episodes, orders in a search on 200.
_FEWER_EPISODES = 5**0.5


@dataclass(frozen=True, eq=False)
class Landscape:
    """What training any order for some episodes comes to.

    Attributes:
        episodes: numbers of episodes, ascending, (K,) int64; of others the next lower one counts.
        rewards: expected after so many, by order, (K, 120) float64.
        compliances: likewise.
        standard_errors: of evaluations, likewise.
        classes: which orders are equivalent.
    """

    episodes: NDArray[np.int64]
    rewards: Float64Array
    compliances: Float64Array
    standard_errors: Float64Array
    classes: OrderClasses

    def level(self, episodes: int) -> int:
        """The row for so many episodes."""
        return max(0, int(np.searchsorted(self.episodes, episodes, side="right")) - 1)

    def best_reward(self, threshold: float) -> float:
        """The highest expected reward after full training among orders that meet the threshold."""
        return float(self.rewards[-1][self.compliances[-1] >= threshold].max())


FULL = 8
"""Episodes of a full training on a synthetic landscape; three halvings leave one."""


def learnt_at_once(rewards: Float64Array, classes: OrderClasses) -> Landscape:
    """A landscape where one episode is enough, evaluated with a fifth of the rewards' spread as noise.

    Args:
        rewards: (120,).
        classes: which orders are equivalent.
    """
    return learnt_slowly(rewards, np.zeros(NUM_WORKFLOWS), classes)


def learnt_slowly(rewards: Float64Array, slowness: Float64Array, classes: OrderClasses) -> Landscape:
    """Learning curves: they fall short of the reward by slowness * (sqrt(FULL / episodes) - 1).

    Args:
        rewards: after a full training, (120,).
        slowness: (120,).
        classes: which orders are equivalent.
    """
    episodes = np.arange(1, FULL + 1)
    shortfalls = (np.sqrt(FULL / episodes) - 1.0)[:, np.newaxis] * slowness
    return Landscape(
        episodes=episodes,
        rewards=rewards - shortfalls,
        compliances=np.ones_like(shortfalls),
        standard_errors=np.full_like(shortfalls, _SPREAD / 5),
        classes=classes,
    )


def mallows_rewards(
    draws: np.random.Generator, classes: OrderClasses, length_scale_inverse: float
) -> Float64Array:
    """A draw from a Gaussian process with a Mallows kernel, (120,)."""
    covariance = MallowsKernel(length_scale_inverse)(classes.preferences)
    root = np.linalg.cholesky(np.asarray(covariance) + _SMALL_VARIANCE * np.eye(NUM_WORKFLOWS))
    return np.asarray(_MEAN + _SPREAD * root @ draws.standard_normal(NUM_WORKFLOWS))


def _smooth(draws: np.random.Generator) -> Landscape:
    classes = OrderClasses.all_different()
    return learnt_at_once(mallows_rewards(draws, classes, 0.2), classes)


def _one_pair(draws: np.random.Generator) -> Landscape:
    classes, worths = OrderClasses.all_different(), draws.uniform(-1.0, 1.0, len(PAIRS))
    worths[draws.integers(len(PAIRS))] = _SPREAD
    return learnt_at_once(_MEAN + classes.preferences @ worths, classes)


def _rough(draws: np.random.Generator) -> Landscape:
    classes = OrderClasses.all_different()
    return learnt_at_once(mallows_rewards(draws, classes, 2.0), classes)


def _plateaus(draws: np.random.Generator) -> Landscape:
    classes = _meander_classes()
    return learnt_at_once(mallows_rewards(draws, classes, 0.2), classes)


def _curves(draws: np.random.Generator) -> Landscape:
    classes = _meander_classes()
    slowness = draws.uniform(0.5, 2.5, NUM_WORKFLOWS)[classes.representative] * _SPREAD
    return learnt_slowly(mallows_rewards(draws, classes, 0.2), slowness, classes)


def _meander_classes() -> OrderClasses:
    return OrderClasses.of(frozenset(HostType) - {HostType.DEFENDER}, "reachable")


LANDSCAPES: Mapping[str, Callable[[np.random.Generator], Landscape]] = {
    "smooth": _smooth,
    "one pair": _one_pair,
    "rough": _rough,
    "plateaus": _plateaus,
    "curves": _curves,
}
"""By name: draws one."""


def measured_landscape(table: ScoreTable, red_agent: str, alignment: AlignmentSettings) -> Landscape:
    """What trainings against an attacker came to; several seeds are averaged.

    Args:
        table: has a row for an order of each class after the same numbers of episodes.
        red_agent: the attacker.
        alignment: of the trainings.

    Raises:
        SettingError: rows are missing.
    """
    classes = OrderClasses.in_training(red_agent, alignment)
    worths: dict[tuple[int, int], list[Worth]] = defaultdict(list)
    for row, worth in table.rows.items():
        if (row.red_agent, row.training, row.alignment) == (red_agent, "order", alignment.alignment):
            worths[row.episodes, Workflow.parse(row.order).index].append(worth)
    episodes = sorted({count for count, _ in worths})
    rewards, compliances, errors = np.full((3, len(episodes), NUM_WORKFLOWS), np.nan)
    for level, count in enumerate(episodes):
        for index, first in enumerate(classes.representative):
            rows = worths[count, int(first)]
            if not rows:
                raise SettingError(
                    f"the table has no row for {Workflow.from_index(int(first))} against {red_agent} with "
                    f"--alignment {alignment.alignment} after {count} episodes"
                )
            rewards[level, index] = fmean(row.reward for row in rows)
            compliances[level, index] = fmean(row.compliance or 0.0 for row in rows)
            errors[level, index] = fmean(row.standard_error for row in rows) * _FEWER_EPISODES
    if not episodes:
        raise SettingError(f"the table has no rows for {red_agent} with --alignment {alignment.alignment}")
    return Landscape(np.array(episodes), rewards, compliances, errors, classes)


def regrets(
    landscape: Landscape, settings: SearchSettings, budgets: NDArray[np.int64], seed: int
) -> Float64Array:
    """Play a search on a landscape.

    Args:
        landscape: whose orders it trains.
        settings: of the search.
        budgets: episodes after which it is asked for its best order, ascending, (K,).
        seed: of the search and of the noise.

    Returns:
        For each budget by how much that order, as far as it is trained, earns less than the best one that
        meets the threshold, (K,) float64; one that misses it counts as the worst of all.
    """
    search, noise = OrderSearch(settings, landscape.classes, seed=seed), np.random.default_rng(seed)
    found: list[float] = []
    spent = 0
    while len(found) < len(budgets):
        trial = search.suggest()
        spent += trial.episodes
        while len(found) < len(budgets) and budgets[len(found)] < spent:
            found.append(_reward_of_best(landscape, search))
        search.observe(_evaluated(landscape, search, trial, noise, settings.compliance_threshold))
    return landscape.best_reward(settings.compliance_threshold) - np.array(found)


def _evaluated(
    landscape: Landscape, search: OrderSearch, trial: Trial, noise: np.random.Generator, threshold: float
) -> OrderResult:
    """What a trial comes to, as an evaluation shows it."""
    index = trial.workflow.index
    level = landscape.level(trial.episodes + _episodes(search.results, trial.continues))
    compliance = float(landscape.compliances[level, index])
    standard_error = float(landscape.standard_errors[level, index])
    return OrderResult(
        workflow=trial.workflow,
        reward=float(landscape.rewards[level, index] + standard_error * noise.standard_normal()),
        standard_error=standard_error,
        compliance=compliance,
        observed_compliance=compliance,
        episodes=trial.episodes,
        met_threshold=compliance >= threshold,
        continues=trial.continues,
        rung=trial.rung,
    )


def _reward_of_best(landscape: Landscape, search: OrderSearch) -> float:
    """What the policy truly earns that a run would deliver.

    Of those that keep to their orders it is the one of which most is believed.
    """
    kept = [order for order in trained_orders(search.results) if order.result.met_threshold]
    if not kept:
        return float(landscape.rewards.min())
    mean = search.belief().mean
    best = max(kept, key=lambda order: float(mean[order.result.workflow.index]))
    return float(landscape.rewards[landscape.level(best.episodes), best.result.workflow.index])


def _episodes(results: Sequence[OrderResult], trial: int | None) -> int:
    """The episodes of a trial and of those that it went on from."""
    total = 0
    while trial is not None:
        total += results[trial].episodes
        trial = results[trial].continues
    return total
