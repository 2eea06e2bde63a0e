"""Workloads timed in alternation.

A shared machine changes its speed from minute to minute. Figures that are to be compared are therefore
measured in turn, several rounds within one run: what slows one down slows its neighbours down too. The median
over the rounds is the figure; the extremes say how far to trust it. Wall time is what a user waits, CPU time
what the work costs when others take the core away in between.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Workload:
    """Something to time.

    Attributes:
        name: unique within a measurement.
        play: does a small piece of the work, some milliseconds if possible, and returns its steps.
        floor: steps per second of wall time it is expected to reach at least, if any.
    """

    name: str
    play: Callable[[], int]
    floor: float | None = None


@dataclass(frozen=True)
class Sample:
    """One workload in one round."""

    steps: int
    wall_seconds: float
    cpu_seconds: float


@dataclass(frozen=True)
class Spread:
    """A figure over all rounds."""

    median: float
    minimum: float
    maximum: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        """The spread of at least one value."""
        ordered = sorted(values)
        return cls(statistics.median(ordered), ordered[0], ordered[-1])


@dataclass(frozen=True)
class Figure:
    """What came of one workload.

    Attributes:
        name: of the workload.
        floor: of the workload.
        first_seconds: wall time of its first piece, with compilation and start-up; not in the samples.
        samples: one per round.
    """

    name: str
    floor: float | None
    first_seconds: float
    samples: tuple[Sample, ...]

    @property
    def steps_per_second(self) -> Spread:
        """Steps per second of wall time."""
        return Spread.of(sample.steps / sample.wall_seconds for sample in self.samples)

    @property
    def steps_per_cpu_second(self) -> Spread:
        """Steps per second of this process's CPU time."""
        return Spread.of(sample.steps / sample.cpu_seconds for sample in self.samples)


def measure(workloads: Sequence[Workload], *, rounds: int, seconds: float) -> tuple[Figure, ...]:
    """Time the workloads in turn, round after round.

    Args:
        workloads: each is played once before the first round.
        rounds: at least 1.
        seconds: each workload is played for at least so long in each round.

    Returns:
        The figures, in the order of the workloads.
    """
    first_seconds = [_sample(workload.play, seconds=0.0).wall_seconds for workload in workloads]
    taken = [[_sample(workload.play, seconds=seconds) for workload in workloads] for _ in range(rounds)]
    return tuple(
        Figure(workload.name, workload.floor, first, samples)
        for workload, first, samples in zip(workloads, first_seconds, zip(*taken, strict=True), strict=True)
    )


def ratio(above: Figure, below: Figure) -> Spread:
    """How many times as fast one workload is as another, round by round, by CPU time."""
    return Spread.of(
        (a.steps / a.cpu_seconds) / (b.steps / b.cpu_seconds)
        for a, b in zip(above.samples, below.samples, strict=True)
    )


def _sample(play: Callable[[], int], *, seconds: float) -> Sample:
    """Play piece after piece until the time is up, at least one."""
    started, cpu_started = time.perf_counter(), time.process_time()
    steps = play()
    while time.perf_counter() - started < seconds:
        steps += play()
    return Sample(steps, time.perf_counter() - started, time.process_time() - cpu_started)
