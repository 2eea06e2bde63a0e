"""One system's turn of a contest: what is written down while it trains, and what that comes to.

    first batch | batches until it is warm | counted updates ... | batches in flight
    <-- cold -->                           <------ warm -------->

From the end of one update to the end of another a system is in the same state, so nothing is counted that was
not paid for. The batches in flight are learnt from too: their episodes were played during counted updates.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workflow_rl.bench.footprint import CpuSeconds, Footprint, Memory
from workflow_rl.episode import Episodes

_FEWEST_UPDATES = 2
"""Counted in a turn, however slow the system."""

TIMELINE_SECONDS = 3.0


@dataclass(frozen=True)
class Timeline:
    """Who did what in the first `TIMELINE_SECONDS` that count, which begin at 0.

    Attributes:
        episodes: (row of its worker, start, end) of each.
        updates: (start, end) of each.
    """

    episodes: tuple[tuple[int, float, float], ...]
    updates: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Turn:
    """What a system did in one round. Seconds are wall time unless they are said to be CPU time.

    Attributes:
        cold_episodes: of the first batch.
        cold_seconds: from nothing until they were collected.
        updates: counted.
        episodes: learnt from in the counted updates.
        wall_seconds: of the counted updates, collection included.
        update_seconds: that the learner updated; the rest of `wall_seconds` it waited for batches.
        playing_seconds: from the start of a batch's first episode to the end of its last one, summed over
            the counted updates' batches.
        busy_in_updates: share of the workers' time during counted updates in which they played.
        cpu_seconds: CPU time of all processes in `wall_seconds`.
        update_cpu_seconds: CPU time of the learner's process in `update_seconds`.
        memory: at the end of the turn.
        timeline: of the first seconds.
    """

    cold_episodes: int
    cold_seconds: float
    updates: int
    episodes: int
    wall_seconds: float
    update_seconds: float
    playing_seconds: float
    busy_in_updates: float
    cpu_seconds: CpuSeconds
    update_cpu_seconds: float
    memory: Memory
    timeline: Timeline

    @property
    def rate(self) -> float:
        """Episodes per second, warm, updates included."""
        return self.episodes / self.wall_seconds

    @property
    def cold_rate(self) -> float:
        """Episodes per second of the first batch, start-up included."""
        return self.cold_episodes / self.cold_seconds

    @property
    def setup_seconds(self) -> float:
        """What the first batch took beyond the mean time between two updates of a warm system."""
        return self.cold_seconds - self.wall_seconds / self.updates

    @property
    def cpu_per_episode(self) -> float:
        """CPU seconds of all processes, updates included."""
        return (self.cpu_seconds.learner + self.cpu_seconds.others) / self.episodes

    @property
    def playing_cpu_per_episode(self) -> float:
        """CPU seconds of all processes without the updates."""
        return self.cpu_per_episode - self.update_cpu_seconds / self.episodes

    @property
    def foreign_cores(self) -> float:
        """Cores that processes took, on average, that have nothing to do with the system."""
        return self.cpu_seconds.foreign / self.wall_seconds

    @property
    def waiting_seconds(self) -> float:
        """That the learner waited for the counted updates' batches."""
        return self.wall_seconds - self.update_seconds

    @property
    def hidden_collection(self) -> float:
        """Share of the time in which a batch was played that the learner did not wait for it."""
        return max(0.0, 1 - self.waiting_seconds / self.playing_seconds)


@dataclass(frozen=True, eq=False)
class _Update:
    """An update and its batch, in seconds of the monotonic clock.

    Attributes:
        began: when the batch was there.
        ended: when it was learnt from.
        cpu_seconds: of the learner's process, in between.
        worker: who played each episode, (E,) int32.
        played_from: start of each episode, (E,) float64.
        played_until: end of each episode, (E,) float64.
    """

    began: float
    ended: float
    cpu_seconds: float
    worker: NDArray[np.int32]
    played_from: NDArray[np.float64]
    played_until: NDArray[np.float64]


