"""What runs in a worker process: play the tickets of a call, send the episodes back, die with the parent."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Sequence
from pathlib import Path

from workflow_rl.collectors.snapshot_directory import SnapshotReader
from workflow_rl.episode import Episodes, Ticket
from workflow_rl.rollout import Player

_NICENESS = 10
"""Workers yield to the learner: a hundred runnable ones would otherwise starve it on a small machine."""

_player = Player()
_snapshots: SnapshotReader | None = None


def start(snapshot_directory: Path) -> None:
    """Prepare a fresh worker process (the pool's initializer)."""
    global _snapshots
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches the whole terminal group; the parent decides
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # held by `fork_server` until now
    with contextlib.suppress(OSError, AttributeError):  # no such call on Windows, or already at the lowest
        os.nice(_NICENESS)
    threading.Thread(target=_end_with_parent, args=(snapshot_directory,), daemon=True).start()
    _snapshots = SnapshotReader(snapshot_directory)


def play(tickets: Sequence[Ticket]) -> Episodes:
    """Play tickets of one version, in order."""
    if _snapshots is None:
        raise RuntimeError("worker.start has not run in this process")
    return _player.play(tickets, _snapshots.read(tickets[0].version))


def _end_with_parent(snapshot_directory: Path) -> None:
    """Leave when the parent is gone: workers hold both ends of the call queue and would wait on it for ever.

    (cpython issue 111873.) The snapshots are removed too, since nobody else is left to do it.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        shutil.rmtree(snapshot_directory, ignore_errors=True)
        os._exit(1)
