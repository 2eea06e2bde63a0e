"""How a process that plays behaves towards the learner: it yields to it, and does not outlive it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable

_NICENESS = 10
"""Workers yield to the learner: a hundred runnable ones would otherwise starve it on a small machine."""


def settle(when_orphaned: Callable[[], None] = lambda: None) -> None:
    """Prepare this process, fresh from the fork server, to play.

    Args:
        when_orphaned: called when the learner's process is gone, before this one ends.
    """
    # Ctrl-C reaches the whole terminal group; the parent decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # held by `fork_server` until now
    with contextlib.suppress(OSError, AttributeError):  # no such call on Windows, or already at the lowest
        os.nice(_NICENESS)
    threading.Thread(target=_end_with_parent, args=(when_orphaned,), daemon=True).start()


def _end_with_parent(when_orphaned: Callable[[], None]) -> None:
    """Leave when the parent is gone: who waits for its next word might wait for ever.

    A worker of an executor holds both ends of the call queue (cpython issue 111873), an environment of
    `gymnasium.vector` both ends of the queue to which it reports the loss.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        when_orphaned()
        os._exit(1)


def ending_of(exit_code: int) -> str:
    """How a process ended, in words."""
    if exit_code < 0:
        return f"was killed by {signal.Signals(-exit_code).name}"
    return f"ended with exit code {exit_code}"
