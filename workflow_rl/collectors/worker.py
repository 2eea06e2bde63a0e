"""What runs in a worker process: play the tickets of a call, send the episodes back, die with the parent."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import threading
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from workflow_rl.collectors.heartbeats import Heartbeat
from workflow_rl.collectors.snapshot_directory import SnapshotReader
from workflow_rl.episode import Episodes, Ticket
from workflow_rl.errors import EpisodeError, WorkflowRLError
from workflow_rl.rollout import Player

_NICENESS = 10
"""Workers yield to the learner: a hundred runnable ones would otherwise starve it on a small machine."""


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
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches the whole terminal group; the parent decides
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # held by `fork_server` until now
    with contextlib.suppress(OSError, AttributeError):  # no such call on Windows, or already at the lowest
        os.nice(_NICENESS)
    threading.Thread(target=_end_with_parent, args=(directory,), daemon=True).start()
    _worker = _Worker(SnapshotReader(directory), Heartbeat(directory), Player())


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
        _worker.player = Player()  # the environment may be in any state now: build it anew
        raise EpisodeError(
            f"{tickets[0].environment.id} raised {type(error).__name__}: {error} while playing {tickets[0]}",
            traceback.format_exc(),
        ) from error


def _end_with_parent(directory: Path) -> None:
    """Leave when the parent is gone: workers hold both ends of the call queue and would wait on it for ever.

    (cpython issue 111873.) The snapshots are removed too, since nobody else is left to do it.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        shutil.rmtree(directory, ignore_errors=True)
        os._exit(1)
