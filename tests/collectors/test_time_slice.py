"""Workers ask for short time slices, and for no larger share."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from played import play, tickets

from workflow_rl.collectors import ExecutorCollector

KERNEL = tuple(map(int, re.findall(r"\d+", platform.release())[:2]))

ASK = """
import os
from pathlib import Path
from workflow_rl.collectors.time_slice import ask_for_slices_of

print(ask_for_slices_of(700_000, os.nice(3)), os.nice(0), os.sched_getscheduler(0))
print(Path("/proc/self/sched").read_text())
"""


def slice_in(schedule: str) -> int:
    """Nanoseconds, from what the kernel says of a process; kernels without debugging aids say nothing."""
    found = re.search(r"slice\s*:\s*(\d+)", schedule)
    if found is None:
        pytest.skip("this kernel does not tell its time slices")
    return int(found[1])


def slice_of(process: int) -> int:
    return slice_in(Path(f"/proc/{process}/sched").read_text())


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")
@pytest.mark.parametrize("policy", ["SCHED_OTHER", "SCHED_BATCH"])
def test_a_process_gets_the_slices_that_it_asks_for(policy: str) -> None:
    number = getattr(os, policy)
    answer = subprocess.run(
        [sys.executable, "-c", ASK],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: os.sched_setscheduler(0, number, os.sched_param(0)),
    ).stdout
    assert answer.splitlines()[0] == f"True 3 {number}", "niceness and policy as they were"
    assert slice_in(answer) == 700_000 or KERNEL < (6, 12)


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")
def test_workers_interrupt_the_learner_and_yield_to_it() -> None:
    with ExecutorCollector(1) as collector:
        episodes = play(collector, tickets([0]))
        worker = psutil.Process(int(episodes.worker[0]))
        assert worker.nice() > psutil.Process().nice()
        assert 0 < slice_of(worker.pid) < slice_of(os.getpid()) or KERNEL < (6, 12)
