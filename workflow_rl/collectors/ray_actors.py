"""Barrier-free collection on Ray: workers are actors, on this machine or on all machines of a cluster.

    learner process                                         actors (Ray decides on which machine)
    submit(tickets) -> chunks -> dispatcher  ------------>  play(chunk): simulate, infer, sample, record
    publish(snapshot) -> object store, once a version - ->  fetched once per machine, copied once per actor
    collect(batch)  <- episodes, index order <------------  whole episodes, as flat arrays

Every actor is a pool of one worker for the dispatcher, which hands it a call as soon as the last one is back,
replaces it when it or its machine is lost, and has its tickets played again: by fixed arithmetic, not by
timing, so a cluster ends with the weights that one process would have come to.

An actor is told the snapshot with its first call of a version and keeps it for the next ones, which then need
nothing from the object store. Tickets and episodes travel pickled by us: Ray's own way of sending arrays
returns them read-only, and reports what cannot be pickled in its own words. Times of episodes are shifted to
the learner's clock, to within a message's travel.
"""

from __future__ import annotations

import importlib
import itertools
import math
import pickle
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayError, RayTaskError

from workflow_rl.collectors.attempts import Cause, Failure
from workflow_rl.collectors.barrier_free import BarrierFreeCollector
from workflow_rl.collectors.dispatcher import Dispatcher
from workflow_rl.collectors.pool import Call, CallEnded, PoolBroke, PoolReady, Report
from workflow_rl.collectors.ray_connection import connect, cpus_of_nodes, cpus_per_worker
from workflow_rl.environments import POLICY_PRELOAD
from workflow_rl.episode import Episodes, Snapshot, Ticket
from workflow_rl.errors import CollectorError, WorkflowRLError
from workflow_rl.rollout import Player

_SHORT_CALL_SECONDS = 0.1
"""A call to an actor takes a millisecond or two each way. Where calls are shorter than this, an actor has the
next one waiting; where they are longer, that one would better wait for whichever actor is free first."""

_BYSTANDER = Failure(Cause.BYSTANDER, "it waited for an actor that was lost")


class RayCollector(BarrierFreeCollector):
    """Actors that play whole episodes on their own.

    Without an address it starts a Ray of its own on this machine, and ends it when it is closed. If this
    process has joined a Ray already, that one is used and left as it is.

    Args:
        n_workers: actors; each is given the same share of the CPUs, so that all find a place
            (`ray_connection.cpus_per_worker`). One that finds none now waits for a node that has one.
        address: of a cluster, "host:port" or "auto" for the one this machine is part of.
        preload: what actors import before they play (`environments.preload_modules`).
        episode_timeout: seconds after which an episode counts as hanging, its actor is killed and its ticket
            played again; `None` for never. Episodes that travel together count as one: they are expected to
            take some milliseconds all in all.

    Raises:
        SettingError: there is no cluster at the address, or it cannot be joined.
        CollectorError: Ray cannot start on this machine.
    """

    def __init__(
        self,
        n_workers: int,
        *,
        address: str | None = None,
        preload: Sequence[str] = (POLICY_PRELOAD,),
        episode_timeout: float | None = None,
    ) -> None:
        self._is_ours = connect(address)
        store = ObjectStore()
        numbers = itertools.count(1)
        actor_class = ray.remote(
            num_cpus=cpus_per_worker(cpus_of_nodes(), n_workers),
            scheduling_strategy="SPREAD",
            enable_task_events=False,
        )(ActorWorker)

        def make_pool(size: int, report: Callable[[Report], None]) -> ActorPool:  # noqa: ARG001  (always 1)
            return ActorPool(next(numbers), partial(_launch, actor_class), tuple(preload), store, report)

        super().__init__(n_workers, store, partial(Dispatcher, [1] * n_workers, make_pool, episode_timeout))

    def close(self) -> None:
        """End the actors at once, and Ray if it was started or joined here."""
        try:
            super().close()
        finally:
            if self._is_ours:
                self._is_ours = False
                ray.shutdown()


class ObjectStore:
    """Hands policy weights to actors through Ray's object store: once a version to each machine."""

    def __init__(self) -> None:
        self._references: dict[int, Any] = {}

    def write(self, snapshot: Snapshot) -> None:
        """Make a version readable."""
        self._references[snapshot.version] = ray.put(snapshot)

    def reference(self, version: int) -> Any:
        """What to pass to an actor in a snapshot's place."""
        return self._references[version]

    def __contains__(self, version: object) -> bool:
        return version in self._references

    def keep(self, versions: set[int]) -> None:
        """Forget all versions but these."""
        for version in self._references.keys() - versions:
            del self._references[version]

    def close(self) -> None:
        """Forget all versions."""
        self._references.clear()


class ActorWorker:
    """What runs in an actor."""

    def __init__(self) -> None:
        self._player = Player()
        self._snapshot: Snapshot | None = None

    def show_up(self, import_path: Sequence[str], preload: Sequence[str]) -> None:
        """Load what playing needs; environments are looked for where the learner finds them, too."""
        sys.path.extend(place for place in import_path if place not in sys.path)
        for module in preload:
            importlib.import_module(module)

    def play(self, pickled: bytes, snapshot: Snapshot | None) -> bytes:
        """Play tickets of one version, in order.

        Args:
            pickled: a tuple of at least one ticket.
            snapshot: of their version, weights mapped from the object store; `None` for the last call's.

        Returns:
            Pickled: the episodes or the error they ended with, and this machine's monotonic clock in seconds.

        Raises:
            RuntimeError: the last call had another version, since the one in between never arrived.
        """
        tickets: tuple[Ticket, ...] = pickle.loads(pickled)
        if snapshot is not None:  # a copy: code is compiled anew for arrays that cannot be written
            self._snapshot = replace(snapshot, parameters=snapshot.parameters.copy())
        if self._snapshot is None or self._snapshot.version != tickets[0].version:
            raise RuntimeError(f"the policy of {tickets[0]} has not arrived")
        try:
            return pickle.dumps((self._player.play(tickets, self._snapshot), time.monotonic()))
        except WorkflowRLError as error:  # not kept: its traceback has all that the environment held
            return pickle.dumps((error, time.monotonic()))


