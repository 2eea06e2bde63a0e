"""What a collector promises; `tests/collectors/test_contract.py` holds every collector to it.

1. `collect(b)` returns every episode submitted for batch b, no other, sorted by episode index. Nothing is
   taken first come, nothing is dropped: first-come batches over-represent short episodes.
2. An episode's content depends on its ticket and the snapshot it names, not on the collector, the number of
   workers or the timing.
3. `submit` and `publish` return at once; episodes are played as soon as there is somebody free to play them,
   whether or not anybody is waiting in `collect`. Collectors on demand (`on_demand`) play in `collect` only.
4. An episode that fails is played again, with the same content once it succeeds. After its third failure
   `collect` of its batch raises, without waiting for others, and names episode, seed, workflow and version:
   `EpisodeError` with the worker's traceback if the environment raised, else `CollectorError`. `synchronous`
   cannot replace a process and raises at its first loss.
5. `close` may be called twice and leaves no process and no thread behind.

`Crew` and `Snapshots` are the two parts in which executors differ, processes from threads.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from queue import SimpleQueue
from types import TracebackType
from typing import Protocol, Self

from workflow_rl.collectors.attempts import Attempts, Retry
from workflow_rl.episode import Episodes, Snapshot, Ticket
from workflow_rl.errors import WorkflowRLError

Inbox = SimpleQueue[Episodes | WorkflowRLError]
"""Where the episodes of a batch arrive, part by part, or the error that ends it."""


def require_published(tickets: Iterable[Ticket], versions: Container[int]) -> None:
    """Refuse tickets that nobody could play.

    Raises:
        ValueError: one names a version that is not among those.
    """
    for ticket in tickets:
        if ticket.version not in versions:
            raise ValueError(f"version {ticket.version} has not been published")


class Collector(Protocol):
    """Plays whole episodes under the policies their tickets name."""

    @property
    def num_players(self) -> int:
        """How many episodes it plays at the same time at most."""

    @property
    def retries(self) -> int:
        """How many tickets were handed out again: the length of `retried`."""

    @property
    def retried(self) -> Sequence[Retry]:
        """Every ticket that was handed out again so far, in that order, and why."""

    def publish(self, snapshot: Snapshot) -> None:
        """Make a snapshot known, once per version, before any ticket names it."""

    def submit(self, tickets: Sequence[Ticket]) -> None:
        """Hand in tickets of one or more batches, each batch in index order; returns at once.

        Raises:
            ValueError: a ticket names a version that has not been published.
            RuntimeError: the collector is closed.
        """

    def collect(self, batch: int) -> Episodes:
        """Wait for all episodes of a batch, in index order, and forget the batch.

        Raises:
            EpisodeError: an environment raised three times in the same episode.
            CollectorError: an episode ended its worker or took too long for the third time.
            KeyError: nothing was submitted for the batch.
        """

    def close(self) -> None:
        """End all who play. Idempotent; nothing can be submitted afterwards."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Crew(Protocol):
    """Workers that play what they are handed, and play again what has failed.

    Attributes:
        attempts: what failed, and what was handed out again.
    """

    attempts: Attempts

    def hand_in(self, tickets: tuple[Ticket, ...], inbox: Inbox) -> None:
        """Have tickets of one batch and version played; returns at once.

        Args:
            tickets: they travel together.
            inbox: takes their episodes, perhaps in parts, or the error that ends the batch.
        """

    def close(self) -> None:
        """End the workers."""


class Snapshots(Protocol):
    """Hands policy weights to the workers of a crew."""

    def write(self, snapshot: Snapshot) -> None:
        """Make a version readable for the workers."""

    def __contains__(self, version: object) -> bool: ...

    def keep(self, versions: set[int]) -> None:
        """Forget all versions but these."""

    def close(self) -> None:
        """Forget all of them. Idempotent."""
