"""How many cores there are to use."""

from __future__ import annotations

import math
import os
from pathlib import Path

_CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")
"""Of a container: microseconds of CPU time that it is given in a period, or "max", and the period."""


def usable_cores() -> int:
    """Cores that this process may use, at least 1.

    They may be fewer than the machine has: by the process's affinity, or by a container's limit of CPU time.
    """
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return min(cores, cores_given(_CPU_LIMIT) or cores)


def cores_given(limit: Path) -> int | None:
    """The cores that a container's CPU time keeps busy, rounded up; `None` without a limit.

    Args:
        limit: see cpu.max in the kernel's Documentation/admin-guide/cgroup-v2.rst.
    """
    if not limit.exists():
        return None
    quota, period = limit.read_text().split()
    return None if quota == "max" else math.ceil(int(quota) / int(period))
