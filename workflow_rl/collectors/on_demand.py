"""What collectors have in common that play a batch when it is asked for, in the learner's own thread."""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from itertools import groupby

from workflow_rl.closing import Closing
from workflow_rl.collectors.attempts import Attempts, Retry
from workflow_rl.collectors.interface import require_published
from workflow_rl.episode import Episodes, Snapshot, Ticket


class OnDemandCollector(Closing):
    """Remembers tickets until their batch is collected. Nothing goes on in the background, whatever the lag.

    Attributes:
        attempts: what failed, and what was played again.
    """

    def __init__(self) -> None:
        self.attempts = Attempts()
        self._snapshots: dict[int, Snapshot] = {}
        self._tickets: dict[int, list[Ticket]] = defaultdict(list)
        self._is_closed = False

    @property
    def retried(self) -> Sequence[Retry]:
        """Every ticket that was played again so far, in that order."""
        return self.attempts.retries

    @property
    def retries(self) -> int:
        """How many they are."""
        return len(self.retried)

    def publish(self, snapshot: Snapshot) -> None:
        """Keep the snapshot, and forget those that no waiting ticket names."""
        needed = {ticket.version for tickets in self._tickets.values() for ticket in tickets}
        self._snapshots = {v: s for v, s in self._snapshots.items() if v in needed}
        self._snapshots[snapshot.version] = snapshot

    def submit(self, tickets: Sequence[Ticket]) -> None:
        """Remember the tickets until their batch is collected."""
        if self._is_closed:
            raise RuntimeError("submit after close")
        require_published(tickets, self._snapshots)
        for ticket in tickets:
            self._tickets[ticket.batch].append(ticket)

    def collect(self, batch: int) -> Episodes:
        """Play the batch, in index order."""
        tickets = sorted(self._tickets.pop(batch), key=lambda ticket: ticket.episode)
        runs = groupby(tickets, key=lambda ticket: ticket.version)
        return Episodes.concatenate(
            [self.play(tuple(run), self._snapshots[version]) for version, run in runs]
        )

    def close(self) -> None:
        """Play nothing more."""
        self._is_closed = True

    @abstractmethod
    def play(self, tickets: Sequence[Ticket], snapshot: Snapshot) -> Episodes:
        """Play tickets now, those that fail again.

        Args:
            tickets: at least one, all with `version == snapshot.version`, in index order.
            snapshot: the weights they name.

        Returns:
            Their episodes, in the same order.

        Raises:
            WorkflowRLError: as `interface.Collector.collect`.
        """
