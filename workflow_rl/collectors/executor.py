"""Barrier-free collection on `concurrent.futures.ProcessPoolExecutor`.

    learner process                                    worker processes (forkserver)
    submit(tickets) -> one future per chunk  --------> play(chunk): simulate, infer, sample, record
    publish(snapshot) -> file per version    - - - - > read when a ticket first names the version
    collect(batch)  <- episodes, index order <--------  whole episodes, as flat arrays

Workers take the next chunk as soon as they are free, of whatever batch: nobody waits for the slowest at a
step, nor at an update (the training loop submits batch u + lag before it collects batch u).

One worker's abrupt death breaks the whole pool: every pending future fails and the other workers are ended
(`concurrent/futures/process.py`, `_terminate_broken`). An episode is a pure function of its ticket, so
recovery is
simple: a new pool, and the unfinished tickets again.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import groupby
from types import TracebackType
from typing import Self

from workflow_rl.collectors import worker
from workflow_rl.collectors.snapshot_directory import SnapshotDirectory
from workflow_rl.environments import POLICY_PRELOAD
from workflow_rl.episode import Episodes, Snapshot, Ticket
from workflow_rl.errors import CollectorError
from workflow_rl.fork_server import worker_context

_MAX_LOSSES_IN_A_ROW = 3
"""Pools that may break without one chunk finishing in between; more, and it is the episodes that kill."""

_CHUNK_SECONDS = 0.01
"""Playing time of one call. A call costs the learner 0.2 to 0.4 ms, so slow episodes travel alone and fast
ones together; short enough that a batch is spread over several workers."""

_SHORTEST_SECONDS = 1e-6
_WINDOWS_LIMIT = 61
_JOIN_SECONDS = 5.0


@dataclass
class _Chunk:
    """Tickets that travel together, and the call that plays them."""

    tickets: tuple[Ticket, ...]
    future: Future[Episodes]


class ExecutorCollector:
    """Persistent worker processes that play whole episodes on their own.

    Args:
        n_workers: worker processes (at most 61 on Windows, the limit of its wait call).
        preload: what the fork server imports before the first worker (`environments.preload_modules`).
    """

    def __init__(self, n_workers: int, *, preload: Sequence[str] = (POLICY_PRELOAD,)) -> None:
        self.n_workers = min(n_workers, _WINDOWS_LIMIT) if sys.platform == "win32" else n_workers
        self.retries = 0
        self._preload = preload
        self._snapshots = SnapshotDirectory()
        self._pool: ProcessPoolExecutor | None = None
        self._batches: dict[int, list[_Chunk]] = {}
        self._chunk_size = 1
        self._losses_in_a_row = 0
        self._is_closed = False

    def publish(self, snapshot: Snapshot) -> None:
        """Write the snapshot for the workers, and delete those that no unfinished ticket names."""
        chunks = (chunk for batch in self._batches.values() for chunk in batch)
        self._snapshots.keep({ticket.version for chunk in chunks for ticket in chunk.tickets})
        self._snapshots.write(snapshot)

    def submit(self, tickets: Sequence[Ticket]) -> None:
        """Queue the tickets; the first call starts the workers."""
        if self._is_closed:
            raise RuntimeError("submit after close")
        for ticket in tickets:
            if ticket.version not in self._snapshots:
                raise ValueError(f"version {ticket.version} has not been published")
        for chunk in _chunks(tickets, self._chunk_size):
            self._batches.setdefault(chunk[0].batch, []).append(_Chunk(chunk, self._call(chunk)))

    def collect(self, batch: int) -> Episodes:
        """Wait for a batch."""
        parts = [self._result(chunk) for chunk in self._batches[batch]]
        del self._batches[batch]
        in_order = sorted(parts, key=lambda part: part.tickets[0].episode)
        episodes = Episodes.concatenate(in_order)
        self._chunk_size = max(
            1, int(_CHUNK_SECONDS / max(float(episodes.seconds.mean()), _SHORTEST_SECONDS))
        )
        return episodes

    def close(self) -> None:
        """End the workers at once, whatever they are doing."""
        self._is_closed = True
        self._end_pool()
        self._batches.clear()
        self._snapshots.close()

    def _call(self, tickets: tuple[Ticket, ...]) -> Future[Episodes]:
        """Hand in a call; one refused by a pool that broke unnoticed counts as lost, like those inside it."""
        try:
            if self._pool is None:
                self._pool = self._start_pool()
            return self._pool.submit(worker.play, tickets)
        except BrokenProcessPool as error:
            lost: Future[Episodes] = Future()
            lost.set_exception(error)
            return lost

    def _result(self, chunk: _Chunk) -> Episodes:
        while True:
            try:
                episodes = chunk.future.result()
            except BrokenProcessPool:
                self._recover()
            else:
                self._losses_in_a_row = 0
                return episodes

    def _recover(self) -> None:
        """A new pool; every chunk that the broken one did not finish is handed out again."""
        self._losses_in_a_row += 1
        lost = [c for batch in self._batches.values() for c in batch if not _has_finished(c.future)]
        if self._losses_in_a_row > _MAX_LOSSES_IN_A_ROW:
            raise CollectorError(
                f"worker processes died {self._losses_in_a_row} times in a row without finishing an episode; "
                f"the first one unfinished is {lost[0].tickets[0]}"
            )
        self._end_pool()
        for chunk in lost:
            self.retries += len(chunk.tickets)
            chunk.future = self._call(chunk.tickets)

    def _start_pool(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            self.n_workers,
            mp_context=worker_context(self._preload),
            initializer=worker.start,
            initargs=(self._snapshots.path,),
        )

    def _end_pool(self) -> None:
        if self._pool is None:
            return
        processes = list((self._pool._processes or {}).values())  # no public way before Python 3.14
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._pool = None
        for process in processes:
            process.terminate()
        for process in processes:
            process.join(_JOIN_SECONDS)
            if process.is_alive():
                process.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _chunks(tickets: Sequence[Ticket], size: int) -> Iterator[tuple[Ticket, ...]]:
    """Split tickets into runs of one batch and version, of nearly equal length and at most `size` long."""
    for _, run in groupby(tickets, key=lambda ticket: (ticket.batch, ticket.version)):
        same = tuple(run)
        count = math.ceil(len(same) / size)
        for i in range(count):
            yield same[len(same) * i // count : len(same) * (i + 1) // count]


def _has_finished(future: Future[Episodes]) -> bool:
    return future.done() and not future.cancelled() and not isinstance(future.exception(), BrokenProcessPool)
