"""How a process that plays behaves towards the learner: it yields to it, and does not outlive it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable

from workflow_rl.collectors.time_slice import ask_for_slices_of

_NICENESS = 4
"""Workers yield to the learner, which a hundred busy ones would starve on a small machine; not as far as they
could, since its updates delay a hundred that wait for their environments (decision 8)."""

_SLICE_NANOSECONDS = 1_000_000
"""Shorter than the learner's (by default 1.4 ms on two cores, 2.8 ms on eight or more), so that a worker that
wakes up interrupts an update. Much shorter ones would make busy workers take turns for nothing."""


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
        ask_for_slices_of(_SLICE_NANOSECONDS, niceness=os.nice(_NICENESS))
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
        name = next((known.name for known in signal.Signals if known == -exit_code), f"signal {-exit_code}")
        return f"was killed by {name}"  # real-time signals have no names
    return f"ended with exit code {exit_code}"
