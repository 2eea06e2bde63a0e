"""Under what conditions figures were measured: when, how, and whether the machine had time for them.

A figure from a busy machine says too little: other processes take cores, caches and clock frequency away. So
every report describes the machine (`machine`), and warns in one line if it was busy.
"""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from workflow_rl.cores import usable_cores

_TOLERATED_LOAD = 0.25
"""Load of others per usable core up to which a machine counts as idle."""


@dataclass(frozen=True)
class Conditions:
    """One measurement.

    Attributes:
        date: of its start, ISO 8601 with the time zone.
        command: as it was called, folders of the interpreter and the script left out.
        load_before: runnable processes, mean over the last minute, when it started; `None` where unknown.
        load_after: the same when it ended, the measurement's own processes included.
        warning: one line if the machine was busy with something else, else `None`.
    """

    date: str
    command: str
    load_before: float | None
    load_after: float | None
    warning: str | None


class Watch:
    """Watches the conditions of one measurement, from construction to `conditions`."""

    def __init__(self) -> None:
        self._date = datetime.now().astimezone().isoformat(timespec="seconds")
        self._load_before = load_average()

    def conditions(self, *, own_load: float) -> Conditions:
        """The conditions up to now.

        Args:
            own_load: processes that the measurement itself kept runnable, at most.
        """
        load_after = load_average()
        return Conditions(
            date=self._date,
            command=command_line(),
            load_before=self._load_before,
            load_after=load_after,
            warning=busy_warning(self._load_before, load_after, own_load, usable_cores()),
        )


def load_average() -> float | None:
    """Runnable processes, mean over the last minute; `None` where the system does not tell."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def busy_warning(before: float | None, after: float | None, own_load: float, cores: int) -> str | None:
    """One line if the load shows that others were at work, else `None`.

    Args:
        before: load average at the start, when nothing of the measurement ran yet.
        after: load average at the end.
        own_load: processes that the measurement itself kept runnable, at most.
        cores: usable ones.
    """
    tolerated = _TOLERATED_LOAD * cores
    if (before or 0.0) <= tolerated and (after or 0.0) <= own_load + tolerated:
        return None
    return (
        f"the machine was busy: load average {before or 0.0:.2f} before and {after or 0.0:.2f} after, on "
        f"{cores} cores, of which the benchmark makes {own_load:g}; figures are too low and spread too far"
    )


def command_line() -> str:
    """How this program was called, without the folders of the interpreter and the script."""
    programs, arguments = sys.orig_argv[:2], sys.orig_argv[2:]
    names = [Path(program).name if Path(program).is_absolute() else program for program in programs]
    return shlex.join([*names, *arguments])
