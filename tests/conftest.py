"""What every test is held to, that it leaves no process behind; and a fixture that files share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from program import Outcome, Program, call

_PATIENCE_SECONDS = 5.0
_SERVERS = ("multiprocessing.forkserver", "multiprocessing.resource_tracker")
"""Started once by Python itself and kept, by design, until this process ends."""

_RAY_NODE = ["start", "--block"]
"""How a node of a Ray cluster is called that serves several tests (`collectors/ray_nodes.py`)."""


def _is_server(process: psutil.Process) -> bool:
    """Whether it is a server of this process; forked workers have the same command line, one level down."""
    return any(name in argument for argument in process.cmdline() for name in _SERVERS)


def _is_ray_node(process: psutil.Process) -> bool:
    command = process.cmdline()
    return any(command[place : place + 2] == _RAY_NODE for place in range(len(command)))


def _left_behind() -> list[psutil.Process]:
    """Processes that belong to a test; what runs on a node of a cluster is the cluster's."""
    left = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if not _is_ray_node(child):
                left += [*([] if _is_server(child) else [child]), *child.children(recursive=True)]
    return left


@pytest.fixture(autouse=True)
def _leaves_no_process() -> Iterator[None]:
    yield
    _, alive = psutil.wait_procs(_left_behind(), timeout=_PATIENCE_SECONDS)
    for process in alive:
        process.kill()
    assert not alive, f"processes left behind: {alive}"


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Program:
    """`workflow-rl`, called in this process, from an empty directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def outcome(*arguments: str | Path) -> Outcome:
        return Outcome(call(*arguments), *capsys.readouterr())

    return outcome
