"""What every test is held to: it leaves no process behind."""

from __future__ import annotations

from collections.abc import Iterator

import psutil
import pytest

_PATIENCE_SECONDS = 5.0
_SERVERS = ("multiprocessing.forkserver", "multiprocessing.resource_tracker")
"""Started once by Python itself and kept, by design, until this process ends."""


def _is_server(process: psutil.Process) -> bool:
    """Whether it is a server of this process; forked workers have the same command line, one level down."""
    return any(name in argument for argument in process.cmdline() for name in _SERVERS)


def _left_behind() -> list[psutil.Process]:
    this = psutil.Process()
    left = []
    for process in this.children(recursive=True):
        try:
            if not (process.ppid() == this.pid and _is_server(process)):
                left.append(process)
        except psutil.NoSuchProcess:
            continue
    return left


@pytest.fixture(autouse=True)
def _leaves_no_process() -> Iterator[None]:
    yield
    _, alive = psutil.wait_procs(_left_behind(), timeout=_PATIENCE_SECONDS)
    for process in alive:
        process.kill()
    assert not alive, f"processes left behind: {alive}"
