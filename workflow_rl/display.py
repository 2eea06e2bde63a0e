"""What the user sees while a run goes on: a live table on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from workflow_rl.evaluation import Score
from workflow_rl.run_log import TrainingRow
from workflow_rl.settings import TrainSettings
from workflow_rl.workflow import ALL_ORDERS, Workflow

if TYPE_CHECKING:  # which imports torch; `watch` displays runs without it
    from workflow_rl.order_training import UpdateReport

_PLAIN_INTERVAL_SECONDS = 5.0

_LEAST_WIDTH = 144


def print_wide(console: Console, table: Table) -> None:
    """Print a table in lines of a width that it can be read at; a narrower terminal breaks them."""
    Console(width=max(console.width, _LEAST_WIDTH), quiet=console.quiet).print(table)


def figures_table(figures: UpdateReport | TrainingRow, order: str) -> Table:
    """What came of an update, for people.

    Args:
        figures: of the update, as they are reported or as they were logged.
        order: that was trained.
    """
    table = Table(show_header=False, box=None, padding=(0, 2))
    table.add_row("workflow", f"{order}  (update {figures.update}, {figures.episodes} episodes)")
    table.add_row("environment reward", f"{figures.env_reward:.1f}")
    table.add_row(
        "alignment reward", f"{figures.alignment_reward:.1f}  (lambda {figures.alignment_weight:.1f})"
    )
    table.add_row(
        "compliance",
        f"{percent(figures.compliance)}, {percent(figures.observed_compliance)} by what blue could see  "
        f"({figures.fixes_per_episode:.1f} fixes an episode)",
    )
    table.add_row(
        "last round",
        f"collection {figures.collection_seconds:.2f} s, update {figures.update_seconds:.2f} s",
    )
    return table


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, for people."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


class RunDisplay:
    """Shows the updates of a run; a context manager.

    Args:
        settings: of the run.
        launched: when the program started, seconds of the monotonic clock.
        console: where to write.
    """

    def __init__(self, settings: TrainSettings, launched: float, console: Console) -> None:
        self._settings = settings
        self._launched = launched
        self._console = console
        self._startup_seconds: float | None = None
        self._warm_episodes = 0
        self._warm_seconds = 0.0
        self._last_line = -_PLAIN_INTERVAL_SECONDS
        self._bar = Progress(
            TextColumn("episodes"), BarColumn(bar_width=None), MofNCompleteColumn(), console=console
        )
        self._task = self._bar.add_task("episodes", total=settings.search.total_episodes)
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None

    def show_update(self, report: UpdateReport) -> None:
        """Refresh the table, or print a line if the last one is some seconds old."""
        now = time.monotonic()
        if self._startup_seconds is None:
            self._startup_seconds = now - self._launched
        else:
            self._warm_episodes += report.batch_size
            self._warm_seconds += report.round_seconds
        if self._live is not None:
            self._bar.update(self._task, completed=report.total_episodes)
            self._live.update(self._table(report), refresh=True)
        elif now - self._last_line >= _PLAIN_INTERVAL_SECONDS:
            self._last_line = now
            self._console.print(self._line(report), highlight=False, soft_wrap=True)

    def show_order(self, trial: int, workflow: Workflow, evaluation: Score) -> None:
        """Print what a trained order came to."""
        self._console.print(
            f"trial {trial}: {workflow}  evaluated reward {evaluation.reward:.1f} "
            f"± {evaluation.reward_standard_error:.1f}, compliance {percent(evaluation.compliance)}, "
            f"{percent(evaluation.observed_compliance)} by what blue could see "
            f"({evaluation.episodes} fresh episodes)",
            highlight=False,
            soft_wrap=True,
        )

    def _warm_rate(self) -> float | None:
        return self._warm_episodes / self._warm_seconds if self._warm_seconds else None

    def _time_left(self, report: UpdateReport) -> str:
        rate = self._warm_rate()
        if rate is None:
            return "-"
        return duration((self._settings.search.total_episodes - report.total_episodes) / rate)

    def _speed(self) -> str:
        rate = self._warm_rate()
        warm = "-" if rate is None else f"{rate:.1f}"
        return f"{warm} warm, first batch after {self._startup_seconds or 0.0:.1f} s with start-up"

    def _table(self, report: UpdateReport) -> Table:
        table = figures_table(report, str(report.workflow or ALL_ORDERS))
        table.add_row("episodes/s", self._speed())
        table.add_row("time left", self._time_left(report))
        table.add_row("", self._bar)
        return table

    def _line(self, report: UpdateReport) -> str:
        return (
            f"{report.total_episodes}/{self._settings.search.total_episodes} episodes  "
            f"{report.workflow or ALL_ORDERS}  update {report.update}  reward {report.env_reward:.1f}  "
            f"alignment {report.alignment_reward:.1f}  "
            f"compliance {percent(report.compliance)}  episodes/s {self._speed()}  "
            f"collection {report.collection_seconds:.2f} s  update {report.update_seconds:.2f} s  "
            f"left {self._time_left(report)}"
        )

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()


def percent(rate: float | None) -> str:
    """A share for people; `None` is one that is not defined."""
    return "-" if rate is None else f"{100 * rate:.1f} %"
