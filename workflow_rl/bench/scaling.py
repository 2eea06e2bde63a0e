"""Speed by number of workers: the sections `scaling` and `four` of `workflow-rl bench collectors`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from workflow_rl.bench.contest import Alone, Schedule, System, play_rounds
from workflow_rl.bench.figures import REFERENCES, figures_of, foreign_cores, ideal_rate
from workflow_rl.bench.regimes import Regime
from workflow_rl.bench.turn import Turn
from workflow_rl.settings import CollectorSettings

_BARRIER_FREE = ("executor", "ray")
_ALONE_SECONDS = 2.0
"""Counted in a turn of one environment alone."""


@dataclass(frozen=True)
class Contest:
    """What systems are compared in.

    Attributes:
        regime: what they play.
        lag: of those that play while the learner updates; to others it would bring nothing.
        batch_size: episodes of an update; `None` for as many as workers.
        alone: what an episode costs one environment.
        schedule: how long.
    """

    regime: Regime
    lag: int
    batch_size: int | None
    alone: Alone
    schedule: Schedule

    def system(self, collector: str, n_workers: int) -> System:
        """A collector of so many workers.

        One environment alone is too slow for a whole batch in a turn. As its rate hardly varies and does not
        depend on the size of a batch, it gets short turns, and batches of which two fit into one.
        """
        settings = CollectorSettings(
            collector=collector, n_workers=n_workers, lag=self.lag if collector in _BARRIER_FREE else 0
        )
        batch_size = self.batch_size or n_workers
        if collector == "sequential":
            seconds = min(self.schedule.seconds, _ALONE_SECONDS)
            batch_size = max(1, min(batch_size, int(seconds / 2 / self.alone.episode_seconds)))
            return System(collector, settings, batch_size, self.regime, seconds)
        return System(collector, settings, batch_size, self.regime)

    def play(self, collectors: Sequence[str], n_workers: int) -> dict[str, list[Turn]]:
        """Turns of collectors, by their names."""
        return play_rounds([self.system(collector, n_workers) for collector in collectors], self.schedule)


def measure_count(contest: Contest, collectors: Sequence[str], n_workers: int) -> dict[str, Any]:
    """Collectors side by side with so many workers.

    Args:
        contest: what they are compared in.
        collectors: names, among them "sequential".
        n_workers: of each, but for the sequential one.
    """
    turns = contest.play(collectors, n_workers)
    # Where nobody waits, turns beside the others know better than the few episodes at the start.
    alone = contest.alone if contest.regime.waits is not None else Alone.of(turns["sequential"])
    ideal = ideal_rate(contest.regime, n_workers, alone)
    references = {name: turns[name] for name in REFERENCES if name in turns}
    return {
        "n_workers": n_workers,
        "ideal": ideal,
        "systems": {
            name: figures_of(taken, ideal["episodes_per_second"], references) for name, taken in turns.items()
        },
        "foreign_cores": foreign_cores(turn for taken in turns.values() for turn in taken),
        "timelines": {name: asdict(taken[0].timeline) for name, taken in turns.items()},
    }


def measure_scaling(
    contest: Contest, collectors: Sequence[str], worker_counts: Sequence[int]
) -> dict[str, Any]:
    """Collectors by number of workers, and what each rise in that number brings."""
    counts = [measure_count(contest, collectors, n_workers) for n_workers in worker_counts]
    return {
        "by_workers": counts,
        "rises": [_rise(fewer, more) for fewer, more in pairwise(counts)],
    }


def _rise(fewer: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Medians with more workers over medians with fewer."""

    def rate(count: dict[str, Any], name: str) -> float:
        return float(count["systems"][name]["episodes_per_second"]["median"])

    return {
        "from": fewer["n_workers"],
        "to": more["n_workers"],
        "workers": more["n_workers"] / fewer["n_workers"],
        "ideal": more["ideal"]["episodes_per_second"] / fewer["ideal"]["episodes_per_second"],
        "rate": {name: rate(more, name) / rate(fewer, name) for name in more["systems"]},
    }
