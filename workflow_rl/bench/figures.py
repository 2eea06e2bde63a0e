"""Figures of a contest: medians over its rounds, each with an interval, as JSON values.

The interval reaches from the lowest round to the highest. By order statistics it holds the median of what
would be measured again with a probability of 1 - 2^(1 - rounds): 94 % with five rounds. Speed-ups are ratios
of two turns of the same round.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from workflow_rl.bench.contest import Alone
from workflow_rl.bench.regimes import Regime
from workflow_rl.bench.timing import Spread
from workflow_rl.bench.turn import Turn
from workflow_rl.cores import usable_cores

REFERENCES = ("synchronous", "sequential")
"""What the speed of others is compared with."""


def confidence(rounds: int) -> float:
    """Probability that the interval of so many rounds holds the median."""
    return 1 - 2.0 ** (1 - rounds)


def ideal_rate(regime: Regime, n_workers: int, alone: Alone) -> dict[str, Any]:
    """Episodes per second that nobody can exceed.

    Args:
        regime: what is played.
        n_workers: workers.
        alone: what an episode takes.

    Returns:
        `workers`: workers / mean time of an episode; `cores`: cores / CPU time of an episode; and
        `episodes_per_second`, the less of the two, named by `limit`.
    """
    by_workers = n_workers / (alone.episode_seconds if regime.waits is None else regime.waits.mean_episode)
    by_cores = usable_cores() / alone.episode_cpu_seconds
    return {
        "episodes_per_second": min(by_workers, by_cores),
        "limit": "workers" if by_workers < by_cores else "cores",
        "workers": by_workers,
        "cores": by_cores,
    }


def figures_of(
    turns: Sequence[Turn], ideal: float, references: Mapping[str, Sequence[Turn]]
) -> dict[str, Any]:
    """What came of one system's turns.

    Args:
        turns: one a round.
        ideal: episodes per second.
        references: turns of those that it is compared with, by name.
    """
    spreads: dict[str, Iterable[float]] = {
        "episodes_per_second": [turn.rate for turn in turns],
        "cold_episodes_per_second": [turn.cold_rate for turn in turns],
        "setup_seconds": [turn.setup_seconds for turn in turns],
        "share_of_ideal": [turn.rate / ideal for turn in turns],
        "cpu_seconds_per_episode": [turn.cpu_per_episode for turn in turns],
        "pss_bytes": [float(turn.memory.total) for turn in turns],
        "pss_bytes_of_others": [float(turn.memory.others) for turn in turns],
    }
    return {
        "batch_size": turns[0].episodes // turns[0].updates,
        "processes": max(turn.memory.num_processes for turn in turns),
        **{name: asdict(Spread.of(values)) for name, values in spreads.items()},
        "speed_up": {name: asdict(speed_up(turns, others)) for name, others in references.items()},
        "update": _update_figures(turns),
        "rounds": [_round_figures(turn) for turn in turns],
    }


def foreign_cores(turns: Iterable[Turn]) -> dict[str, float]:
    """Cores that others took of the machine in these turns."""
    return asdict(Spread.of(turn.foreign_cores for turn in turns))


def speed_up(turns: Sequence[Turn], others: Sequence[Turn]) -> Spread:
    """How many times as many episodes per second, round by round."""
    return Spread.of(turn.rate / other.rate for turn, other in zip(turns, others, strict=True))


def _update_figures(turns: Sequence[Turn]) -> dict[str, Any]:
    """Where the time between two updates goes, seconds and shares."""
    spreads: dict[str, Iterable[float]] = {
        "seconds": [turn.wall_seconds / turn.updates for turn in turns],
        "waiting_seconds": [turn.waiting_seconds / turn.updates for turn in turns],
        "updating_seconds": [turn.update_seconds / turn.updates for turn in turns],
        "waiting_share": [turn.waiting_seconds / turn.wall_seconds for turn in turns],
        "updating_share": [turn.update_seconds / turn.wall_seconds for turn in turns],
        "playing_seconds": [turn.playing_seconds / turn.updates for turn in turns],
        "hidden_collection": [turn.hidden_collection for turn in turns],
        "hidden_update": [turn.busy_in_updates for turn in turns],
    }
    return {name: asdict(Spread.of(values)) for name, values in spreads.items()}


def _round_figures(turn: Turn) -> dict[str, Any]:
    """A turn as it was measured, for whoever wants to compute something else."""
    values = asdict(turn)
    del values["timeline"]
    return values
