"""Steps of many episodes at a time, sorted into episodes at the end.

A step of all environments is kept as it comes, a row for each that plays: recording costs a few array
operations, however many there are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from workflow_rl.episode import pack_forbidden


class StepRecord:
    """What was seen and done in attempts to play episodes, which are numbered from 0.

    Attributes:
        is_bits: whether observations are bits.
    """

    def __init__(self) -> None:
        self.is_bits = False
        self._seen_in: list[NDArray[np.int64]] = []
        self._seen: list[NDArray[np.float32]] = []
        self._done_in: list[NDArray[np.int64]] = []
        self._allowed: list[NDArray[np.bool_] | None] = []
        self._done: dict[str, list[NDArray[Any]]] = {}

    def add_observations(self, attempts: NDArray[np.int64], observations: NDArray[np.float32]) -> None:
        """Keep an observation (O,) of each of some attempts (P,), before each step and after the last."""
        self._seen_in.append(attempts)
        self._seen.append(observations)

    def add_step(
        self, attempts: NDArray[np.int64], allowed: NDArray[np.bool_] | None, **columns: NDArray[Any]
    ) -> None:
        """Keep a step of each of some attempts (P,).

        Args:
            attempts: their numbers.
            allowed: actions that were allowed, (P, A); `None` allows all.
            **columns: rows (P, ...) of `Episodes.actions`, `log_probs`, `rewards` and `compromised`.
        """
        self._done_in.append(attempts)
        self._allowed.append(allowed)
        for name, rows in columns.items():
            self._done.setdefault(name, []).append(rows)

    def columns(self, places: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """The columns of `Episodes` that grow with the steps, and `lengths`.

        Args:
            places: of each attempt among the episodes, below 0 if it is none of them.
        """
        seen = _rows_in_order(self._seen_in, places)
        done = _rows_in_order(self._done_in, places)
        num_episodes = np.count_nonzero(places >= 0)
        lengths = np.bincount(places[np.concatenate(self._done_in)[done]], minlength=num_episodes)
        observations = np.concatenate(self._seen)[seen]
        columns = {name: np.concatenate(rows)[done] for name, rows in self._done.items()}
        return {
            **columns,
            "lengths": lengths.astype(np.int32),
            "observations": observations.astype(np.uint8) if self.is_bits else observations,
            "forbidden": self._forbidden(done),
            "rewards": columns["rewards"].astype(np.float32),
            "compromised": columns["compromised"].astype(np.uint8),
        }

    def _forbidden(self, done: NDArray[np.int64]) -> NDArray[np.uint8]:
        if all(allowed is None for allowed in self._allowed):
            return pack_forbidden([None] * len(done))
        rows: list[NDArray[np.bool_] | None] = []
        for attempts, allowed in zip(self._done_in, self._allowed, strict=True):
            rows += [None] * len(attempts) if allowed is None else list(allowed)
        return pack_forbidden([rows[row] for row in done])


def _rows_in_order(attempts: list[NDArray[np.int64]], places: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows of the attempts that have a place, episode by episode, each in the order of its steps."""
    row_places = places[np.concatenate(attempts)]
    return np.argsort(row_places, kind="stable")[np.count_nonzero(row_places < 0) :]
