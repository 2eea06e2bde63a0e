"""Barrier-free collection, whoever plays: what collectors on processes, threads and Ray have in common.

    learner                                            a crew of workers
    submit(tickets) -> chunks ---------------------->  play(chunk): simulate, infer, sample, record
    publish(snapshot) - - - - - - - - - - - - - - - >  read when a ticket first names the version
    collect(batch)  <- episodes, index order <-------  whole episodes, as flat arrays

Workers take the next chunk as soon as they are free, of whatever batch: nobody waits for the slowest at a
step, nor at an update (the training loop submits batch u + lag before it collects batch u).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from queue import SimpleQueue

from workflow_rl.closing import Closing
from workflow_rl.collectors.attempts import Retry
from workflow_rl.collectors.interface import Crew, Inbox, Snapshots, require_published
from workflow_rl.episode import Episodes, Snapshot, Ticket
from workflow_rl.errors import WorkflowRLError

_CHUNK_SECONDS = 0.01
"""Playing time of one call. A call costs the learner 0.2 to 0.4 ms, so slow episodes travel alone and fast
ones together; short enough that a batch is spread over several workers."""

_SHORTEST_SECONDS = 1e-6


@dataclass(eq=False)
class _Batch:
    """The episodes of a batch, as they come in."""

    tickets: list[Ticket] = field(default_factory=list)
    inbox: Inbox = field(default_factory=SimpleQueue)
    parts: list[Episodes] = field(default_factory=list)
    error: WorkflowRLError | None = None

    def wait(self) -> Episodes:
        """All of them, in index order; an error as soon as there is one."""
        num_missing = len(self.tickets) - sum(map(len, self.parts))
        while self.error is None and num_missing > 0:
            arrival = self.inbox.get()
            if isinstance(arrival, WorkflowRLError):
                self.error = arrival
            else:
                self.parts.append(arrival)
                num_missing -= len(arrival)
        if self.error is not None:
            raise self.error
        return Episodes.concatenate(sorted(self.parts, key=lambda part: part.tickets[0].episode))


class BarrierFreeCollector(Closing):
    """Hands tickets to a crew, and gathers what comes back.

    Args:
        n_workers: of the crew.
        snapshots: what the crew reads policies from.
        start_crew: starts the workers; called when the first tickets are there.
    """

    def __init__(self, n_workers: int, snapshots: Snapshots, start_crew: Callable[[], Crew]) -> None:
        self._n_workers = n_workers
        self._snapshots = snapshots
        self._start_crew = start_crew
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
        require_published(tickets, self._snapshots)
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
        """End the crew."""
        if not self._is_closed and self._crew is not None:
            self._crew.close()
        self._is_closed = True
        self._batches.clear()
        self._snapshots.close()


def _chunks(tickets: Sequence[Ticket], size: int) -> Iterator[tuple[Ticket, ...]]:
    """Split tickets into runs of one batch and version, of nearly equal length and at most `size` long."""
    for _, run in groupby(tickets, key=lambda ticket: (ticket.batch, ticket.version)):
        same = tuple(run)
        count = math.ceil(len(same) / size)
        for i in range(count):
            yield same[len(same) * i // count : len(same) * (i + 1) // count]
