"""Starts pools one after the other, in a thread of its own.

A process takes the fork server some ten milliseconds, and several times that where workers keep the cores
busy. Whoever hands out calls must not wait for it.
"""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import Protocol

_STOP_SECONDS = 5.0


class Startable(Protocol):
    """What takes time to start."""

    def start(self) -> None:
        """Start; returns when it is done."""


class Starter:
    """The thread."""

    def __init__(self) -> None:
        self._waiting: SimpleQueue[Startable | None] = SimpleQueue()
        self._is_stopped = False
        self._thread = threading.Thread(target=self._run, name="workflow_rl-starter", daemon=True)
        self._thread.start()

    def start(self, pool: Startable) -> None:
        """Have a pool started; returns at once."""
        self._waiting.put(pool)

    def stop(self) -> None:
        """Start nothing more; returns when what is being started is there."""
        self._is_stopped = True
        self._waiting.put(None)
        self._thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        while (pool := self._waiting.get()) is not None and not self._is_stopped:
            pool.start()
