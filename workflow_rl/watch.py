"""Follows a run from another terminal, or over ssh, from what its directory says.

The run takes no notice. Its logs grow line by line and its other files are replaced whole, so whatever is
read is a state that the run was in; a line that is just being written is left for the next look. A run is
over when it is complete, or when no process holds its directory any more.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from workflow_rl.display import duration, figures_table, percent
from workflow_rl.report.runs import Run, read_runs
from workflow_rl.run_directory import CONFIG, SUMMARY, RunDirectory, is_going_on
from workflow_rl.run_log import LearningRow, TrainingRow
from workflow_rl.run_opening import kind_of_run
from workflow_rl.settings import DefenderTrainSettings

_LOOK_SECONDS = 1.0
_RECENT_UPDATES = 20
"""That the speed is taken of: what it is now, rather than what it was on the mean."""


def watch(path: Path, *, once: bool, console: Console) -> int:
    """Show a run until it is over or the user has seen enough.

    Args:
        path: its directory; that of a search of all attackers shows the run that goes on now.
        once: show it as it is now, and end.
        console: where to; one that is no terminal is written to at the end only.

    Returns:
        The exit code, 0, also after Ctrl-C.

    Raises:
        RunDirectoryError: there is no run, or a file of it is damaged or of another version.
    """
    views = _views(path)
    with suppress(KeyboardInterrupt):  # the user has seen enough; the run itself goes on
        if once:
            console.print(next(views))
        elif console.is_terminal:
            with Live(console=console, auto_refresh=False) as live:
                for view in views:
                    live.update(view, refresh=True)
        else:
            *_, last = views
            console.print(last)
    return 0


def _views(path: Path) -> Iterator[RenderableType]:
    """What there is to see at each look; the last one is of the run as it ended."""
    while True:
        goes_on = not _is_over(path)  # asked first, so that what a run writes at its very end is seen
        yield _view(path, read_runs([path]), goes_on)
        if not goes_on:
            return
        time.sleep(_LOOK_SECONDS)


def _is_over(path: Path) -> bool:
    """Whether nothing more will come: the run is complete, or no process holds its directory."""
    summary = RunDirectory(path).read_json(SUMMARY) or {}
    return bool(summary.get("is_complete")) or not is_going_on(path)


def _view(path: Path, runs: Sequence[Run], goes_on: bool) -> RenderableType:
    """The run that was worked on last in full, one line for each other."""
    last = max(runs, key=_last_change)
    if goes_on:
        latest = "last update" if _has_begun(last) else "started"
        state = f"going on, {latest} {duration(time.time() - _last_change(last))} ago"
    else:
        state = f"stopped; workflow-rl {kind_of_run(path).command} --resume {path} goes on"
    others = [_line(run, "stopped") for run in runs if run is not last]
    return Group(*others, _line(last, state), *_details(last))


def _has_begun(run: Run) -> bool:
    return bool(run.training or run.learning)


def _last_change(run: Run) -> float:
    """Of a log; before the first one, when it was started."""
    logs = run.path.glob("*_log.csv")
    return max((log.stat().st_mtime for log in logs), default=(run.path / CONFIG).stat().st_mtime)


def _line(run: Run, state: str) -> str:
    """What a run is, and its state if it is not complete."""
    return f"{run.path}: workflow-rl {run.command}, {'complete' if run.is_complete else state}"


def _details(run: Run) -> list[RenderableType]:
    if not _has_begun(run):
        return ["no update has been made yet"]
    course = _course(run)
    table = _order_table(run) if run.training else _learning_table(run)
    speed = _recent_speed(course.amounts, course.seconds)
    table.add_row(f"{course.unit}/s", f"{speed:.1f}")
    if not run.is_complete:
        table.add_row("time left", duration(max(course.total - course.amounts[-1], 0) / speed))
    bar = Progress(TextColumn(course.unit), BarColumn(bar_width=None), MofNCompleteColumn())
    bar.add_task(course.unit, completed=course.amounts[-1], total=course.total)
    return [table, bar]


@dataclass(frozen=True)
class _Course:
    """How far a run has come.

    Attributes:
        unit: what its end is counted in.
        total: at its end.
        amounts: after each update.
        seconds: that each update and its collection took.
    """

    unit: str
    total: int
    amounts: tuple[int, ...]
    seconds: tuple[float, ...]


def _course(run: Run) -> _Course:
    rows: tuple[TrainingRow | LearningRow, ...] = (*run.training, *run.learning)
    seconds = tuple(row.collection_seconds + row.update_seconds for row in rows)
    if "total_steps" in run.settings:
        steps = tuple(row.steps for row in run.learning)
        return _Course("steps", run.settings["total_steps"], steps, seconds)
    if run.command == DefenderTrainSettings.command:
        total = DefenderTrainSettings.from_flat(run.settings).defender.episodes_of_all_beginnings
        return _Course("episodes", total, tuple(row.episodes for row in run.learning), seconds)
    episodes = tuple(row.total_episodes for row in run.training)
    return _Course("episodes", run.settings["total_episodes"], episodes, seconds)


def _recent_speed(amounts: Sequence[int], seconds: Sequence[float]) -> float:
    """Of the last updates, in units per second."""
    done = (0, *amounts)
    num_updates = min(_RECENT_UPDATES, len(amounts))
    return (done[-1] - done[-1 - num_updates]) / sum(seconds[-num_updates:])


def _order_table(run: Run) -> Table:
    table = figures_table(run.training[-1], run.training[-1].workflow_order)
    latest = {row.workflow: row for row in run.search}  # of an order that went on, what it has come to
    kept = [row for row in latest.values() if row.met_threshold]
    if latest:
        table.add_row("orders", f"{len(latest)} trained, {len(kept)} kept to")
    if kept:
        best = max(kept, key=lambda row: row.evaluated_reward)
        table.add_row(
            "best so far",
            f"{best.workflow}  evaluated reward {best.evaluated_reward:.1f} "
            f"± {best.evaluated_reward_standard_error:.1f}, compliance {percent(best.compliance)}",
        )
    return table


def _learning_table(run: Run) -> Table:
    last = run.learning[-1]
    table = Table(show_header=False, box=None, padding=(0, 2))
    table.add_row("return", f"{last.mean_return:.2f}  (update {last.update}, {last.episodes} episodes)")
    table.add_row("length", f"{last.mean_length:.1f} steps")
    table.add_row(
        "last round", f"collection {last.collection_seconds:.2f} s, update {last.update_seconds:.2f} s"
    )
    best = max(run.validation, key=lambda row: row.total, default=None)
    if best is not None:
        table.add_row(
            "best validation", f"{best.total:.2f} ± {best.total_half_width:.2f}  (update {best.update})"
        )
    return table
