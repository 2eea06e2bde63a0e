"""What a run keeps beside what it learns, over all its sittings: times, retries, rows of logs, checkpoints.

A run that is stopped and resumed has several sittings, each in a process of its own. What they have in common
goes through the checkpoints that are written here, so that the figures of the last sitting are the run's.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from numpy.typing import NDArray

from workflow_rl.checkpoint import Checkpoint, save_checkpoint
from workflow_rl.collectors import Collector
from workflow_rl.errors import RunDirectoryError
from workflow_rl.pipeline import Round
from workflow_rl.retry_log import RetryLog
from workflow_rl.run_directory import RunDirectory
from workflow_rl.settings import EnvironmentTrainSettings, TrainSettings


@dataclass
class _Clock:
    """Where the time went, over all sittings of a run."""

    wall_seconds: float = 0.0
    collection_seconds: float = 0.0
    update_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    cold_seconds: float | None = None
    cold_episodes: int = 0
    warm_seconds: float = 0.0
    warm_episodes: int = 0
    round_seconds: float = 0.0
    playing_seconds: float = 0.0

    def count(self, done: Round, seconds_since_launch: float) -> None:
        """Add one update. The first batch of a run is the cold one: it includes start-up."""
        self.collection_seconds += done.collection_seconds
        self.update_seconds += done.update_seconds
        self.round_seconds += done.round_seconds
        self.playing_seconds += done.playing_seconds
        if self.cold_seconds is None:
            self.cold_seconds = seconds_since_launch
            self.cold_episodes = done.batch_size
        else:
            self.warm_seconds += done.round_seconds
            self.warm_episodes += done.batch_size


class RunRecord:
    """The record of one run, kept by the sitting that goes on now.

    Args:
        directory: of the run.
        collector: plays its episodes.
        settings: of the run.
        launched: when the program started, seconds of the monotonic clock; start-up counts from there.
        checkpoint: to go on from; `None` starts from the beginning.

    Raises:
        RunDirectoryError: the checkpoint is of another version.
    """

    def __init__(
        self,
        directory: RunDirectory,
        collector: Collector,
        settings: TrainSettings | EnvironmentTrainSettings,
        launched: float,
        checkpoint: Checkpoint | None,
    ) -> None:
        self._directory = directory
        self._num_players = collector.num_players
        self._checkpoint_seconds = settings.checkpoints.checkpoint_seconds
        self._launched = launched
        self._last_checkpoint = time.monotonic()
        self._retry_log = RetryLog(directory, collector)
        self._clock = _Clock()
        self._rows: Counter[str] = Counter()
        if checkpoint is not None:
            with self.version_errors():
                self._clock = _Clock(**checkpoint.state["clock"])
                self._rows = Counter(checkpoint.state["rows"])
        self._seconds_before = self._clock.wall_seconds

    @contextmanager
    def version_errors(self) -> Iterator[None]:
        """A checkpoint is only read if it is whole, so what does not fit comes from another version."""
        try:
            yield
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise RunDirectoryError(
                f"the checkpoint in {self._directory.path} is of another version: {error!r}"
            ) from error

    def cut_logs(self, *logs: str) -> None:
        """Drop the rows that logs got after the checkpoint: they will be written again.

        Raises:
            RunDirectoryError: a log is damaged or cannot be written.
        """
        for log in logs:
            self._directory.cut_log(log, self._rows[log])

    def append_row(self, log: str, row: Mapping[str, Any]) -> None:
        """Add one row to a log of the run, see `RunDirectory.append_row`."""
        self._rows[log] += 1
        self._directory.append_row(log, row)

    def count_round(self, done: Round) -> None:
        """Take in one more update."""
        self._clock.count(done, time.monotonic() - self._launched)
        self._retry_log.update()

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Count what happens as evaluation."""
        start = time.monotonic()
        yield
        self._clock.evaluation_seconds += time.monotonic() - start

    @contextmanager
    def keeping_retries(self) -> Iterator[None]:
        """See that all retries are written down at the end, however it comes."""
        try:
            yield
        finally:
            self._retry_log.update()

    @property
    def is_checkpoint_due(self) -> bool:
        """Whether the last checkpoint (the start of the sitting) is as long ago as the settings say."""
        return time.monotonic() - self._last_checkpoint >= self._checkpoint_seconds

    def save(self, state: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write a checkpoint of the run.

        Args:
            state: what it needs beside this record, JSON values.
            arrays: the same, see `Checkpoint`.

        Raises:
            RunDirectoryError: it cannot be written.
        """
        self._clock.wall_seconds = self.wall_seconds()
        self._directory.flush()  # the checkpoint tells how many rows the logs have
        record = {"clock": asdict(self._clock), "rows": dict(self._rows)}
        save_checkpoint(self._directory, Checkpoint({**record, **state}, arrays))
        self._last_checkpoint = time.monotonic()

    def wall_seconds(self) -> float:
        """Of all sittings so far, start-up included."""
        return self._seconds_before + time.monotonic() - self._launched

    def speed_scalars(self, done: Round) -> dict[str, float | None]:
        """Where the time of a round went, for TensorBoard."""
        return {
            "speed/collection_seconds": done.collection_seconds,
            "speed/update_seconds": done.update_seconds,
            "speed/learner_idle_fraction": done.collection_seconds / done.round_seconds,
            "speed/worker_busy_fraction": self._busy_fraction(done.playing_seconds, done.round_seconds),
        }

    def summary(self) -> dict[str, Any]:
        """Times and retries of all sittings, for summary.json."""
        clock = self._clock
        retries = self._retry_log.count_by_cause()
        return {
            "wall_seconds": self.wall_seconds(),
            "cold_episodes_per_second": _rate(clock.cold_episodes, clock.cold_seconds),
            "warm_episodes_per_second": _rate(clock.warm_episodes, clock.warm_seconds),
            "collection_seconds": clock.collection_seconds,
            "update_seconds": clock.update_seconds,
            "evaluation_seconds": clock.evaluation_seconds,
            "learner_idle_fraction": _rate(clock.collection_seconds, clock.round_seconds),
            "worker_busy_fraction": self._busy_fraction(clock.playing_seconds, clock.round_seconds),
            "retries": sum(retries.values()),
            "retries_by_cause": retries,
        }

    def _busy_fraction(self, playing_seconds: float, round_seconds: float) -> float | None:
        """Share of the players' time in which they played.

        Of a single round it may exceed 1, since part of the batch was played in rounds before it.
        """
        return _rate(playing_seconds, round_seconds * self._num_players)


def _rate(count: float, seconds: float | None) -> float | None:
    return count / seconds if seconds else None
