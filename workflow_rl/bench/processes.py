"""What other processes cost, as Linux accounts for them under /proc.

Workers are children of the fork server, not of the learner, and nobody who could be asked for their resource
usage waits for them; the kernel's own account is read instead. CPU times have the clock tick's resolution,
10 ms on most machines.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from workflow_rl.errors import SettingError

_PROC = Path("/proc")
_BYTES_PER_KB = 1024


def check_supported() -> None:
    """Refuse systems that do not account for processes this way.

    Raises:
        SettingError: this is not Linux.
    """
    if sys.platform != "linux":
        raise SettingError(f"this benchmark reads /proc, which needs Linux, got {sys.platform}")


def cpu_seconds(process: int) -> float:
    """CPU time of a process's threads so far, user and system.

    Raises:
        OSError: there is no such process.
    """
    return _cpu_seconds(_PROC / str(process))


def cpu_seconds_by_thread(process: int) -> dict[int, float]:
    """CPU time so far of each thread that is alive, by thread id; the main thread has the process's id.

    Raises:
        OSError: there is no such process.
    """
    return {int(thread.name): _cpu_seconds(thread) for thread in (_PROC / str(process) / "task").iterdir()}


def machine_cpu_seconds() -> float:
    """CPU time that all processes of the machine have had so far, interrupts and stolen time included."""
    fields = [int(field) for field in (_PROC / "stat").read_text().splitlines()[0].split()[1:]]
    user, nice, system, _idle, _waiting, *interrupts_and_stolen = fields[:8]
    return (user + nice + system + sum(interrupts_and_stolen)) / os.sysconf("SC_CLK_TCK")


def children_of(process: int) -> list[int]:
    """The processes that a process has started and that are alive, ascending."""
    children = []
    for folder in _PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int(_status(folder)[1]) == process:
                children.append(int(folder.name))
    return sorted(children)


def descendants_of(process: int) -> set[int]:
    """The processes that a process has started, and those that they have, as far as they are alive."""
    children: dict[int, list[int]] = {}
    for folder in _PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            children.setdefault(int(_status(folder)[1]), []).append(int(folder.name))
    found: set[int] = set()
    waiting = [process]
    while waiting:
        for child in children.get(waiting.pop(), []):
            found.add(child)
            waiting.append(child)
    return found


def fork_server_of(process: int) -> int | None:
    """The process id of the fork server that a process has started, `None` if there is none."""
    for child in children_of(process):
        with contextlib.suppress(OSError):
            if b"multiprocessing.forkserver" in (_PROC / str(child) / "cmdline").read_bytes():
                return child
    return None


def proportional_set_bytes(process: int) -> int:
    """Memory of a process, pages that n processes share counted as 1/n (PSS).

    Raises:
        OSError: there is no such process.
    """
    for line in (_PROC / str(process) / "smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * _BYTES_PER_KB
    raise ProcessLookupError(f"process {process} has ended")


def _cpu_seconds(folder: Path) -> float:
    fields = _status(folder)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _status(folder: Path) -> list[str]:
    """The fields of /proc/.../stat from the third on: state, parent, ... (proc(5))."""
    text = (folder / "stat").read_text()
    return text[text.rindex(")") + 1 :].split()
