"""The machine that figures were measured on, and whether it had time for them.

A figure without its machine says nothing, and one from a busy machine says too little: other processes take
cores, caches and clock frequency away. So every report describes the machine, and warns in one line if it was
busy.
"""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import workflow_rl
from workflow_rl.cores import usable_cores

PACKAGES = ("workflow-rl", "numpy", "numba", "torch", "gymnasium", "ray", "csle-cyborg")
THREAD_SETTINGS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")

_TOLERATED_LOAD = 0.25
"""Load of others per usable core up to which a machine counts as idle."""

_GIT_SECONDS = 10.0


@dataclass(frozen=True)
class Commit:
    """The source that was measured; `is_dirty` if files of the checkout differ from it."""

    sha: str
    is_dirty: bool


@dataclass(frozen=True)
class Machine:
    """What does not change while figures are measured.

    Attributes:
        processor: model name.
        usable_cores: that this process may run on, which may be fewer than the machine has.
        memory_bytes: of the machine; `None` where the system does not tell.
        system: operating system and its version.
        python: version.
        packages: version of each of `PACKAGES`; `None` if it is not installed.
        thread_settings: value of each of `THREAD_SETTINGS`; `None` if it is not set.
        commit: `None` if the package does not lie in a git checkout.
    """

    processor: str
    usable_cores: int
    memory_bytes: int | None
    system: str
    python: str
    packages: dict[str, str | None]
    thread_settings: dict[str, str | None]
    commit: Commit | None


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


class Sitting:
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


def describe_machine() -> Machine:
    """The machine this process runs on."""
    return Machine(
        processor=_processor(),
        usable_cores=usable_cores(),
        memory_bytes=_memory_bytes(),
        system=platform.platform(),
        python=platform.python_version(),
        packages={name: _version(name) for name in PACKAGES},
        thread_settings={name: os.environ.get(name) for name in THREAD_SETTINGS},
        commit=commit_of(Path(workflow_rl.__file__).parents[1]),
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


def commit_of(checkout: Path) -> Commit | None:
    """The commit that a folder has checked out; `None` if it is no checkout or git is not installed."""
    if not (checkout / ".git").exists():
        return None
    try:
        return Commit(_git(checkout, "rev-parse", "HEAD"), bool(_git(checkout, "status", "--porcelain")))
    except (OSError, subprocess.SubprocessError):
        return None


def _git(checkout: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=checkout, capture_output=True, text=True, check=True, timeout=_GIT_SECONDS
    )
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    """The model's name, which `platform.processor` does not know on Linux."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_bytes() -> int | None:
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
