"""The machine that something was measured or trained on, and the versions of what ran there.

A figure without its machine says nothing; and the last bits of a training hang on both.
"""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import workflow_rl
from workflow_rl.cores import usable_cores

PACKAGES = ("workflow-rl", "numpy", "numba", "torch", "gymnasium", "ray", "csle-cyborg")
THREAD_SETTINGS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")

_GIT_SECONDS = 10.0


@dataclass(frozen=True)
class Commit:
    """Of the package's source; `is_dirty` if a file of the package differs from it."""

    sha: str
    is_dirty: bool


@dataclass(frozen=True)
class Machine:
    """What does not change while a program runs.

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
        commit=commit_of(Path(workflow_rl.__file__).parent),
    )


def commit_of(package: Path) -> Commit | None:
    """The commit that a package's folder is at, as far as that folder goes.

    `None` if it does not lie at the top of a checkout, or git is not installed.
    """
    if not (package.parent / ".git").exists():
        return None
    try:
        return Commit(_git(package, "rev-parse", "HEAD"), bool(_git(package, "status", "--porcelain", ".")))
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    """What git says; it takes no lock, so that nobody who commits meanwhile is disturbed."""
    command = ["git", "--no-optional-locks", *arguments]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=True, timeout=_GIT_SECONDS
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
