"""Smoothing of learning curves, and how far a search was from the best order at each trial.

An update's figures are means of one batch, so they scatter. A curve shows means of the updates around each
point, and a 95 % interval of that mean from their scatter. Where the curve is steep, the slope counts as
scatter too, and the interval is too wide rather than too narrow.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from workflow_rl.evaluation import NORMAL_95
from workflow_rl.run_log import LearningRow, RankingRow, SearchRow, TrainingRow, ValidationRow

_SHARE = 0.1
"""Of a training's updates that one point is the mean of."""
_LEAST_UPDATES = 5
_MOST_POINTS = 400
"""Of all curves of a run together: more cannot be told apart on a page."""


@dataclass(frozen=True)
class Point:
    """A smoothed figure.

    Attributes:
        x: where it is.
        mean: of the updates around it.
        lower: end of the 95 % interval of that mean.
        upper: its other end.
    """

    x: float
    mean: float
    lower: float
    upper: float


def smoothed(x: Sequence[float], values: Sequence[float | None], *, num_updates: int) -> list[Point]:
    """Smooth one figure of the updates of one training.

    Args:
        x: of each update, ascending.
        values: of each update; those that are `None` are left out.
        num_updates: of the whole run, which all of its curves share the points of.
    """
    known = [(at, value) for at, value in zip(x, values, strict=True) if value is not None]
    if not known:
        return []
    places, figures = np.array(known, np.float64).T
    first, last = _windows(len(figures))
    count = last - first
    means = _sums(figures, first, last) / count
    squares = _sums(np.square(figures - figures.mean()), first, last) / count
    variances = np.maximum(squares - np.square(means - figures.mean()), 0.0)
    half = NORMAL_95 * np.sqrt(variances / np.maximum(count - 1, 1))
    stride = -(-num_updates // _MOST_POINTS)
    shown = sorted({*range(0, len(figures), stride), len(figures) - 1})
    return [
        Point(*(float(number) for number in (places[i], means[i], means[i] - half[i], means[i] + half[i])))
        for i in shown
    ]


def _windows(length: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the updates begin and end that each of them is smoothed with, shorter at both ends."""
    reach = max(_LEAST_UPDATES, round(_SHARE * length)) // 2
    places = np.arange(length)
    reaches = np.minimum(np.minimum(places, length - 1 - places), reach)
    return places - reaches, places + reaches + 1


def _sums(
    values: NDArray[np.float64], first: NDArray[np.int64], last: NDArray[np.int64]
) -> NDArray[np.float64]:
    totals = np.concatenate([[0.0], np.cumsum(values)])
    result: NDArray[np.float64] = totals[last] - totals[first]
    return result


def trainings(rows: Sequence[TrainingRow]) -> Iterator[tuple[TrainingRow, ...]]:
    """The rows of each training in turn: a new one begins with another order or a new count of episodes."""
    start = 0
    for i in range(1, len(rows) + 1):
        is_over = i == len(rows) or (
            rows[i].workflow_order != rows[i - 1].workflow_order or rows[i].episodes <= rows[i - 1].episodes
        )
        if is_over:
            yield tuple(rows[start:i])
            start = i


def beginnings(
    rows: Sequence[LearningRow], validations: Sequence[ValidationRow]
) -> Iterator[tuple[LearningRow, ...]]:
    """The rows of each beginning of a defender in turn; those of any other run together.

    A row belongs to the beginning that is validated next; the last rows of a run that goes on wait for that.
    """
    ends = [validation.episodes for validation in validations]
    numbers = [*(validation.beginning for validation in validations), None]
    for _, part in groupby(rows, lambda row: numbers[bisect_left(ends, row.episodes)]):
        yield tuple(part)


@dataclass(frozen=True)
class Progress:
    """A search after one of its trials.

    Attributes:
        trial: number of the trial, from 0.
        best: highest evaluated reward of an order that was kept to, so far; `None` before the first.
        regret: what the best order is expected to earn more than that, by what the search believes at its
            end; 0 if that is less; `None` before the first, or without a ranking.
    """

    trial: int
    best: float | None
    regret: float | None


def progress(trials: Sequence[SearchRow], ranking: Sequence[RankingRow]) -> list[Progress]:
    """How a search went on."""
    expected = max((row.reward for row in ranking if row.status != "missed"), default=None)
    best: float | None = None
    course = []
    for trial in trials:
        if trial.met_threshold:
            best = trial.evaluated_reward if best is None else max(best, trial.evaluated_reward)
        regret = None if expected is None or best is None else max(expected - best, 0.0)
        course.append(Progress(trial.iteration, best, regret))
    return course
