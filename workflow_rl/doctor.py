"""What this machine has of what a run needs, and how many workers it can use.

Nothing is started: every finding is read from the system and from what is installed.
"""

from __future__ import annotations

import multiprocessing
import platform
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from workflow_rl import __version__
from workflow_rl.compilation import IS_CACHE_WRITABLE
from workflow_rl.compiled_rollout import is_player_cached
from workflow_rl.cores import usable_cores
from workflow_rl.open_files import files_needed, most_workers, open_files_limit

if sys.platform != "win32":
    import resource

DISTRIBUTION = "workflow-rl"

_LEARNER_BYTES = 600e6
_WORKER_BYTES = 25e6
"""Of its own, where a fork server shares what is loaded (docs/performance.md: 8 MB, CybORG more)."""

_DEFAULT_WORKERS = 100
_MOST_ON_WINDOWS = 61
_GIGABYTE = 1e9


class Status(StrEnum):
    """What a finding means for a run."""

    OK = "ok"
    NOTE = "note"
    MISSING = "missing"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        part: what.
        found: what there is of it.
        status: `MISSING` if no run is possible without.
        advice: what to do, or what it means; may be empty.
    """

    part: str
    found: str
    status: Status = Status.OK
    advice: str = ""


@dataclass(frozen=True)
class WorkerAdvice:
    """How many workers to use for one kind of environment, and why."""

    environment: str
    n_workers: int
    reason: str


@dataclass(frozen=True)
class Diagnosis:
    """All that was found."""

    findings: tuple[Finding, ...]
    workers: tuple[WorkerAdvice, ...]

    @property
    def can_run(self) -> bool:
        """Whether nothing is missing that every run needs."""
        return all(finding.status is not Status.MISSING for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {"can_run": self.can_run, **asdict(self)}


def diagnose() -> Diagnosis:
    """Look at everything."""
    memory = available_bytes()
    findings = (
        Finding("workflow-rl", __version__),
        _python(),
        Finding("system", platform.platform()),
        Finding("cores", str(usable_cores()), advice="usable by this process"),
        _memory(memory),
        _start_method(),
        *_limits(),
        *_packages(),
        _torch(),
        _compiled_code(),
        _directory(Path.cwd()),
    )
    return Diagnosis(findings, tuple(worker_advice(usable_cores(), memory, open_files_limit())))


def worker_advice(cores: int, memory: float | None, open_files: int | None) -> Iterator[WorkerAdvice]:
    """How many workers pay.

    Args:
        cores: usable ones.
        memory: bytes that are free; `None` where it is not known.
        open_files: that a process may have; `None` without a limit.
    """
    yield WorkerAdvice("native simulator", cores, "threads that compute all the time: one for each core")
    yield WorkerAdvice("reference simulator", cores, "processes that compute all the time: one for each core")
    bounds = {"workers spend their time waiting; more than cores pay": _DEFAULT_WORKERS}
    if memory is not None:
        bounds["as many as the free memory holds"] = int((memory - _LEARNER_BYTES) // _WORKER_BYTES)
    if open_files is not None:
        bounds["as many as the limit of open files allows: raise ulimit -n"] = most_workers(open_files)
    if sys.platform == "win32":
        bounds["as many as Windows allows"] = _MOST_ON_WINDOWS
    reason = min(bounds, key=lambda name: bounds[name])
    yield WorkerAdvice("environments whose steps wait", max(bounds[reason], 1), reason)


def available_bytes() -> float | None:
    """Memory that is free, or that a container still allows; `None` where the system does not tell."""
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return None
    free = {name: float(rest.split()[0]) for name, _, rest in (s.partition(":") for s in _lines(meminfo))}
    available = 1024.0 * free["MemAvailable"]
    group = Path("/sys/fs/cgroup")
    limits, used = (_lines(group / name) for name in ("memory.max", "memory.current"))
    if limits and used and limits[0].isdigit():
        available = min(available, float(limits[0]) - float(used[0]))
    return available


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def _python() -> Finding:
    found = f"{platform.python_version()} ({platform.python_implementation()})"
    try:
        needed = metadata(DISTRIBUTION)["Requires-Python"] or ""
    except PackageNotFoundError:
        needed = ""
    if platform.python_version() in SpecifierSet(needed):
        return Finding("Python", found)
    return Finding("Python", found, Status.MISSING, f"{needed} is needed")


def _memory(available: float | None) -> Finding:
    if available is None:
        return Finding("memory", "unknown", Status.NOTE, "this system does not tell how much is free")
    found = f"{available / _GIGABYTE:.1f} GB free"
    if available < _LEARNER_BYTES + _WORKER_BYTES:
        return Finding("memory", found, Status.NOTE, "a learner with torch alone takes 0.6 GB")
    return Finding("memory", found)


def _start_method() -> Finding:
    if "forkserver" in multiprocessing.get_all_start_methods():
        return Finding("workers start by", "forkserver", advice="they share what it has loaded")
    return Finding("workers start by", "spawn", Status.NOTE, "each loads everything anew: 0.8 s and 43 MB")


def _limits() -> Iterator[Finding]:
    """Limits that the system sets to a process or a user."""
    needed = files_needed(_DEFAULT_WORKERS)
    advice = f"{_DEFAULT_WORKERS} workers need {needed}: raise ulimit -n"
    yield _limit("open files", open_files_limit(), needed, advice)
    processes = None if sys.platform == "win32" else _soft_limit(resource.RLIMIT_NPROC)
    needed = 2 * _DEFAULT_WORKERS
    yield _limit("processes", processes, needed, f"{_DEFAULT_WORKERS} workers may not start: raise ulimit -u")


def _limit(name: str, limit: int | None, needed: int, advice: str) -> Finding:
    if limit is None:
        return Finding(name, "no limit")
    return Finding(name, str(limit)) if limit >= needed else Finding(name, str(limit), Status.NOTE, advice)


def _soft_limit(kind: int) -> int | None:
    limit, _ = resource.getrlimit(kind)
    return None if limit == resource.RLIM_INFINITY else limit


def _packages() -> Iterator[Finding]:
    """What the package needs, then its extras."""
    try:
        extras = metadata(DISTRIBUTION).get_all("Provides-Extra") or []
    except PackageNotFoundError:
        advice = "run from a checkout; what it needs is not known: pip install -e ."
        yield Finding("installation", "none", Status.NOTE, advice)
        return
    unmet = _unmet(_required_by(DISTRIBUTION, ""))
    if unmet:
        yield Finding(
            "requirements", f"not met: {', '.join(unmet)}", Status.MISSING, "pip install workflow-rl"
        )
    else:
        yield Finding("requirements", "all met")
    for extra in extras:
        yield _extra(extra)


def _extra(name: str) -> Finding:
    requirements = _required_by(DISTRIBUTION, name)
    if unmet := _unmet(requirements):
        advice = f"pip install '{DISTRIBUTION}[{name}]'"
        return Finding(f"extra {name}", f"not installed: {', '.join(unmet)}", Status.NOTE, advice)
    found = ", ".join(f"{item.name} {version(item.name)}" for item in requirements)
    return Finding(f"extra {name}", found)


def _required_by(package: str, extra: str) -> list[Requirement]:
    """What a package needs here, or what an extra of it needs beside that."""
    needed = map(Requirement, requires(package) or ())
    return [item for item in needed if _applies(item, extra) and not (extra and _applies(item, ""))]


def _applies(item: Requirement, extra: str) -> bool:
    return item.marker is None or item.marker.evaluate({"extra": extra})


def _unmet(requirements: Sequence[Requirement]) -> list[str]:
    """Requirements that the installed packages do not meet, extras of theirs included."""
    unmet = []
    for item in requirements:
        try:
            is_met = item.specifier.contains(version(item.name), prereleases=True)
        except PackageNotFoundError:
            is_met = False
        if not is_met:
            unmet.append(f"{item.name}{item.specifier}")
        else:
            unmet += [name for extra in item.extras for name in _unmet(_required_by(item.name, extra))]
    return unmet


def _torch() -> Finding:
    """The one package whose builds differ."""
    try:
        import torch
    except (ImportError, OSError) as error:
        return Finding("torch", "cannot be loaded", Status.MISSING, str(error).splitlines()[0])
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU"
    devices = ["cpu"]
    if torch.cuda.is_available():
        devices += [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append("mps")
    return Finding("torch", f"{torch.__version__} ({build} build)", advice=f"--device {', '.join(devices)}")


def _compiled_code() -> Finding:
    if not IS_CACHE_WRITABLE:
        advice = "every process compiles anew: set NUMBA_CACHE_DIR to a directory that can be written"
        return Finding("numba's cache", "cannot be written", Status.NOTE, advice)
    if not is_player_cached():
        return Finding("numba's cache", "empty", advice="the first run compiles, for under a minute")
    return Finding("numba's cache", "filled")


def _directory(path: Path) -> Finding:
    try:
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        return Finding("this directory", f"{error.strerror}", Status.NOTE, "name another one by --run-dir")
    return Finding("this directory", "can be written")


def show(console: Console, diagnosis: Diagnosis) -> None:
    """Print it as two tables and a sentence."""
    table = Table()
    for heading in ("", "found", "", "what it means"):
        table.add_column(heading, overflow="fold")
    colours = {Status.OK: "green", Status.NOTE: "yellow", Status.MISSING: "red"}
    for finding in diagnosis.findings:
        status = f"[{colours[finding.status]}]{finding.status}[/]"
        table.add_row(finding.part, escape(finding.found), status, escape(finding.advice))
    console.print(table)
    workers = Table()
    workers.add_column("for")
    workers.add_column("--n-workers", justify="right")
    workers.add_column("because")
    for advice in diagnosis.workers:
        workers.add_row(advice.environment, str(advice.n_workers), advice.reason)
    console.print(workers)
    console.print("ready to train" if diagnosis.can_run else "something is missing that every run needs")
