"""How often each ticket may fail, and what was played again.

A ticket fails when its episode raises, ends its worker's process, takes too long, or cannot be sent back. The
cause may be gone the next time (a worker killed by the system, a service that was down), so it is played
again; the third failure is its last. Tickets that were only in the way of another's failure are played again
without blame.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from workflow_rl.episode import Ticket
from workflow_rl.errors import CollectorError, EpisodeError, WorkflowRLError

MAX_ATTEMPTS = 3


class Cause(StrEnum):
    """Why a ticket was not played to its end."""

    RAISED = "raised"
    """The environment raised, or its episode could not be sent back."""
    DIED = "died"
    """The worker's process ended."""
    HUNG = "hung"
    """The episode took longer than allowed, and its worker was killed."""
    BYSTANDER = "bystander"
    """It was in a call, or its worker in a pool, with another that failed."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What happened to the tickets of a call.

    Attributes:
        cause: the kind.
        detail: in words, one line.
        error: what the worker raised, if it did.
        suspects: positions in the call of the tickets that may have caused it; `None` for all.
    """

    cause: Cause
    detail: str
    error: EpisodeError | None = None
    suspects: range | None = None


@dataclass(frozen=True, slots=True)
class Retry:
    """A ticket that was handed out again.

    Attributes:
        ticket: the ticket.
        cause: the kind of failure.
        detail: in words, one line.
        failures: how often the ticket itself has failed so far; 0 for a bystander.
    """

    ticket: Ticket
    cause: Cause
    detail: str
    failures: int


class Attempts:
    """Counts the failures of each ticket.

    Attributes:
        retries: every ticket handed out again, in that order.
    """

    def __init__(self) -> None:
        self.retries: list[Retry] = []
        self._failures: Counter[Ticket] = Counter()

    def count(self, ticket: Ticket, failure: Failure) -> None:
        """Note that a ticket is to be handed out again.

        Raises:
            EpisodeError: its environment raised, for the last time.
            CollectorError: its worker died or hung, for the last time.
        """
        if failure.cause is not Cause.BYSTANDER:
            self._failures[ticket] += 1
        if self._failures[ticket] == MAX_ATTEMPTS:
            raise _given_up(ticket, failure)
        self.retries.append(Retry(ticket, failure.cause, failure.detail, self._failures[ticket]))


def _given_up(ticket: Ticket, failure: Failure) -> WorkflowRLError:
    if failure.error is not None:
        return failure.error
    return CollectorError(f"{ticket} failed {MAX_ATTEMPTS} times; the last time {failure.detail}")
