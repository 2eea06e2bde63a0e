"""One environment in the learner's own process: the reference for every result."""

from __future__ import annotations

from collections.abc import Sequence

from workflow_rl.collectors.attempts import Attempts, Cause, Failure
from workflow_rl.collectors.on_demand import OnDemandCollector
from workflow_rl.episode import Episodes, Snapshot, Ticket
from workflow_rl.errors import EpisodeError
from workflow_rl.rollout import Player


class SequentialCollector(OnDemandCollector):
    """Plays a batch when it is asked for, one episode after the other."""

    def __init__(self) -> None:
        super().__init__()
        self._player = Player()

    @property
    def num_players(self) -> int:
        """One: the learner's process itself."""
        return 1

    def play(self, tickets: Sequence[Ticket], snapshot: Snapshot) -> Episodes:
        """Play tickets of one version."""
        return play_patiently(self._player, tickets, snapshot, self.attempts)

    def close(self) -> None:
        """Close the environment."""
        super().close()
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
