"""Whether processes have ended that are nobody's children any more."""

from __future__ import annotations

import time
from collections.abc import Iterable

import psutil


def is_running(process: psutil.Process) -> bool:
    """Orphans that have ended stay zombies where nobody collects them, as in a container."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def still_running(processes: Iterable[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Those that have not ended after so many seconds; returns as soon as there are none."""
    deadline = time.monotonic() + seconds
    while running := [process for process in processes if is_running(process)]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    return running
