"""Players in threads of the learner's own process: no hand-over at all, and no protection either.

    learner's thread                        threads of `concurrent.futures.ThreadPoolExecutor`
    hand_in(tickets, inbox) -- a queue -->  play(tickets): simulate, infer, sample, record
    inbox.get() <--------------- the very arrays

The compiled player releases the interpreter lock, so threads play the native simulator on every core while
the learner learns. Nothing is pickled, no process is started, and all threads read one copy of the weights.

What a process can survive, a thread cannot. Whoever hangs in one keeps it for ever, and the program with it;
a segfault or `os._exit` ends the run (its checkpoints remain). An environment must not depend on what belongs
to the whole process, such as the global random generators, nor hold the lock while it works: then threads
take turns.
"""

from __future__ import annotations

import itertools
import threading
import traceback
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np

from workflow_rl.collectors.attempts import Attempts
from workflow_rl.collectors.interface import Inbox
from workflow_rl.collectors.sequential import play_patiently
from workflow_rl.episode import Episodes, Snapshot, Ticket
from workflow_rl.errors import EpisodeError, WorkflowRLError
from workflow_rl.rollout import Player


class SnapshotShelf:
    """Hands policy weights to the threads: the learner's own arrays, a version at a time."""

    def __init__(self) -> None:
        self._snapshots: dict[int, Snapshot] = {}

    def write(self, snapshot: Snapshot) -> None:
        """Make a version readable."""
        self._snapshots[snapshot.version] = snapshot

    def read(self, version: int) -> Snapshot:
        """The snapshot of a version that has been written."""
        return self._snapshots[version]

    def __contains__(self, version: object) -> bool:
        return version in self._snapshots

    def keep(self, versions: Iterable[int]) -> None:
        """Forget all versions but these."""
        for version in self._snapshots.keys() - set(versions):
            del self._snapshots[version]

    def close(self) -> None:
        """Forget all versions."""
        self._snapshots.clear()


class ThreadPool:
    """Threads that play what they are handed; an episode that raises is played again where it was played.

    Args:
        n_workers: threads at most; one is started when there is something to do and all others are busy.
        snapshots: of the versions that tickets name.

    Attributes:
        attempts: what failed, and what was played again.
    """

    def __init__(self, n_workers: int, snapshots: SnapshotShelf) -> None:
        self.attempts = Attempts()
        self._snapshots = snapshots
        self._numbers = itertools.count(1)
        self._thread = threading.local()
        self._players: list[Player] = []
        self._executor = ThreadPoolExecutor(n_workers, "workflow_rl-worker", initializer=self._start)

    def hand_in(self, tickets: tuple[Ticket, ...], inbox: Inbox) -> None:
        """Have tickets of one batch and version played; returns at once.

        Args:
            tickets: they are played together.
            inbox: takes their episodes, or the error that ends the batch.
        """
        future = self._executor.submit(self._play, tickets)
        future.add_done_callback(partial(_deliver, inbox))

    def close(self) -> None:
        """Forget what has not begun, wait for the episodes that are being played, end the threads."""
        self._executor.shutdown(wait=True, cancel_futures=True)
        while self._players:
            self._players.pop().close()

    def _start(self) -> None:
        """Prepare a fresh thread."""
        self._thread.number = next(self._numbers)
        self._thread.player = Player()
        self._players.append(self._thread.player)

    def _play(self, tickets: tuple[Ticket, ...]) -> Episodes:
        snapshot = self._snapshots.read(tickets[0].version)
        episodes = play_patiently(self._thread.player, tickets, snapshot, self.attempts)
        return replace(episodes, worker=np.full(len(episodes), self._thread.number, np.int32))


def _deliver(inbox: Inbox, future: Future[Episodes]) -> None:
    """Put what became of some tickets where it is waited for."""
    if future.cancelled():
        return  # the collector was closed: nobody waits any more
    if (error := future.exception()) is None:
        inbox.put(future.result())
    elif isinstance(error, WorkflowRLError):
        inbox.put(error)
    else:
        where = "".join(traceback.format_exception(error))
        inbox.put(EpisodeError(f"a thread that plays raised {type(error).__name__}: {error}", where))
