"""Draws what a run does when, as a trace that Perfetto (ui.perfetto.dev) and chrome://tracing show.

    learner      | wait  |  update 0  |wait|  update 1  |      waits for a batch, then learns from it
    worker 1     | episode 0 |   episode 5   | episode 8 ...   one row per worker, one slice per episode
    worker 2     |  episode 1   | episode 6 |  episode 7 ...

`TracedCollector` stands between the training loop and a collector, and sees all there is to see: episodes say
when, where and how long they were played (the monotonic clock is the same in all processes of a machine), and
whatever the learner does between collecting a training batch and publishing the next snapshot is its update.

The file is a JSON array of events (the "JSON Array Format" of Google's "Trace Event Format", 2016), written
batch by batch. The format allows the closing bracket to be missing, so the file of a killed run can be opened
like any other. Each episode takes about 200 bytes; episodes that were played together in one compiled call
share its time evenly.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from workflow_rl.closing import Closing
from workflow_rl.collectors import Collector, make_collector
from workflow_rl.collectors.attempts import Retry
from workflow_rl.episode import EnvironmentSpec, Episodes, Snapshot, Ticket
from workflow_rl.errors import SettingError
from workflow_rl.seeding import Stream
from workflow_rl.settings import CollectorSettings

_MICROSECONDS = 1e6
_LEARNER = 0
"""Row of the learner; rows of workers have their process ids or numbers."""


class TraceFile:
    """A trace that is being written; it starts now. Times are seconds of the monotonic clock.

    Args:
        path: of the file, overwritten; its directory is made.

    Raises:
        SettingError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._start = time.monotonic()
        self._process = os.getpid()
        self._rows: set[int] = set()
        self._path = path
        with self._write_errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("w", encoding="utf-8")
            self._file.write("[\n" + self._metadata("process_name", _LEARNER, name="workflow_rl"))
        self.name_row(_LEARNER, "learner")

    def name_row(self, row: int, name: str) -> None:
        """Give a row its name, once; rows are shown in the order in which they were named."""
        if row not in self._rows:
            self._add(self._metadata("thread_name", row, name=name))
            self._add(self._metadata("thread_sort_index", row, sort_index=len(self._rows)))
            self._rows.add(row)

    def add_slice(self, row: int, name: str, start: float, seconds: float, **details: Any) -> None:
        """Something that took a while."""
        self._add(self._event("X", name, row, start, dur=round(seconds * _MICROSECONDS, 1), args=details))

    def add_instant(self, row: int, name: str, at: float) -> None:
        """Something that happened."""
        self._add(self._event("i", name, row, at, s="p"))

    @property
    def num_rows(self) -> int:
        """Rows named so far."""
        return len(self._rows)

    def flush(self) -> None:
        """Hand all events to the operating system: a kill loses none of them.

        Raises:
            SettingError: they cannot be written, e.g. to a full disk.
        """
        with self._write_errors():
            self._file.flush()

    def close(self) -> None:
        """Complete the array. May be called twice.

        Raises:
            SettingError: it cannot be written.
        """
        if not self._file.closed:
            with self._write_errors(), self._file:
                self._file.write("\n]\n")

    def _add(self, event: str) -> None:
        with self._write_errors():
            self._file.write(",\n" + event)

    @contextmanager
    def _write_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SettingError(
                f"--trace {self._path} cannot be written: {error.strerror or error}"
            ) from error

    def _event(self, phase: str, name: str, row: int, at: float, **more: Any) -> str:
        timestamp = round((at - self._start) * _MICROSECONDS, 1)
        return json.dumps(
            {"ph": phase, "name": name, "pid": self._process, "tid": row, "ts": timestamp, **more}
        )

    def _metadata(self, kind: str, row: int, **details: Any) -> str:
        return json.dumps({"ph": "M", "name": kind, "pid": self._process, "tid": row, "args": details})


class TracedCollector(Closing):
    """A collector whose work is drawn; what it plays is what the collector inside it plays.

    Args:
        collector: closed together with this one.
        path: of the trace.

    Raises:
        SettingError: the file cannot be written.
    """

    def __init__(self, collector: Collector, path: Path) -> None:
        self._collector = collector
        self._trace = TraceFile(path)
        self._retries_seen = 0
        self._updating: tuple[int, float] | None = None

    @property
    def num_players(self) -> int:
        """Of the collector inside."""
        return self._collector.num_players

    @property
    def retries(self) -> int:
        """Of the collector inside."""
        return self._collector.retries

    @property
    def retried(self) -> Sequence[Retry]:
        """Of the collector beneath."""
        return self._collector.retried

    def publish(self, snapshot: Snapshot) -> None:
        """Publish; the update that made this snapshot is over."""
        if self._updating is not None:
            batch, start = self._updating
            seconds = time.monotonic() - start
            self._trace.add_slice(
                _LEARNER, f"update {batch}", start, seconds, batch=batch, version=snapshot.version
            )
            self._trace.flush()
            self._updating = None
        self._collector.publish(snapshot)

    def submit(self, tickets: Sequence[Ticket]) -> None:
        """Submit."""
        self._collector.submit(tickets)

    def collect(self, batch: int) -> Episodes:
        """Collect; draw the wait and the episodes."""
        start = time.monotonic()
        episodes = self._collector.collect(batch)
        end = time.monotonic()
        self._trace.add_slice(_LEARNER, f"wait {batch}", start, end - start, batch=batch)
        self._draw(episodes)
        self._draw_retries(end)
        self._trace.flush()
        if episodes.tickets[0].stream == Stream.TRAINING_EPISODE:
            self._updating = (batch, end)
        return episodes

    def close(self) -> None:
        """Close the collector and complete the trace. Idempotent."""
        self._collector.close()
        self._trace.close()

    def _draw(self, episodes: Episodes) -> None:
        columns = (episodes.worker, episodes.started, episodes.seconds, episodes.lengths)
        rows = zip(episodes.tickets, *(column.tolist() for column in columns), strict=True)
        for ticket, worker, started, seconds, length in rows:
            self._trace.name_row(worker, f"worker {self._trace.num_rows}")
            self._trace.add_slice(
                worker,
                _name_of(ticket),
                started,
                seconds,
                episode=ticket.episode,
                version=ticket.version,
                batch=ticket.batch,
                length=length,
                workflow=ticket.workflow,
            )

    def _draw_retries(self, at: float) -> None:
        if (retries := self._collector.retries) != self._retries_seen:
            self._trace.add_instant(_LEARNER, f"{retries - self._retries_seen} episodes played again", at)
            self._retries_seen = retries


def make_traced_collector(
    settings: CollectorSettings, environment: EnvironmentSpec, trace: Path | None
) -> Collector:
    """The collector that the settings name, traced if there is a file for it.

    Raises:
        SettingError: the file cannot be written.
    """
    collector = make_collector(settings, environment)
    return collector if trace is None else TracedCollector(collector, trace)


def _name_of(ticket: Ticket) -> str:
    kind = "" if ticket.stream == Stream.TRAINING_EPISODE else "evaluation "
    return f"{kind}episode {ticket.episode}"
