"""Whether processes have ended that are nobody's children any more, such as those of a killed learner."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

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


def left_by_a_killed(script: str, after: float = 0.0) -> tuple[str, list[psutil.Process]]:
    """Run a script until so many seconds after it has printed a line, and kill it.

    Returns:
        The line, and the processes that belonged to the script.
    """
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here), str(here.parent)])}
    with subprocess.Popen(
        [sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True
    ) as learner:
        assert learner.stdout is not None
        said = learner.stdout.readline().strip()
        time.sleep(after)
        processes = psutil.Process(learner.pid).children(recursive=True)
        learner.kill()
    return said, processes
