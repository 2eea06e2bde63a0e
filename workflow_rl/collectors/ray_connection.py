"""Joining a Ray cluster, or starting a Ray of our own, and the share of a CPU that a worker is given there.

One address decides: of a cluster that runs already, or none for a Ray that lives and dies with this process.
"""

from __future__ import annotations

import heapq
import math
import os
import socket
from collections.abc import Sequence

import ray
from ray.exceptions import RayError

from workflow_rl.errors import CollectorError, SettingError

_OBJECT_STORE_BYTES = 200 * 2**20
"""Of a Ray of our own: snapshots of the versions in flight, and episodes on their way."""

_QUIET = {"logging_level": "error", "log_to_driver": False}
_CONNECT_SECONDS = 5.0
_LAST_PORT = 65_535
_CPU_STEPS = 10_000
"""Ray counts CPUs in ten-thousandths."""


def connect(address: str | None) -> bool:
    """Join a cluster, or start a Ray of our own; `ray.shutdown` undoes it.

    Args:
        address: "host:port", "auto", or `None` for one of our own.

    Returns:
        Whether anything was done: a Ray that this process has joined already stays.

    Raises:
        SettingError: there is no cluster at the address, or it cannot be joined.
        CollectorError: Ray cannot start here.
    """
    if ray.is_initialized():
        return False
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # It prints pages about lost workers, over the display; the run's retries.jsonl tells of them too.
    ray._private.worker._worker_logs_enabled = False
    try:
        if address is None:
            ray.init("local", include_dashboard=False, object_store_memory=_OBJECT_STORE_BYTES, **_QUIET)
        else:
            _check_reachable(address)
            ray.init(address, **_QUIET)
    except (OSError, RuntimeError, ValueError, RayError) as error:
        reason = str(error).partition("\n")[0]
        if address is None:
            raise CollectorError(f"Ray cannot start on this machine: {reason}") from error
        raise SettingError(
            f"--ray-address {address} is no cluster to join: {reason}; ray start --head starts one, and "
            "docs/cluster.md says what else it takes"
        ) from error
    return True


def check_address(address: str | None) -> None:
    """Find out whether there is a cluster to join.

    Args:
        address: as of `connect`.

    Raises:
        SettingError: there is none.
    """
    if address is not None and connect(address):
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Find out in seconds what Ray takes two minutes to find out.

    Raises:
        OSError, ValueError: nobody answers, or it is no address.
    """
    if address != "auto":
        host, _, port = address.rpartition(":")
        if not (host and port.isdigit() and int(port) <= _LAST_PORT):
            raise ValueError("it must be auto or host:port")
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()


def cpus_of_nodes() -> list[float]:
    """The CPUs of each node of the cluster that this process has joined."""
    return [node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"]]


def cpus_per_worker(cpus: Sequence[float], n_workers: int) -> float:
    """The largest share of a CPU, at most a whole one, with which so many workers find a place.

    They still find one after the loss of a node, unless more than half of all CPUs are lost with it.

    Args:
        cpus: of each node.
        n_workers: at least 1.

    Returns:
        In steps of 1/10,000, rounded down; a whole CPU where no node has any yet.
    """
    spared = max((c for c in cpus if 2 * c <= sum(cpus)), default=0.0)
    left = list(cpus)
    if spared:
        left.remove(spared)
    shares = [_largest_share(nodes, n_workers) for nodes in (cpus, left)]
    return max(1, math.floor(min(1.0, *shares) * _CPU_STEPS)) / _CPU_STEPS


def _largest_share(cpus: Sequence[float], n_workers: int) -> float:
    """The largest share with which so many workers find a place on these nodes; infinite without any CPUs.

    A node with c CPUs has places for k workers of c / k each, so the share is the n-th largest of these
    quotients over all nodes (as D'Hondt's method gives seats to parties).
    """
    quotients = (c / k for c in cpus if c > 0 for k in range(1, n_workers + 1))
    return min(heapq.nlargest(n_workers, quotients), default=math.inf)
