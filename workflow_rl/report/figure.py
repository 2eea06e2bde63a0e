"""What all charts of a report share: size, look, colours, and the words that go with a chart.

The charts are Vega-Lite specifications made with Altair. Colours are those of Okabe and Ito (2008), told
apart by people with any form of colour blindness.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair

from workflow_rl.evaluation import NORMAL_95
from workflow_rl.report.runs import Run

Chart = altair.Chart | altair.LayerChart

BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, GREY = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#999999",
)
_RUN_COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, GREY)

HEIGHT = 260
"""Of most charts, in pixels."""
ROW_HEIGHT = 16
"""Of a chart with a row for each of many things."""
NAMED_ROWS_WIDTH = 640
"""That a chart needs whose rows have long names."""
_WIDTH = 720
"""Of a PNG; on the page a chart is as wide as the page allows."""

_PADDING = {"left": 5, "right": 20, "top": 5, "bottom": 5}
"""Room for half of the last label of an axis."""

_STATUS_SHAPES = {"kept": "circle", "served": "square", "missed": "cross", "predicted": "diamond"}


@dataclass(frozen=True)
class Figure:
    """A chart with what a reader needs beside it.

    Attributes:
        name: of its PNG file, without the ending.
        title: what it shows.
        caption: how to read it.
        chart: the chart.
        least_width: pixels that it needs; a narrower page scrolls it.
    """

    name: str
    title: str
    caption: str
    chart: Chart
    least_width: int = 0


def file_stem(run: Run) -> str:
    """The run's label as a part of a file name."""
    return run.label.replace("/", "-")


def data(rows: Iterable[Mapping[str, Any]]) -> altair.InlineData:
    """Rows of a chart's data."""
    return altair.InlineData(values=list(rows))


def finished(chart: Chart, height: int = HEIGHT) -> Chart:
    """A chart of the common size and look."""
    sized: Chart = chart.properties(width=_WIDTH, height=height, padding=_PADDING)
    looking: Chart = (
        sized.configure_axis(
            labelFontSize=12, titleFontSize=12, titleFontWeight="normal", gridOpacity=0.5, labelFlush=False
        )
        .configure_axisXQuantitative(labelOverlap="parity", labelSeparation=12)
        .configure_legend(orient="bottom", labelFontSize=12, labelLimit=300, columns=4)
        .configure_view(stroke=None)
    )
    return looking


def run_colour(runs: Sequence[Run]) -> altair.Color:
    """A colour for each run, in the order of the report; a single one needs no legend."""
    labels = [run.label for run in runs]
    colours = [_RUN_COLOURS[i % len(_RUN_COLOURS)] for i in range(len(labels))]
    legend = altair.Legend(title=None, symbolOpacity=1) if len(labels) > 1 else None
    return altair.Color("run:N", legend=legend, scale=altair.Scale(domain=labels, range=colours))


def status_shape(*statuses: str, has_legend: bool = True) -> altair.Shape:
    """A shape for what became of an order, some of `run_log.RankingRow.status`."""
    return altair.Shape(
        "status:N",
        title=None,
        legend=altair.Legend() if has_legend else None,
        scale=altair.Scale(domain=list(statuses), range=[_STATUS_SHAPES[status] for status in statuses]),
    )


def evaluations(run: Run) -> list[dict[str, Any]]:
    """The evaluated policies of a run, with 95 % intervals, where its training had got to."""
    rows = []
    episodes = 0
    for row in run.search:
        episodes = row.episodes if run.settings["universal"] else episodes + row.episodes
        half = NORMAL_95 * row.evaluated_reward_standard_error
        rows.append(
            {
                "run": run.label,
                "trial": row.iteration,
                "x": episodes,
                "mean": row.evaluated_reward,
                "lower": row.evaluated_reward - half,
                "upper": row.evaluated_reward + half,
                "order": row.workflow,
                "status": "kept" if row.met_threshold else "missed",
            }
        )
    return rows
