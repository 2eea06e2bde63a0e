"""Python environments for the rivals, each made of its own pinned requirements and kept for the next time.

The versions that one rival needs rule out those of another, so each has an environment of its own. This
project is not installed there: its folder is on `PYTHONPATH`, for the environment that is played. What numba
compiles is kept apart too, since versions of numba do not read each other's files.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import workflow_rl
from workflow_rl.errors import WorkflowRLError

_CHECKOUT = Path(workflow_rl.__file__).parents[1]
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class InstallationError(WorkflowRLError):
    """A rival's environment cannot be made; the message is the last line of the tool that failed."""


def default_cache() -> Path:
    """Where environments are kept unless told otherwise."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "workflow-rl" / "rivals"


def make_python(requirements: Path, cache: Path) -> Path:
    """The interpreter of the environment with these requirements, which is made if it is not there yet.

    Raises:
        InstallationError: it cannot be made.
    """
    folder = _folder(requirements, cache)
    python = folder / "bin" / "python"
    finished = folder / "finished"
    if not finished.exists():
        _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        _run([str(python), "-m", "pip", "install", "--disable-pip-version-check", "-r", str(requirements)])
        finished.touch()
    return python


def variables(requirements: Path | None, cache: Path) -> dict[str, str]:
    """The environment variables of a system's processes: one thread for each, as the learner has here."""
    import_path = [str(_CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])]
    shared = {**os.environ, **dict.fromkeys(_THREADS, "1"), "PYTHONPATH": os.pathsep.join(import_path)}
    if requirements is None:
        return shared
    return {**shared, "NUMBA_CACHE_DIR": str(_folder(requirements, cache) / "numba")}


def pinned_version(requirements: Path, distribution: str) -> str:
    """The version of a distribution that a requirements file pins."""
    lines = requirements.read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))[distribution]


def _folder(requirements: Path, cache: Path) -> Path:
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]
    return cache.absolute() / f"{requirements.stem}-{digest}"


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise InstallationError(lines[-1] if lines else f"exit code {done.returncode}")
