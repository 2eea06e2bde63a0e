"""What runs in a worker process: play the tickets of a call, send the episodes back, die with the parent."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from workflow_rl.collectors.child_process import settle
from workflow_rl.collectors.heartbeats import Heartbeat
from workflow_rl.collectors.snapshot_directory import SnapshotReader
from workflow_rl.episode import Episodes, Ticket
from workflow_rl.errors import WorkflowRLError
from workflow_rl.rollout import Player, Raised, failed_episode


@dataclass
class _Worker:
    """What a worker process keeps between calls."""

    snapshots: SnapshotReader
    heartbeat: Heartbeat
    player: Player


_worker: _Worker | None = None


def start(directory: Path) -> None:
    """Prepare a fresh worker process (the pool's initializer).

    Args:
        directory: where the learner writes snapshots and the worker its heartbeat.
    """
    global _worker
    settle(when_orphaned=partial(shutil.rmtree, directory, ignore_errors=True))
    try:
        heartbeat = Heartbeat(directory)
    except FileNotFoundError:  # the learner has died or closed meanwhile, and all that was its own is removed
        os._exit(1)
    _worker = _Worker(SnapshotReader(directory), heartbeat, Player(heartbeat.announce))


def show_up() -> None:
    """The first call of a pool: when it returns, a worker is ready."""


def play(call: int, tickets: Sequence[Ticket]) -> Episodes:
    """Play tickets of one version, in order.

    Args:
        call: number of the call, for the heartbeat.
        tickets: at least one.

    Raises:
        EpisodeError: an environment raised. Whatever it was, even `SystemExit`, arrives as this one error: it
            would otherwise end the learner, or, if it cannot be unpickled there, the whole pool.
    """
    if _worker is None:
        raise RuntimeError("worker.start has not run in this process")
    _worker.heartbeat.begin(call)
    try:
        return _worker.player.play(tickets, _worker.snapshots.read(tickets[0].version))
    except WorkflowRLError:
        raise
    except BaseException as error:
        # The environment may be in any state now: build it anew.
        _worker.player = Player(_worker.heartbeat.announce)
        raise failed_episode(tickets[0], Raised.by(error)) from error
