"""How a search went, and what it believes of all orders at its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import altair
import numpy as np

from workflow_rl.report.curves import progress
from workflow_rl.report.figure import (
    BLUE,
    GREEN,
    GREY,
    HEIGHT,
    NAMED_ROWS_WIDTH,
    ROW_HEIGHT,
    VERMILLION,
    Chart,
    Figure,
    data,
    evaluations,
    file_stem,
    finished,
    status_shape,
)
from workflow_rl.report.runs import Run
from workflow_rl.run_log import RankingRow
from workflow_rl.workflow import NUM_HOST_TYPES, HostType, Workflow

_CELL_HEIGHT = 44
_THREE_DIGITS = -99.95
"""Rewards from here down have no room for a decimal in a cell on a phone."""

_STATUS_COLOURS = {"kept": GREEN, "served": BLUE, "missed": VERMILLION, "predicted": GREY}


def search_figures(run: Run) -> Iterator[Figure]:
    """How a search went, and what it believes of every order at its end; nothing of a run of one order."""
    if len(run.search) < 2:
        return
    stem = file_stem(run)
    yield Figure(
        f"search-{stem}",
        f"Search: {run.label}",
        "Marks: evaluated orders, with 95 % intervals; crosses kept to their order less than the threshold "
        "demands. Line: best so far of those that kept to it.",
        _search_course(run),
    )
    known = [asdict(point) for point in progress(run.search, run.ranking) if point.regret is not None]
    if known:
        yield Figure(
            f"regret-{stem}",
            f"Regret that is left: {run.label}",
            "How much more the best order is expected to earn, by what the Gaussian process believes at the "
            "end, than the best policy so far that kept to its order.",
            _regret(run, known),
        )
    if run.ranking:
        yield Figure(
            f"ranking-{stem}",
            f"All 120 orders, best first: {run.label}",
            "Mean of the Gaussian process with its 95 % interval. An order is served if another's policy "
            "keeps to it too; it has that policy's reward. Orders that no rule tells apart share a row.",
            _ranking(run.ranking),
            least_width=NAMED_ROWS_WIDTH,
        )
        yield Figure(
            f"positions-{stem}",
            f"Which type to fix when: {run.label}",
            "Expected reward, mean of the 24 orders that have the type at the position.",
            _positions(run.ranking),
        )


def _search_course(run: Run) -> Chart:
    base = altair.Chart(data(evaluations(run))).encode(x=_trial_axis(run))
    interval = base.mark_rule(color=GREY, strokeWidth=2).encode(
        y=altair.Y("lower:Q", title="evaluated reward", scale=altair.Scale(zero=False)), y2="upper:Q"
    )
    marks = base.mark_point(filled=True, color=GREY, size=70, opacity=1).encode(
        y="mean:Q",
        shape=status_shape("kept", "missed"),
        tooltip=["trial:Q", "order:N", altair.Tooltip("mean:Q", format=".1f"), "status:N"],
    )
    layers = [interval, marks]
    if course := [asdict(point) for point in progress(run.search, run.ranking) if point.best is not None]:
        line = altair.Chart(data(course)).mark_line(interpolate="step-after", color=BLUE, strokeWidth=2)
        layers.append(line.encode(x="trial:Q", y="best:Q"))
    return finished(altair.LayerChart(layer=layers))


def _trial_axis(run: Run) -> altair.X:
    return altair.X(
        "trial:Q",
        title="trial",
        axis=altair.Axis(tickMinStep=1, format="d"),
        scale=altair.Scale(domain=[-0.5, len(run.search) - 0.5], nice=False),
    )


def _regret(run: Run, course: Sequence[Mapping[str, Any]]) -> Chart:
    most = max(1.0, *(point["regret"] for point in course))  # of a flat course too an axis can be read
    chart = (
        altair.Chart(data(course))
        .mark_line(interpolate="step-after", point=True, color=BLUE)
        .encode(
            x=_trial_axis(run),
            y=altair.Y("regret:Q", title="reward", scale=altair.Scale(domainMin=0, domainMax=most)),
            tooltip=["trial:Q", altair.Tooltip("regret:Q", format=".1f")],
        )
    )
    return finished(chart, HEIGHT // 2)


def _ranking(rows: Sequence[RankingRow]) -> Chart:
    shown = [
        {**asdict(row), "label": _with_alike(row), "order": row.workflow.replace(",", " › ")} for row in rows
    ]
    base = altair.Chart(data(shown)).encode(
        y=altair.Y("label:N", title=None, sort=None, axis=altair.Axis(labelLimit=380)),
        color=altair.Color(
            "status:N",
            title=None,
            scale=altair.Scale(domain=[*_STATUS_COLOURS], range=[*_STATUS_COLOURS.values()]),
        ),
    )
    interval = base.mark_rule(strokeWidth=2).encode(
        x=altair.X("lower:Q", title="expected reward", scale=altair.Scale(zero=False)), x2="upper:Q"
    )
    mean = base.mark_point(filled=True, size=60, opacity=1).encode(
        x="reward:Q",
        shape=status_shape(*_STATUS_COLOURS),
        tooltip=[
            "rank:Q",
            "order:N",
            altair.Tooltip("reward:Q", format=".1f"),
            altair.Tooltip("lower:Q", format=".1f"),
            altair.Tooltip("upper:Q", format=".1f"),
            altair.Tooltip("chance_to_be_best:Q", format=".1%", title="chance to be best"),
            altair.Tooltip("compliance:Q", format=".1%"),
            altair.Tooltip("episodes:Q", format=","),
            altair.Tooltip("policy_of:N", title="policy of"),
        ],
    )
    return finished(altair.LayerChart(layer=[interval, mean]), ROW_HEIGHT * len(rows))


def _with_alike(row: RankingRow) -> str:
    num_alike = len(row.orders) - 1
    return f"{row.rank}  {row.workflow}" + (f" and {num_alike} alike" if num_alike else "")


def _positions(rows: Sequence[RankingRow]) -> Chart:
    """A heat map; a ranking holds all orders, so every type is at every position."""
    sums = np.zeros((NUM_HOST_TYPES, NUM_HOST_TYPES))
    counts = np.zeros_like(sums)
    for row in rows:
        for order in row.orders:
            for position, host_type in enumerate(Workflow.parse(order).order):
                sums[host_type, position] += row.reward
                counts[host_type, position] += 1
    means = sums / counts
    cells = [
        {"type": host_type.label, "position": position + 1, "reward": float(means[host_type, position])}
        for host_type in HostType
        for position in range(NUM_HOST_TYPES)
    ]
    middle = float(means.min() + means.max()) / 2
    base = altair.Chart(data(cells)).encode(
        x=altair.X("position:O", title="position in the order", axis=altair.Axis(labelAngle=0)),
        y=altair.Y("type:N", title=None, sort=None),
    )
    heat = base.mark_rect().encode(
        color=altair.Color("reward:Q", title="reward", scale=altair.Scale(scheme="viridis", zero=False))
    )
    text = base.mark_text(fontSize=13).encode(
        text=altair.Text("reward:Q", format=".1f" if means.min() > _THREE_DIGITS else ".0f"),
        color=altair.condition(altair.datum.reward > middle, altair.value("black"), altair.value("white")),
    )
    return finished(altair.LayerChart(layer=[heat, text]), _CELL_HEIGHT * NUM_HOST_TYPES)
