"""Learning curves: what came of each update, smoothed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

import altair
import numpy as np

from workflow_rl.protocol import PUBLISHED
from workflow_rl.report.curves import beginnings, smoothed, trainings
from workflow_rl.report.figure import (
    GREY,
    Chart,
    Figure,
    data,
    evaluations,
    finished,
    run_colour,
    status_shape,
)
from workflow_rl.report.runs import Run
from workflow_rl.run_log import LearningRow, TrainingRow

_Row = TypeVar("_Row")

WITH_INTERVAL = "mean of the updates around each point, with the 95 % interval of that mean"

_CUT_BELOW = 0.03
"""Share of the lowest rewards that the axis leaves out: a policy begins a long way down."""

_JUDGEMENTS = ("by the true state", "by what blue saw")


def learning_figures(runs: Sequence[Run]) -> Iterator[Figure]:
    """Learning curves of what the runs trained, by workflow or on a Gymnasium environment."""
    if any(run.training for run in runs):
        yield Figure(
            "reward",
            "Reward of the simulator",
            f"Line: {WITH_INTERVAL}. Marks: policies evaluated on fresh episodes, with 95 % intervals; a "
            "cross is one that kept to its order less than the threshold demands. The axis leaves out the "
            "very first updates where they are far below.",
            _reward(runs),
        )
        yield Figure(
            "alignment",
            "Alignment reward",
            f"What was added for keeping to the order; {WITH_INTERVAL}.",
            _alignment(runs),
        )
        yield Figure(
            "compliance",
            "Compliance",
            f"Share of the fixes that kept to the order; {WITH_INTERVAL}.",
            _compliance(runs),
        )
    if any(run.validation for run in runs):
        yield Figure(
            "validation",
            "Validation by the challenge's protocol",
            "Sum of the mean returns of the nine cells with its 95 % interval, on episodes kept for "
            "validation; a line for each beginning. Dashed: what was published by the same rules.",
            _validation(runs),
        )
    lengths = {row.mean_length for run in runs for row in run.learning}
    if lengths:
        yield Figure(
            "return",
            "Return",
            f"{WITH_INTERVAL.capitalize()}.",
            _environment_curves(runs, lambda row: row.mean_return, "mean return"),
        )
    if len(lengths) > 1:
        yield Figure(
            "length",
            "Length of episodes",
            f"{WITH_INTERVAL.capitalize()}.",
            _environment_curves(runs, lambda row: row.mean_length, "steps"),
        )


def _reward(runs: Sequence[Run]) -> Chart:
    """Reward curves and the evaluated policies, on an axis without the long way from the first updates."""
    rewards = [row.env_reward for run in runs for row in run.training]
    evaluated = [row for run in runs for row in evaluations(run)]
    low = min([float(np.quantile(rewards, _CUT_BELOW)), *(row["lower"] for row in evaluated)])
    high = max([*rewards, *(row["upper"] for row in evaluated)])
    rows = [row for run in runs for row in _training_rows(run, lambda row: row.env_reward)]
    y = altair.Y("mean:Q", title="mean return", scale=altair.Scale(domain=[low, high]))
    base = altair.Chart(data(evaluated)).encode(x="x:Q", color=run_colour(runs))
    interval = base.mark_rule(strokeWidth=2).encode(y="lower:Q", y2="upper:Q")
    marks = base.mark_point(filled=True, size=70, opacity=1).encode(
        y="mean:Q",
        shape=status_shape("kept", "missed", has_legend=False),
        tooltip=["run:N", "order:N", altair.Tooltip("mean:Q", format=".1f"), "status:N"],
    )
    return finished(altair.LayerChart(layer=[lines(rows, runs, "training episodes", y), interval, marks]))


def _alignment(runs: Sequence[Run]) -> Chart:
    rows = [row for run in runs for row in _training_rows(run, lambda row: row.alignment_reward)]
    y = altair.Y("mean:Q", title="mean return", scale=altair.Scale(zero=False))
    return finished(lines(rows, runs, "training episodes", y))


def _compliance(runs: Sequence[Run]) -> Chart:
    rows = [
        row
        for run in runs
        for row in (
            *_training_rows(run, lambda row: row.compliance, kind=_JUDGEMENTS[0]),
            *_training_rows(run, lambda row: row.observed_compliance, kind=_JUDGEMENTS[1]),
        )
    ]
    y = altair.Y(
        "mean:Q", title="compliance", axis=altair.Axis(format="%"), scale=altair.Scale(domain=[0, 1])
    )
    return finished(lines(rows, runs, "training episodes", y))


def _validation(runs: Sequence[Run]) -> Chart:
    rows = [
        {
            "run": run.label,
            "beginning": row.beginning,
            "minutes": row.seconds / 60,
            "total": row.total,
            "lower": row.total - row.total_half_width,
            "upper": row.total + row.total_half_width,
        }
        for run in runs
        for row in run.validation
    ]
    base = altair.Chart(data(rows)).encode(
        x=altair.X("minutes:Q", title="minutes since the start"), color=run_colour(runs)
    )
    interval = base.mark_rule().encode(y=altair.Y("lower:Q", title="sum of nine mean returns"), y2="upper:Q")
    line = base.mark_line(point=True).encode(
        y=altair.Y("total:Q", scale=altair.Scale(zero=False)),
        detail="beginning:O",
        tooltip=["run:N", altair.Tooltip("minutes:Q", format=".1f"), altair.Tooltip("total:Q", format=".2f")],
    )
    rules = {run.settings["rules"] for run in runs if run.validation}
    known = [{"name": p.name, "total": p.total} for p in PUBLISHED if p.rules in rules]
    published = altair.Chart(data(known)).mark_rule(strokeDash=[4, 3], color=GREY)
    published = published.encode(y="total:Q", tooltip=["name:N", "total:Q"])
    return finished(altair.LayerChart(layer=[published, interval, line]))


def _environment_curves(runs: Sequence[Run], value: Callable[[LearningRow], float], title: str) -> Chart:
    rows = (
        point
        for run in runs
        for number, part in enumerate(beginnings(run.learning, run.validation))
        for point in curve_rows(run, part, lambda row: row.steps, value, training=number)
    )
    y = altair.Y("mean:Q", title=title, scale=altair.Scale(zero=False))
    return finished(lines(rows, runs, "environment steps", y))


def lines(
    rows: Iterable[Mapping[str, Any]], runs: Sequence[Run], x_title: str, y: altair.Y
) -> altair.LayerChart:
    """Smoothed curves with their intervals.

    Args:
        rows: as `curve_rows` makes them.
        runs: of the report.
        x_title: of the horizontal axis.
        y: of the means; its scale is that of the chart.
    """
    rows = list(rows)
    base = altair.Chart(data(rows)).encode(
        x=altair.X("x:Q", title=x_title), color=run_colour(runs), detail=["training:N", "kind:N"]
    )
    has_kinds = any(row["kind"] for row in rows)
    dash = altair.StrokeDash(
        "kind:N",
        title=None,
        scale=altair.Scale(domain=[*_JUDGEMENTS], range=[[1, 0], [4, 3]]) if has_kinds else altair.Undefined,
        legend=altair.Legend() if has_kinds else None,
    )
    band = base.mark_area(opacity=0.2, clip=True).encode(y=altair.Y("lower:Q"), y2="upper:Q")
    line = base.mark_line(strokeWidth=1.6, clip=True).encode(
        y=y,
        strokeDash=dash,
        tooltip=["run:N", "order:N", "x:Q", altair.Tooltip("mean:Q", format=".4~g")],
    )
    return altair.LayerChart(layer=[band, line])


def curve_rows(
    run: Run,
    rows: Sequence[_Row],
    x: Callable[[_Row], float],
    value: Callable[[_Row], float | None],
    **details: Any,
) -> Iterator[dict[str, Any]]:
    """The points of one smoothed curve, as rows of a chart's data.

    Args:
        run: that it is of.
        rows: of a log of the run.
        x: of a row.
        value: of a row.
        details: the number of the `training`, its `order`, and the `kind` of figure, where there are several.
    """
    num_updates = len(run.training) + len(run.learning)
    for point in smoothed([x(row) for row in rows], [value(row) for row in rows], num_updates=num_updates):
        yield {"run": run.label, "training": 0, "kind": "", "order": "", **asdict(point), **details}


def _training_rows(
    run: Run, value: Callable[[TrainingRow], float | None], **details: Any
) -> Iterator[dict[str, Any]]:
    for number, rows in enumerate(trainings(run.training)):
        yield from curve_rows(
            run,
            rows,
            lambda row: row.total_episodes,
            value,
            training=number,
            order=rows[0].workflow_order,
            **details,
        )
