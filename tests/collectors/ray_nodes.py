"""A Ray cluster of real nodes on this machine, started as a user starts them, each of which can be lost."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
from process_ends import is_running, still_running

from workflow_rl.closing import Closing

_PROGRAM = Path(sys.executable).parent / "ray"
_OBJECT_STORE_BYTES = 100 * 2**20
_PATIENCE_SECONDS = 10.0


class RayNodes(Closing):
    """Nodes in processes of their own, the head first: when one ends, all that runs on it ends.

    No test makes its own process the parent of a Ray: whoever starts one ends with it.

    Args:
        cpus: of each node.

    Attributes:
        address: of the cluster.
    """

    def __init__(self, *cpus: int) -> None:
        port = _free_port()
        self.address = f"127.0.0.1:{port}"
        self._nodes: list[psutil.Popen] = []
        head, *others = cpus
        with ExitStack() as stack:
            stack.callback(self.close)
            self._start(
                head,
                *("--head", f"--port={port}", f"--ray-client-server-port={_free_port()}"),
                *("--include-dashboard=false", "--disable-usage-stats"),
            )
            for count in others:
                self._start(count, f"--address={self.address}")
            stack.pop_all()

    def _start(self, cpus: int, *flags: str) -> None:
        """Start a node; returns when the cluster has it."""
        command = [str(_PROGRAM), "start", "--block", *flags, f"--num-cpus={cpus}"]
        node = psutil.Popen(
            [*command, f"--object-store-memory={_OBJECT_STORE_BYTES}"],
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._nodes.append(node)
        said = []
        for line in node.stdout:
            said.append(line)
            if "Ray runtime started" in line:
                return
        raise RuntimeError("".join(said))

    def actors(self, number: int | None = None) -> list[psutil.Process]:
        """Processes in which actors of a collector live, on one node or on all."""
        nodes = self._nodes if number is None else [self._nodes[number]]
        running = [node for node in nodes if is_running(node)]
        descendants = [process for node in running for process in node.children(recursive=True)]
        return [process for process in descendants if _is_actor(process)]

    def lose(self, number: int) -> None:
        """Kill everything on a node, at once and without notice."""
        node = self._nodes[number]
        processes = [*node.children(recursive=True), node]
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        node.wait()
        node.stdout.close()
        assert not still_running(processes, _PATIENCE_SECONDS)

    def wait_for_no_actor(self) -> None:
        """Actors end soon after their collector is closed."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while actors := self.actors():
            assert time.monotonic() < deadline, f"actors left behind: {actors}"
            time.sleep(0.05)

    def close(self) -> None:
        """Lose them all."""
        for number, node in enumerate(self._nodes):
            if is_running(node):
                self.lose(number)


def _is_actor(process: psutil.Process) -> bool:
    try:
        return process.name().startswith("ray::ActorWorke")  # all of it that the system keeps
    except psutil.NoSuchProcess:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
