"""What orders are worth, as a table: a row for each order, attacker and length of training, in a CSV file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from workflow_rl.errors import SettingError
from workflow_rl.evaluation import Score
from workflow_rl.run_directory import RunDirectory


@dataclass(frozen=True, order=True)
class Trained:
    """Which policy a row is about.

    Attributes:
        red_agent: the attacker.
        training: "order", a policy for each order; or "universal", one for all.
        alignment: scheme of the training.
        seed: of the training.
        order: that the policy was told.
        episodes: of training; those of a universal policy are of all orders together.
    """

    red_agent: str
    training: str
    alignment: str
    seed: int
    order: str
    episodes: int


@dataclass(frozen=True)
class Worth:
    """What a policy came to on fresh episodes.

    Attributes:
        reward: mean return in the environment's own reward.
        standard_error: of that mean.
        compliance: by the true state; `None` (an empty cell) without a fix to judge.
        observed_compliance: by what blue's observation showed.
    """

    reward: float
    standard_error: float
    compliance: float | None
    observed_compliance: float | None

    @classmethod
    def of(cls, score: Score) -> Worth:
        """An evaluation, to the digits that it tells."""
        return cls(
            reward=round(score.reward, 3),
            standard_error=round(score.reward_standard_error, 3),
            compliance=_rounded(score.compliance),
            observed_compliance=_rounded(score.observed_compliance),
        )


def _rounded(rate: float | None) -> float | None:
    return None if rate is None else round(rate, 4)


_COLUMNS = tuple(field.name for kind in (Trained, Worth) for field in fields(kind))


class ScoreTable:
    """A table that grows, kept in a file.

    Args:
        file: where; its rows are read if it exists.

    Raises:
        SettingError: the file cannot be read.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self.rows: dict[Trained, Worth] = {}
        if file.exists():
            try:
                with file.open(newline="", encoding="utf-8") as text:
                    self.rows = dict(_parse(row) for row in csv.DictReader(text, strict=True))
            except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
                raise SettingError(f"{file} is no table of scores: {error!r}") from error

    def add(self, rows: Iterable[tuple[Trained, Worth]]) -> None:
        """Take in rows and write the file anew, sorted; whoever reads it finds the old or the new one.

        Raises:
            RunDirectoryError: it cannot be written.
        """
        self.rows.update(rows)
        text = io.StringIO()
        writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({**asdict(trained), **asdict(worth)} for trained, worth in sorted(self.rows.items()))
        RunDirectory(self._file.parent).write_bytes(self._file.name, text.getvalue().encode())


def _parse(row: dict[str, str]) -> tuple[Trained, Worth]:
    trained = Trained(
        row["red_agent"],
        row["training"],
        row["alignment"],
        int(row["seed"]),
        row["order"],
        int(row["episodes"]),
    )
    return trained, Worth(
        float(row["reward"]),
        float(row["standard_error"]),
        _parse_rate(row["compliance"]),
        _parse_rate(row["observed_compliance"]),
    )


def _parse_rate(cell: str) -> float | None:
    return float(cell) if cell else None
