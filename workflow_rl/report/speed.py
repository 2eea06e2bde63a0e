"""How fast runs were, what took the time, and who did what when."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict

import altair

from workflow_rl.report.figure import (
    BLUE,
    GREY,
    ORANGE,
    ROW_HEIGHT,
    SKY,
    Chart,
    Figure,
    data,
    file_stem,
    finished,
)
from workflow_rl.report.learning import WITH_INTERVAL, curve_rows, lines
from workflow_rl.report.runs import Run
from workflow_rl.report.timeline import Slice
from workflow_rl.run_log import LearningRow, TrainingRow

_BAR_HEIGHT = 34


def speed_figures(runs: Sequence[Run]) -> Iterator[Figure]:
    """How fast the runs were, and what took the time."""
    yield Figure(
        "throughput",
        "Throughput",
        f"Episodes per second of an update, its collection included; {WITH_INTERVAL}.",
        _throughput(runs),
    )
    yield Figure(
        "time",
        "Where the learner’s time went",
        "Collecting: waiting for episodes. Other: start-up, checkpoints, logs, the search itself; known once "
        "a sitting has ended.",
        _time_breakdown(runs),
    )


def timeline_figure(run: Run, slices: Sequence[Slice]) -> Figure:
    """Who did what in a short window of a run."""
    seconds = max(piece.end for piece in slices)
    scale = altair.Scale(
        domain=["episode", "evaluation", "waits", "updates"],
        range=[BLUE, SKY, GREY, ORANGE],
    )
    chart = (
        altair.Chart(data([asdict(piece) for piece in slices]))
        .mark_bar(stroke="white", strokeWidth=0.3)
        .encode(
            x=altair.X("start:Q", title="seconds", scale=altair.Scale(domain=[0, seconds], nice=False)),
            x2="end:Q",
            y=altair.Y("row:N", title=None, sort=None),
            color=altair.Color("kind:N", title=None, scale=scale),
            tooltip=["row:N", "name:N", altair.Tooltip("start:Q", format=".4f")],
        )
    )
    return Figure(
        f"timeline-{file_stem(run)}",
        f"Who does what: {run.label}",
        "A window early in the run; a bar is an episode, or what the learner does. Perfetto "
        "(ui.perfetto.dev) shows the whole trace.",
        finished(chart, ROW_HEIGHT * len({piece.row for piece in slices})),
    )


def _throughput(runs: Sequence[Run]) -> Chart:
    rows = [
        row
        for run in runs
        for row in (
            *curve_rows(run, run.training, lambda r: r.total_episodes, lambda r: r.episodes_per_second),
            *curve_rows(run, _timed(run.learning), lambda r: r[0], lambda r: r[1]),
        )
    ]
    y = altair.Y("mean:Q", title="episodes per second", scale=altair.Scale(domainMin=0))
    return finished(lines(rows, runs, "training episodes", y))


def _timed(rows: Sequence[LearningRow]) -> list[tuple[int, float]]:
    """Episodes so far and episodes per second of each update."""
    before = [0, *(row.episodes for row in rows)]
    return [
        (row.episodes, (row.episodes - start) / max(row.collection_seconds + row.update_seconds, 1e-9))
        for start, row in zip(before, rows, strict=False)
    ]


def _time_breakdown(runs: Sequence[Run]) -> Chart:
    parts = ["collecting", "updating", "evaluating", "other"]
    rows = [
        {"run": run.label, "part": part, "seconds": seconds, "order": parts.index(part)}
        for run in runs
        for part, seconds in _seconds(run).items()
    ]
    chart = (
        altair.Chart(data(rows))
        .mark_bar()
        .encode(
            x=altair.X("seconds:Q", title="seconds", stack="zero"),
            y=altair.Y("run:N", title=None, sort=None, axis=altair.Axis(labelLimit=300)),
            color=altair.Color(
                "part:N",
                title=None,
                sort=parts,
                scale=altair.Scale(domain=parts, range=[GREY, ORANGE, SKY, "#d9d9d9"]),
            ),
            order="order:Q",
            tooltip=["run:N", "part:N", altair.Tooltip("seconds:Q", format=",.1f")],
        )
    )
    return finished(chart, _BAR_HEIGHT * len(runs))


def _seconds(run: Run) -> dict[str, float]:
    """Of all sittings, by what took them; of an unfinished sitting only what the logs tell."""
    if "wall_seconds" not in run.summary:
        rows: tuple[TrainingRow | LearningRow, ...] = (*run.training, *run.learning)
        return {
            "collecting": sum(row.collection_seconds for row in rows),
            "updating": sum(row.update_seconds for row in rows),
        }
    known = {
        "collecting": run.summary["collection_seconds"],
        "updating": run.summary["update_seconds"],
        "evaluating": run.summary["evaluation_seconds"],
    }
    return {**known, "other": max(run.summary["wall_seconds"] - sum(known.values()), 0.0)}
