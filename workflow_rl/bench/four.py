"""All four collectors at one number of workers, and what each needs to be there.

The section `four` of `workflow-rl bench collectors`. Ray is an extra: where it is not installed, the other
three are measured, and the report says how to install it.
"""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from workflow_rl.bench.plan import COLLECTORS
from workflow_rl.bench.scaling import Contest, measure_count
from workflow_rl.collectors import check_collector
from workflow_rl.errors import MissingExtraError
from workflow_rl.settings import CollectorSettings

_NEEDS = {
    "executor": "Python's concurrent.futures",
    "synchronous": "gymnasium.vector",
    "sequential": "nothing",
}

_MEGABYTE = 1e6


def measure_four(contest: Contest, n_workers: int) -> dict[str, Any]:
    """The collectors that are installed, side by side."""
    missing = missing_extra()
    collectors = [name for name in COLLECTORS if name != "ray" or missing is None]
    return {
        **measure_count(contest, collectors, n_workers),
        "needs": {**_NEEDS, "ray": _needs_of_ray() if missing is None else missing},
        "missing": [] if missing is None else ["ray"],
    }


def missing_extra() -> str | None:
    """What to install for `--collector ray`, `None` if it is there."""
    try:
        check_collector(CollectorSettings(collector="ray"))
    except MissingExtraError as error:
        return str(error)
    return None


def _needs_of_ray() -> str:
    installed = distribution("ray")
    files = [Path(str(file.locate())) for file in installed.files or ()]
    size = sum(file.stat().st_size for file in files if file.is_file())
    others = [name for name in map(_unconditional, installed.requires or ()) if name and _is_installed(name)]
    return (
        f"Ray {installed.version} ({size / _MEGABYTE:.0f} MB on disk; it requires {', '.join(others)}), "
        "daemons of its own"
    )


def _unconditional(requirement: str) -> str | None:
    """The package that is required whatever extras were chosen, else `None`."""
    return None if "extra ==" in requirement else re.split(r"[^\w.-]", requirement)[0]


def _is_installed(package: str) -> bool:
    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True
