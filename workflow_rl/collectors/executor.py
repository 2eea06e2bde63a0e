"""Barrier-free collection on the executors of `concurrent.futures`: in processes, or in threads.

    learner process                                    worker processes (forkserver)
    submit(tickets) -> chunks -> dispatcher  --------> play(chunk): simulate, infer, sample, record
    publish(snapshot) -> file per version    - - - - > read when a ticket first names the version
    collect(batch)  <- episodes, index order <--------  whole episodes, as flat arrays

Workers take the next chunk as soon as they are free, of whatever batch: nobody waits for the slowest at a
step, nor at an update (the training loop submits batch u + lag before it collects batch u).

An episode is a pure function of its ticket, so a worker that is lost costs nothing but time: its tickets are
played again (`dispatcher`). The executor's other workers are lost with it, so the workers are spread over
several executors.

Threads (`thread_pool`) take the place of everything right of the learner's process in this picture. They
suit environments that release the interpreter lock and never crash, as the native simulator does.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from queue import SimpleQueue

from workflow_rl.closing import Closing
from workflow_rl.collectors.attempts import Retry
from workflow_rl.collectors.dispatcher import Dispatcher
from workflow_rl.collectors.interface import Crew, Inbox, Snapshots
from workflow_rl.collectors.snapshot_directory import SnapshotDirectory
from workflow_rl.collectors.thread_pool import SnapshotShelf, ThreadPool
from workflow_rl.environments import POLICY_PRELOAD
from workflow_rl.episode import Episodes, Snapshot, Ticket
from workflow_rl.errors import WorkflowRLError

_WORKERS_PER_POOL = 10
"""Workers that are lost together when one of them is."""

_CHUNK_SECONDS = 0.01
"""Playing time of one call. A call costs the learner 0.2 to 0.4 ms, so slow episodes travel alone and fast
ones together; short enough that a batch is spread over several workers."""

_SHORTEST_SECONDS = 1e-6
_WINDOWS_LIMIT = 61


@dataclass(eq=False)
class _Batch:
    """The episodes of a batch, as they come in."""

    tickets: list[Ticket] = field(default_factory=list)
    inbox: Inbox = field(default_factory=SimpleQueue)
    parts: list[Episodes] = field(default_factory=list)
    error: WorkflowRLError | None = None

    def wait(self) -> Episodes:
        """All of them, in index order; an error as soon as there is one."""
        while self.error is None and sum(len(part) for part in self.parts) < len(self.tickets):
            arrival = self.inbox.get()
            if isinstance(arrival, WorkflowRLError):
                self.error = arrival
            else:
                self.parts.append(arrival)
        if self.error is not None:
            raise self.error
        return Episodes.concatenate(sorted(self.parts, key=lambda part: part.tickets[0].episode))


class ExecutorCollector(Closing):
    """Persistent workers that play whole episodes on their own.

    Args:
        n_workers: worker processes, or threads.
        executor: "process" or "thread".
        preload: what the fork server imports before the first worker (`environments.preload_modules`).
        episode_timeout: seconds after which an episode counts as hanging, its worker is killed and its ticket
            played again; `None` for never. Episodes that travel together count as one.
        workers_per_pool: processes that share an executor (at most 61 on Windows, the limit of its wait).

    Raises:
        ValueError: there is a time limit for episodes, which nothing can end in a thread.
    """

    def __init__(
        self,
        n_workers: int,
        *,
        executor: str = "process",
        preload: Sequence[str] = (POLICY_PRELOAD,),
        episode_timeout: float | None = None,
        workers_per_pool: int = _WORKERS_PER_POOL,
    ) -> None:
        self._n_workers = n_workers
        self._snapshots: Snapshots
        self._start_crew: Callable[[], Crew]
        if executor == "thread":
            if episode_timeout is not None:
                raise ValueError("nothing ends an episode that hangs in a thread")
            self._snapshots = shelf = SnapshotShelf()
            self._start_crew = partial(ThreadPool, n_workers, shelf)
        else:
            self._snapshots = directory = SnapshotDirectory()
            sizes = _pool_sizes(n_workers, workers_per_pool)
            self._start_crew = partial(Dispatcher, sizes, directory.path, preload, episode_timeout)
        self._crew: Crew | None = None
        self._batches: dict[int, _Batch] = {}
        self._chunk_size = 1
        self._is_closed = False

    @property
    def num_players(self) -> int:
        """The workers."""
        return self._n_workers

    @property
    def retried(self) -> Sequence[Retry]:
        """Every ticket that was handed out again so far, in that order."""
        return () if self._crew is None else self._crew.attempts.retries

    @property
    def retries(self) -> int:
        """How many they are."""
        return len(self.retried)

    def publish(self, snapshot: Snapshot) -> None:
        """Make the snapshot readable for the workers; forget those that no unfinished ticket names."""
        self._snapshots.keep({t.version for batch in self._batches.values() for t in batch.tickets})
        self._snapshots.write(snapshot)

    def submit(self, tickets: Sequence[Ticket]) -> None:
        """Queue the tickets; the first call starts the workers."""
        if self._is_closed:
            raise RuntimeError("submit after close")
        for ticket in tickets:
            if ticket.version not in self._snapshots:
                raise ValueError(f"version {ticket.version} has not been published")
        if self._crew is None:
            self._crew = self._start_crew()
        for chunk in _chunks(tickets, self._chunk_size):
            batch = self._batches.setdefault(chunk[0].batch, _Batch())
            batch.tickets.extend(chunk)
            self._crew.hand_in(chunk, batch.inbox)

    def collect(self, batch: int) -> Episodes:
        """Wait for a batch."""
        episodes = self._batches[batch].wait()
        del self._batches[batch]
        self._chunk_size = max(
            1, int(_CHUNK_SECONDS / max(float(episodes.seconds.mean()), _SHORTEST_SECONDS))
        )
        return episodes

    def close(self) -> None:
        """End processes at once, whatever they are doing, and threads after the episode they are playing."""
        if not self._is_closed and self._crew is not None:
            self._crew.close()
        self._is_closed = True
        self._batches.clear()
        self._snapshots.close()


def _pool_sizes(num_workers: int, per_pool: int) -> list[int]:
    """Spread workers evenly over as few pools as hold them."""
    most = min(per_pool, _WINDOWS_LIMIT) if sys.platform == "win32" else per_pool
    num_pools = math.ceil(num_workers / most)
    return [num_workers * (i + 1) // num_pools - num_workers * i // num_pools for i in range(num_pools)]


def _chunks(tickets: Sequence[Ticket], size: int) -> Iterator[tuple[Ticket, ...]]:
    """Split tickets into runs of one batch and version, of nearly equal length and at most `size` long."""
    for _, run in groupby(tickets, key=lambda ticket: (ticket.batch, ticket.version)):
        same = tuple(run)
        count = math.ceil(len(same) / size)
        for i in range(count):
            yield same[len(same) * i // count : len(same) * (i + 1) // count]
