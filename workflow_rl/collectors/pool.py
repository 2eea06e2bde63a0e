"""What the dispatcher asks of a pool of workers, and what the two tell each other.

As messages:

    Call         dispatcher -> pool      tickets to play
    PoolReady    pool -> dispatcher      its workers have started
    CallEnded    pool -> dispatcher      episodes, or an exception
    PoolBroke    pool -> dispatcher      a worker was lost, and with it all calls of the pool

There are pools of processes (`worker_pool`) and of Ray actors (`ray_actors`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from typing import Protocol

from workflow_rl.collectors.attempts import Cause, Failure
from workflow_rl.collectors.interface import Inbox
from workflow_rl.episode import Episodes, Ticket
from workflow_rl.errors import CollectorError, EpisodeError


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """Tickets that travel together.

    Attributes:
        number: never used twice.
        tickets: of one batch and version.
        inbox: where their episodes go, or the error that ends the batch.
    """

    number: int
    tickets: tuple[Ticket, ...]
    inbox: Inbox


@dataclass(frozen=True, slots=True, eq=False)
class CallEnded:
    """A call has come back.

    Attributes:
        pool: that played it.
        call: the call.
        outcome: its episodes, or what was raised.
    """

    pool: Pool
    call: Call
    outcome: Episodes | BaseException


@dataclass(frozen=True, slots=True, eq=False)
class PoolReady:
    """A pool takes calls now."""

    pool: Pool


@dataclass(frozen=True, slots=True, eq=False)
class PoolBroke:
    """A pool has lost a worker, and with it all of its calls.

    Attributes:
        pool: to be replaced.
        error: why another pool would not fare better, if that is known.
    """

    pool: Pool
    error: CollectorError | None = None


Report = PoolReady | CallEnded | PoolBroke

MakePool = Callable[[int, Callable[[Report], None]], "Pool"]
"""Makes a pool of so many workers, not yet started; it reports by the function, from any thread."""


class Pool(Protocol):
    """Workers that live and die together. Once broken it stays so; make another one.

    All methods but `start` are called by one thread.

    Attributes:
        num_workers: as the name says.
        calls: handed in and not come back, by number.
        has_played: whether a call has come back.
    """

    num_workers: int
    calls: dict[int, Call]
    has_played: bool

    @property
    def is_ready(self) -> bool:
        """Whether it takes calls: its workers have started and none is lost, as far as is known."""

    @property
    def num_prefetched(self) -> int:
        """Calls that it should have beyond its workers, so that one who is done finds the next at once."""

    def start(self) -> None:
        """Start the workers. The pool reports when it takes calls."""

    def hand_in(self, call: Call) -> None:
        """Queue a call.

        Raises:
            BrokenExecutor: a worker was lost; the pool reports that, or has done so.
        """

    def take_back(self, call: Call) -> None:
        """Count a call as come back."""

    def failure_of(self, call: Call) -> Failure:
        """What became of a call that was in the pool when it broke."""

    def look_after(self, episode_timeout: float | None) -> None:
        """End the workers whose call began more than so many seconds ago; the pool then breaks.

        Called now and then, also without a limit, for a pool that has to look for lost workers itself.
        """

    def kill(self) -> None:
        """End the workers at once, without waiting for them."""

    def terminate(self) -> list[BaseProcess]:
        """Ask the workers to end; returns those that are this process's children."""


def failure_of_exception(error: BaseException, call: Call) -> Failure:
    """What a call's exception means; other than an `EpisodeError` it is about sending the episodes back."""
    if not isinstance(error, EpisodeError):
        message = f"the result of {call.tickets[0]} could not be sent: {type(error).__name__}: {error}"
        error = EpisodeError(message, str(error.__cause__ or ""))
    return Failure(Cause.RAISED, str(error), error)
