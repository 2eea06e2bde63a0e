"""Starts a run, or goes on with one that was stopped, of any command that leaves one.

Which command it is of, its settings say. What it refuses before anything is written, and what it does in the
run's directory, is in the module of its job. Those load torch; a run that cannot go on is refused before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console

from workflow_rl.interruption import EXIT_CODE
from workflow_rl.run_opening import OpenRun, kind_of_run, new_run, resumed_run
from workflow_rl.settings import (
    CommandSettings,
    DefenderTrainSettings,
    EnvironmentTrainSettings,
    FullSearchSettings,
    TrainSettings,
)


class _Job(Protocol):
    """What a command does; a module of its own."""

    def check(self, settings: Any, /) -> None:
        """Refuse settings, before anything is written."""

    def carry_out(self, run: OpenRun[Any], launched: float, console: Console, /) -> Mapping[str, Any]:
        """Do what the open run is for, or the rest of it; returns the contents of summary.json."""


def _job_of(kind: type[CommandSettings]) -> _Job:
    from workflow_rl import defender_job, environment_job, search_job, train_job

    jobs: Mapping[type[CommandSettings], _Job] = {
        TrainSettings: train_job,
        EnvironmentTrainSettings: environment_job,
        DefenderTrainSettings: defender_job,
        FullSearchSettings: search_job,
    }
    return jobs[kind]


def start(settings: CommandSettings, *, launched: float, console: Console | None = None) -> int:
    """Start a run, in a directory of its own.

    Args:
        settings: of the run; their type says of which command.
        launched: when the program started, seconds of the monotonic clock.
        console: shows what happens; `None` is the terminal.

    Returns:
        The exit code: 0, or 130 if it was interrupted.

    Raises:
        WorkflowRLError: one line for the user.
    """
    job = _job_of(type(settings))
    job.check(settings)
    with new_run(settings) as run:
        return _exit_code(job.carry_out(run, launched, console or Console()))


def resume(
    path: Path,
    changes: Mapping[str, Any],
    ignored: Sequence[str] = (),
    *,
    kind: type[CommandSettings] | None = None,
    launched: float,
    console: Console | None = None,
) -> int:
    """Go on with a run that was stopped.

    Args:
        path: of its directory.
        changes: settings that may differ from the run's own.
        ignored: settings that were given and may not; they are named on stderr.
        kind: of the settings that the run is expected to have; `None` is whichever it has.
        launched: as in `start`.
        console: as in `start`.

    Returns:
        As `start`.

    Raises:
        WorkflowRLError: one line for the user.
    """
    kind = kind or kind_of_run(path)
    with resumed_run(kind, path, changes, ignored) as run:
        return _exit_code(_job_of(kind).carry_out(run, launched, console or Console()))


def _exit_code(summary: Mapping[str, Any]) -> int:
    return 0 if summary["is_complete"] else EXIT_CODE
