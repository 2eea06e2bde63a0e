"""Speed-up against the tail of the step times: the section `tails` of `workflow-rl bench collectors`.

Without a barrier at every step n environments are at most n times as fast, and as much only if one step takes
longer than all others together. How far a given tail goes is theory (`barrier`); here it is measured at some
tails beside it, and the tail is named at which removing the barrier alone would give the speed-up of 67 that
an earlier system reported over its synchronous version.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from workflow_rl.bench.barrier import sigma_for, slowest_lognormal
from workflow_rl.bench.contest import System, play_rounds
from workflow_rl.bench.figures import foreign_cores, speed_up
from workflow_rl.bench.latency import Waits
from workflow_rl.bench.scaling import Contest
from workflow_rl.bench.timing import Spread

REPORTED = 67.0
"""The speed-up that is to be explained: 74.3 over 1.1 episodes per second."""

_STEPS = 20
"""Of an episode: with heavy tails, the synchronous rival takes a minute for one of a hundred steps."""

_LONGEST_TURN_SECONDS = 2.0
_CURVE = np.linspace(0.0, 3.5, 36)


def measure_tails(contest: Contest, waits: Waits, sigmas: Sequence[float], n_workers: int) -> dict[str, Any]:
    """Executor over synchronous at some tails.

    Args:
        contest: of the regime latency.
        waits: what is kept: the mean step time and the resets.
        sigmas: ascending, the first of them 0.
        n_workers: of both.
    """
    shorter = replace(waits, num_steps=_STEPS, step_times="")
    systems = {sigma: _systems(contest, replace(shorter, sigma=sigma), n_workers) for sigma in sigmas}
    schedule = replace(contest.schedule, seconds=min(contest.schedule.seconds, _LONGEST_TURN_SECONDS))
    turns = play_rounds([system for pair in systems.values() for system in pair], schedule)
    measured = {
        sigma: speed_up(turns[executor.name], turns[synchronous.name])
        for sigma, (executor, synchronous) in systems.items()
    }
    without_tail = measured[sigmas[0]].median
    return {
        "n_workers": n_workers,
        "steps_per_episode": _STEPS,
        "foreign_cores": foreign_cores(turn for taken in turns.values() for turn in taken),
        "measured": [
            {
                "sigma": sigma,
                "theory": slowest_lognormal(n_workers, sigma),
                "speed_up": asdict(spread),
                "over_equal_steps": spread.median / without_tail,
                "episodes_per_second": {
                    system.settings.collector: asdict(Spread.of(turn.rate for turn in turns[system.name]))
                    for system in systems[sigma]
                },
            }
            for sigma, spread in measured.items()
        ],
        "curve": {"sigma": _CURVE.tolist(), "theory": [slowest_lognormal(n_workers, s) for s in _CURVE]},
        "reported": {"speed_up": REPORTED, "n_workers": n_workers, "sigma": sigma_for(REPORTED, n_workers)},
    }


def _systems(contest: Contest, waits: Waits, n_workers: int) -> tuple[System, System]:
    """The executor and the synchronous collector, with names that tell the tail."""
    regime = contest.regime.with_waits(waits)
    executor, synchronous = (
        replace(system, name=f"{system.name}, sigma {waits.sigma:g}", regime=regime)
        for system in (contest.system(name, n_workers) for name in ("executor", "synchronous"))
    )
    return executor, synchronous
