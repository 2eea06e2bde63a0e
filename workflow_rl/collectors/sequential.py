"""One environment in the learner's own process: the reference for every result."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import groupby

from workflow_rl.closing import Closing
from workflow_rl.collectors.attempts import Attempts, Cause, Failure, Retry
from workflow_rl.episode import Episodes, Snapshot, Ticket
from workflow_rl.errors import EpisodeError
from workflow_rl.rollout import Player


class SequentialCollector(Closing):
    """Plays a batch when it is asked for, one episode after the other."""

    def __init__(self) -> None:
        self._attempts = Attempts()
        self._player = Player()
        self._snapshots: dict[int, Snapshot] = {}
        self._tickets: dict[int, list[Ticket]] = defaultdict(list)
        self._is_closed = False

    @property
    def num_players(self) -> int:
        """One: the learner's process itself."""
        return 1

    @property
    def retried(self) -> Sequence[Retry]:
        """Every ticket that was played again so far, in that order."""
        return self._attempts.retries

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
        for ticket in tickets:
            if ticket.version not in self._snapshots:
                raise ValueError(f"version {ticket.version} has not been published")
            self._tickets[ticket.batch].append(ticket)

    def collect(self, batch: int) -> Episodes:
        """Play the batch, in index order."""
        tickets = sorted(self._tickets.pop(batch), key=lambda ticket: ticket.episode)
        runs = groupby(tickets, key=lambda ticket: ticket.version)
        return Episodes.concatenate(
            [
                play_patiently(self._player, tuple(run), self._snapshots[version], self._attempts)
                for version, run in runs
            ]
        )

    def close(self) -> None:
        """Close the environment."""
        self._is_closed = True
        self._player.close()


def play_patiently(
    player: Player, tickets: Sequence[Ticket], snapshot: Snapshot, attempts: Attempts
) -> Episodes:
    """Play tickets of one version together; if one fails, all of them again, each alone.

    Args:
        player: of this thread.
        tickets: at least one, all with `version == snapshot.version`.
        snapshot: the weights they name.
        attempts: counts what failed.

    Raises:
        EpisodeError: one of them has failed for the last time.
    """
    try:
        return player.play(tickets, snapshot)
    except EpisodeError as error:
        for ticket in tickets:
            attempts.count(ticket, Failure(Cause.RAISED, str(error), error))
        return Episodes.concatenate(
            [play_patiently(player, (ticket,), snapshot, attempts) for ticket in tickets]
        )
