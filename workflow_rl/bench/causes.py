"""Where the speed-up comes from: the section `causes` of `workflow-rl bench collectors`.

One factor is changed at a time, from the slowest system to the fastest:

    sequential                       one environment
    synchronous, equal steps         more workers; nobody is ever late, so the barrier costs nothing
    synchronous                      steps differ: all wait for the slowest
    executor, lag 0                  no step barrier, and the policy in the worker instead of the learner
    executor                         no update barrier: workers play while the learner learns

The ratios of neighbours multiply to the ratio of the ends. The policy's place and the step barrier change
together, since whoever waits for nobody has to choose alone; equal steps tell them apart, because there the
barrier costs nothing. What is left of the speed-up is the barrier's.

Three more factors are inside all of this: compiled inference against numpy and torch, environments that are
kept against new ones for each episode, and workers that are kept against new ones for each batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from workflow_rl.bench.barrier import slowest_episode_of, slowest_of
from workflow_rl.bench.contest import System, play_rounds
from workflow_rl.bench.figures import foreign_cores
from workflow_rl.bench.pairs import measure_pairs
from workflow_rl.bench.regimes import Regime
from workflow_rl.bench.scaling import Contest
from workflow_rl.bench.timing import Spread
from workflow_rl.bench.turn import Turn

ALONE = "sequential"
EQUAL_SYNCHRONOUS = "synchronous, equal steps"
EQUAL_EXECUTOR = "executor, lag 0, equal steps"
SYNCHRONOUS = "synchronous"
ON_POLICY = "executor, lag 0"
BARRIER_FREE = "executor"

Turns = Mapping[str, Sequence[Turn]]


@dataclass(frozen=True)
class Factor:
    """One cause.

    Attributes:
        name: what is changed.
        change: from what to what.
        times: how many times as fast, measured.
        theory: the same by theory, `None` if there is none.
        is_in_chain: whether it is one of those whose product is the whole.
    """

    name: str
    change: str
    times: Spread
    theory: float | None
    is_in_chain: bool = False


def measure_causes(contest: Contest, n_workers: int) -> dict[str, Any]:
    """The factors, with so many workers."""
    systems = _systems(contest, n_workers)
    turns = play_rounds(systems, contest.schedule)
    whole = Factor("all together", f"{ALONE} to {BARRIER_FREE}", _ratio(turns, BARRIER_FREE, ALONE), None)
    factors = [
        *_barrier_factors(contest.regime, n_workers, turns),
        *_pair_factors(contest),
        _start_up_factor(turns[BARRIER_FREE]),
    ]
    return {
        "n_workers": n_workers,
        "whole": asdict(whole),
        "foreign_cores": foreign_cores(turn for taken in turns.values() for turn in taken),
        "factors": [asdict(factor) for factor in factors],
        "episodes_per_second": {
            name: asdict(Spread.of(turn.rate for turn in taken)) for name, taken in turns.items()
        },
    }


def _systems(contest: Contest, n_workers: int) -> list[System]:
    alone, synchronous, executor = (
        contest.system(name, n_workers) for name in ("sequential", "synchronous", "executor")
    )
    on_policy = replace(executor, name=ON_POLICY, settings=replace(executor.settings, lag=0))
    systems = [alone, synchronous, on_policy, executor]
    waits = contest.regime.waits
    if waits is not None:
        equal = contest.regime.with_waits(replace(waits, sigma=0.0, step_times=""))
        systems += [
            replace(synchronous, name=EQUAL_SYNCHRONOUS, regime=equal),
            replace(on_policy, name=EQUAL_EXECUTOR, regime=equal),
        ]
    return systems


def _barrier_factors(regime: Regime, n_workers: int, turns: Turns) -> list[Factor]:
    """The chain; two of its links are one where steps cannot be made equal."""
    last_of_batch = None if regime.waits is None else slowest_episode_of(n_workers, regime.waits)
    no_update_barrier = Factor(
        "no update barrier",
        f"{ON_POLICY} to {BARRIER_FREE}",
        _ratio(turns, BARRIER_FREE, ON_POLICY),
        last_of_batch,
        is_in_chain=True,
    )
    no_step_barrier = Factor(
        "whole episodes in workers",
        f"{SYNCHRONOUS} to {ON_POLICY}",
        _ratio(turns, ON_POLICY, SYNCHRONOUS),
        None,
        is_in_chain=True,
    )
    if regime.waits is None or last_of_batch is None:
        more = Factor(
            "more workers", f"{ALONE} to {SYNCHRONOUS}", _ratio(turns, SYNCHRONOUS, ALONE), None, True
        )
        return [more, no_step_barrier, no_update_barrier]
    slowest = slowest_of(n_workers, regime.waits)
    return [
        Factor(
            "more workers",
            f"{ALONE} to {EQUAL_SYNCHRONOUS}",
            _ratio(turns, EQUAL_SYNCHRONOUS, ALONE),
            float(n_workers),
            is_in_chain=True,
        ),
        Factor(
            "steps that differ, a barrier at each",
            f"{EQUAL_SYNCHRONOUS} to {SYNCHRONOUS}",
            _ratio(turns, SYNCHRONOUS, EQUAL_SYNCHRONOUS),
            1 / slowest,
            is_in_chain=True,
        ),
        replace(no_step_barrier, theory=slowest / last_of_batch),
        *_parts_of_step_barrier(turns, slowest / last_of_batch),
        no_update_barrier,
    ]


def _parts_of_step_barrier(turns: Turns, theory: float) -> list[Factor]:
    places = _ratios(turns, EQUAL_EXECUTOR, EQUAL_SYNCHRONOUS)
    both = _ratios(turns, ON_POLICY, SYNCHRONOUS)
    return [
        Factor(
            "of it: policy in the worker",
            f"{EQUAL_SYNCHRONOUS} to {EQUAL_EXECUTOR}",
            Spread.of(places),
            None,
        ),
        Factor(
            "of it: no step barrier",
            "the rest",
            Spread.of(whole / place for whole, place in zip(both, places, strict=True)),
            theory,
        ),
    ]


def _start_up_factor(turns: Sequence[Turn]) -> Factor:
    times = Spread.of(turn.rate / turn.cold_rate for turn in turns)
    return Factor("workers kept", "started for each batch to kept", times, None)


def _pair_factors(contest: Contest) -> list[Factor]:
    """What is inside of every system, whatever its barriers."""
    contest.schedule.show("inference and environments")
    pairs = measure_pairs(contest.regime, contest.schedule.rounds, contest.schedule.seconds)
    return [Factor(pair.name, pair.change, pair.times, None) for pair in pairs]


def _ratios(turns: Turns, above: str, below: str) -> list[float]:
    return [a.rate / b.rate for a, b in zip(turns[above], turns[below], strict=True)]


def _ratio(turns: Turns, above: str, below: str) -> Spread:
    return Spread.of(_ratios(turns, above, below))
