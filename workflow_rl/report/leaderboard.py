"""Evaluations by the protocol of CAGE Challenge 2 beside what was published."""

from __future__ import annotations

from collections.abc import Sequence

import altair

from workflow_rl.protocol import PUBLISHED
from workflow_rl.report.figure import BLUE, GREY, NAMED_ROWS_WIDTH, Figure, data, finished
from workflow_rl.report.runs import Run

_ROW_HEIGHT = 26


def leaderboard_figure(runs: Sequence[Run]) -> Figure:
    """Evaluations by the challenge's protocol beside what was published."""
    totals = [
        *((p.name, p.rules, p.total, p.half_width or 0.0, "published") for p in PUBLISHED),
        *(
            (f"{run.label} ({found.file})", found.rules, found.total, found.half_width, "this report")
            for run in runs
            for found in run.protocol_scores
        ),
    ]
    rows = [
        {
            "name": f"{name}, rules {rules}",
            "total": total,
            "lower": total - half_width,
            "upper": total + half_width,
            "whose": whose,
        }
        for name, rules, total, half_width, whose in sorted(totals, key=lambda row: -row[2])
    ]
    base = altair.Chart(data(rows)).encode(
        y=altair.Y("name:N", title=None, sort=None, axis=altair.Axis(labelLimit=340)),
        color=altair.Color("whose:N", title=None, scale=altair.Scale(range=[GREY, BLUE])),
    )
    interval = base.mark_rule(strokeWidth=3).encode(x="lower:Q", x2="upper:Q")
    total = base.mark_point(filled=True, size=90, opacity=1).encode(
        x=altair.X("total:Q", title="sum of nine mean returns", scale=altair.Scale(zero=False)),
        tooltip=["name:N", altair.Tooltip("total:Q", format=".2f")],
    )
    return Figure(
        "leaderboard",
        "CAGE Challenge 2, the sum of the nine cells",
        "With 95 % intervals where they are known. Totals compare only under the same rules.",
        finished(altair.LayerChart(layer=[interval, total]), _ROW_HEIGHT * len(rows)),
        least_width=NAMED_ROWS_WIDTH,
    )