def _launch(actor_class: Any) -> Any:
    return actor_class.remote()


class ActorPool:
    """One actor, as the dispatcher knows pools of workers.

    Args:
        number: by which its episodes tell it from other workers.
        launch: starts an actor; returns its handle at once, wherever and whenever Ray finds a place for it.
        preload: modules that it imports before it is ready.
        store: has the snapshots.
        report: called in a thread of Ray's, with what happened.

    Attributes:
        num_workers: 1.
        calls: handed in and not come back, by number; the actor plays the first.
        has_played: whether a call has come back.
    """

    def __init__(
        self,
        number: int,
        launch: Callable[[], Any],
        preload: tuple[str, ...],
        store: ObjectStore,
        report: Callable[[Report], None],
    ) -> None:
        self.num_workers = 1
        self.calls: dict[int, Call] = {}
        self.has_played = False
        self._number = number
        self._launch = launch
        self._preload = preload
        self._store = store
        self._report = report
        self._actor: Any = None
        self._is_ready = False
        self._is_broken = False
        self._version: int | None = None
        self._failure = _BYSTANDER
        self._first_since = 0.0
        self._call_seconds = math.inf
        self._clock_offset = math.inf

    @property
    def is_ready(self) -> bool:
        """Whether it takes calls: the actor has started and is not lost, as far as is known."""
        return self._is_ready and not self._is_broken

    @property
    def num_prefetched(self) -> int:
        """Calls that it should have beyond its workers: one if calls are short."""
        return 1 if self._call_seconds < _SHORT_CALL_SECONDS else 0

    def start(self) -> None:
        """Ask Ray for the actor; returns at once. The pool reports when it takes calls."""
        self._actor = self._launch()
        self._actor.show_up.remote(sys.path, self._preload).future().add_done_callback(self._on_shown_up)

    def hand_in(self, call: Call) -> None:
        """Queue a call."""
        if not self.calls:
            self._first_since = time.monotonic()
        self.calls[call.number] = call
        version = call.tickets[0].version
        news = None if version == self._version else self._store.reference(version)
        self._version = version
        reply = self._actor.play.remote(pickle.dumps(call.tickets), news).future()
        reply.add_done_callback(partial(self._on_done, call))

    def take_back(self, call: Call) -> None:
        """Count a call as come back."""
        now = time.monotonic()
        self._call_seconds = now - self._first_since
        self._first_since = now
        del self.calls[call.number]
        self.has_played = True

    def failure_of(self, call: Call) -> Failure:
        """What became of a call that the actor had when it was lost: the first is to blame."""
        return self._failure if call.number == next(iter(self.calls)) else _BYSTANDER

    def look_after(self, episode_timeout: float | None) -> None:
        """Kill the actor if its call began too many seconds ago."""
        if episode_timeout is None or not (self.is_ready and self.calls):
            return
        if time.monotonic() - self._first_since > episode_timeout:
            detail = f"it took more than {episode_timeout:g} seconds and its worker was killed"
            self._on_lost(Failure(Cause.HUNG, detail))

    def kill(self) -> None:
        """End the actor at once, without waiting for it."""
        if self._actor is not None:
            ray.kill(self._actor)

    def terminate(self) -> list[BaseProcess]:
        """End the actor; it is no child of this process."""
        self.kill()
        return []

    def _on_shown_up(self, future: Future[None]) -> None:
        error = future.exception()
        if error is None:
            self._is_ready = True
            self._report(PoolReady(self))
        elif isinstance(error, RayTaskError) or getattr(error, "actor_init_failed", False):
            reason = str(error).strip().splitlines()[-1]
            self._report(PoolBroke(self, CollectorError(f"a Ray actor could not start: {reason}")))
        else:
            self._on_lost(_BYSTANDER)

    def _on_done(self, call: Call, future: Future[bytes]) -> None:
        error = future.exception()
        if error is None:
            self._report(CallEnded(self, call, self._read(future.result())))
        elif isinstance(error, RayTaskError) and not isinstance(error.cause, RayError):
            self._version = None  # it may not have arrived
            error.cause.__cause__ = error  # has the traceback of the actor
            self._report(CallEnded(self, call, error.cause))
        else:
            self._on_lost(Failure(Cause.DIED, f"its Ray actor was lost: {_reason(error)}"))

    def _on_lost(self, failure: Failure) -> None:
        """Report it, once."""
        if not self._is_broken:
            self._failure = failure
            self._is_broken = True
            self._report(PoolBroke(self))

    def _read(self, reply: bytes) -> Episodes | Exception:
        """What an actor sent, in the learner's time."""
        now = time.monotonic()
        try:
            outcome, sent = pickle.loads(reply)
        except Exception as error:  # noqa: BLE001  (whatever it is, it is about this call)
            return error
        if not isinstance(outcome, Episodes):
            return outcome  # type: ignore[no-any-return]
        self._clock_offset = min(self._clock_offset, now - sent)
        return replace(
            outcome,
            started=outcome.started + self._clock_offset,
            worker=np.full(len(outcome), self._number, np.int32),
        )


def _reason(error: BaseException) -> str:
    """Why an actor was lost, in a sentence of Ray's."""
    *_, last = str(error).strip().splitlines() or [type(error).__name__]
    return last.strip().partition(". ")[0]