class Watch:
    """Decides how long a turn lasts, and writes down what happens in it. It begins now.

    Args:
        batch_size: episodes of an update.
        seconds: counted, at least, and at least two updates.
        num_uncounted: updates before the first that counts, at least 1.
    """

    def __init__(self, batch_size: int, seconds: float, num_uncounted: int) -> None:
        self._footprint = Footprint()
        self._started = time.monotonic()
        self._batch_size = batch_size
        self._seconds = seconds
        self._num_uncounted = num_uncounted
        self._updates: list[_Update] = []
        self._cpu_before = CpuSeconds(0.0, 0.0, 0.0)
        self._cpu_after: CpuSeconds | None = None
        self._num_counted = 0

    def next_size(self) -> int:
        """Episodes of the next batch, 0 once the turn is over."""
        return self._batch_size if self._cpu_after is None else 0

    @contextmanager
    def updating(self, episodes: Episodes) -> Iterator[None]:
        """An update on a batch, inside the block."""
        began, cpu_before = time.monotonic(), time.process_time()
        yield
        update = _Update(
            began,
            time.monotonic(),
            time.process_time() - cpu_before,
            episodes.worker,
            episodes.started,
            episodes.started + episodes.seconds,
        )
        self._updates.append(update)
        self._count(update)

    def turn(self, num_players: int) -> Turn:
        """What came of it; call it while the system's processes are alive.

        Args:
            num_players: episodes that it plays at the same time at most.
        """
        assert self._cpu_after is not None, "the turn is not over"
        counted = self._updates[self._num_uncounted :][: self._num_counted]
        first, last = self._updates[self._num_uncounted - 1].ended, counted[-1].ended
        return Turn(
            cold_episodes=self._batch_size,
            cold_seconds=self._updates[0].began - self._started,
            updates=len(counted),
            episodes=len(counted) * self._batch_size,
            wall_seconds=last - first,
            update_seconds=sum(update.ended - update.began for update in counted),
            playing_seconds=sum(
                float(update.played_until.max() - update.played_from.min()) for update in counted
            ),
            busy_in_updates=self._busy_in(counted, num_players),
            cpu_seconds=self._cpu_after - self._cpu_before,
            update_cpu_seconds=sum(update.cpu_seconds for update in counted),
            memory=self._footprint.memory(),
            timeline=self._timeline(first),
        )

    def _count(self, update: _Update) -> None:
        """See whether the counted part begins or ends with this update."""
        if len(self._updates) == self._num_uncounted:
            self._cpu_before = self._footprint.cpu_seconds()
        elif len(self._updates) > self._num_uncounted and self._cpu_after is None:
            self._num_counted += 1
            elapsed = update.ended - self._updates[self._num_uncounted - 1].ended
            if self._num_counted >= _FEWEST_UPDATES and elapsed >= self._seconds:
                self._cpu_after = self._footprint.cpu_seconds()

    def _busy_in(self, counted: list[_Update], num_players: int) -> float:
        """Share of the workers' time during these updates in which they played, whatever batch."""
        played_from = np.concatenate([update.played_from for update in self._updates])
        played_until = np.concatenate([update.played_until for update in self._updates])
        busy = sum(
            float(
                np.maximum(
                    np.minimum(played_until, update.ended) - np.maximum(played_from, update.began), 0
                ).sum()
            )
            for update in counted
        )
        return busy / (num_players * sum(update.ended - update.began for update in counted))

    def _timeline(self, start: float) -> Timeline:
        end = start + TIMELINE_SECONDS
        rows: dict[int, int] = {}
        episodes = [
            (rows.setdefault(worker, len(rows)), round(begin - start, 4), round(finish - start, 4))
            for update in self._updates
            for worker, begin, finish in zip(
                update.worker.tolist(), update.played_from.tolist(), update.played_until.tolist(), strict=True
            )
            if begin < end and finish > start
        ]
        updates = [
            (round(update.began - start, 4), round(update.ended - start, 4))
            for update in self._updates
            if update.began < end and update.ended > start
        ]
        return Timeline(tuple(episodes), tuple(updates))
