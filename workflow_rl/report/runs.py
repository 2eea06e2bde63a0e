"""What run directories hold, read for a report.

A run may be unfinished, or may never have begun its search: what is not there yet is empty. A run of
`workflow-rl search` is a directory of runs, and is read as those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from workflow_rl.errors import RunDirectoryError
from workflow_rl.run_directory import CONFIG, SUMMARY, RunDirectory
from workflow_rl.run_log import (
    LEARNING_LOG,
    RANKING,
    SEARCH_LOG,
    TRAINING_LOG,
    VALIDATION_LOG,
    LearningRow,
    RankingRow,
    SearchRow,
    TrainingRow,
    ValidationRow,
    read_learning_log,
    read_ranking,
    read_search_log,
    read_training_log,
    read_validation_log,
)
from workflow_rl.run_opening import kind_of_run
from workflow_rl.sittings import Sitting, read_sittings

_Row = TypeVar("_Row")


@dataclass(frozen=True)
class ProtocolScore:
    """What `workflow-rl evaluate --protocol cage2 --json` wrote.

    Attributes:
        file: its name.
        rules: of the simulator that scored.
        means: by attacker and horizon.
        total: sum of the means.
        half_width: of its 95 % interval.
    """

    file: str
    rules: str
    means: Mapping[tuple[str, int], float]
    total: float
    half_width: float


@dataclass(frozen=True)
class Run:
    """A run as far as it has got.

    Attributes:
        label: tells it from the others of the report.
        path: of its directory.
        command: that it is of: "train", "train-env", "train-defender".
        settings: by name.
        summary: contents of summary.json; empty before the end of a sitting.
        training: rows of training_log.csv.
        learning: rows of learning_log.csv.
        validation: rows of validation_log.csv.
        search: rows of search_log.csv.
        ranking: rows of ranking.csv.
        protocol_scores: evaluations by the challenge's protocol that lie in the directory.
        sittings: when it was started and resumed, and with what; see `sittings.read_sittings`.
    """

    label: str
    path: Path
    command: str
    settings: Mapping[str, Any]
    summary: Mapping[str, Any]
    training: tuple[TrainingRow, ...]
    learning: tuple[LearningRow, ...]
    validation: tuple[ValidationRow, ...]
    search: tuple[SearchRow, ...]
    ranking: tuple[RankingRow, ...]
    protocol_scores: tuple[ProtocolScore, ...]
    sittings: tuple[Sitting, ...]

    @property
    def is_complete(self) -> bool:
        """Whether it ended by itself."""
        return bool(self.summary.get("is_complete"))

    @property
    def num_episodes(self) -> int:
        """Learnt from so far."""
        if self.training:
            return self.training[-1].total_episodes
        return self.learning[-1].episodes if self.learning else 0

    @property
    def trace(self) -> Path | None:
        """The trace of its last sitting that has one, where it was written or in the directory; or `None`."""
        written = [sitting.trace for sitting in reversed(self.sittings) if sitting.trace is not None]
        places = [place for trace in written for place in (trace, self.path / trace.name)]
        return next((place for place in places if place.is_file()), None)


def read_runs(paths: Sequence[Path]) -> tuple[Run, ...]:
    """Read the runs in some directories.

    Raises:
        RunDirectoryError: one holds no run, or a file in it is damaged or of another version.
    """
    directories = [directory for path in paths for directory in _directories(path)]
    labels = _labels([directory.resolve() for directory in directories])
    return tuple(_read_run(path, label) for path, label in zip(directories, labels, strict=True))


def _directories(path: Path) -> Iterator[Path]:
    """The directory itself, or those of the runs that a search of all attackers is made of."""
    if not path.is_dir():
        raise RunDirectoryError(f"{path} is no directory; name the directory of a run")
    parts = [] if kind_of_run(path).command != "search" else sorted(path.glob(f"*/{CONFIG}"))
    yield from (part.parent for part in parts)
    if not parts:
        yield path


def _labels(paths: Sequence[Path]) -> list[str]:
    """The last part of each path, or as many parts as tell all of them apart."""
    for length in range(1, max(len(path.parts) for path in paths) + 1):
        labels = ["/".join(path.parts[-length:]) for path in paths]
        if len(set(labels)) == len(labels):
            return labels
    raise RunDirectoryError(f"{paths[0]} is named twice; name each run once")


def _read_run(path: Path, label: str) -> Run:
    directory = RunDirectory(path)
    return Run(
        label=label,
        path=path,
        command=kind_of_run(path).command,
        settings=directory.read_json(CONFIG),
        summary=directory.read_json(SUMMARY) or {},
        training=_rows(path, TRAINING_LOG, read_training_log),
        learning=_rows(path, LEARNING_LOG, read_learning_log),
        validation=_rows(path, VALIDATION_LOG, read_validation_log),
        search=_rows(path, SEARCH_LOG, read_search_log),
        ranking=_rows(path, RANKING, read_ranking),
        protocol_scores=tuple(_protocol_scores(directory)),
        sittings=read_sittings(directory),
    )


def _rows(path: Path, name: str, read: Callable[[Path], tuple[_Row, ...]]) -> tuple[_Row, ...]:
    return read(path) if (path / name).exists() else ()


def _protocol_scores(directory: RunDirectory) -> Iterator[ProtocolScore]:
    for file in sorted(directory.path.glob("*.json")):
        content = directory.read_json(file.name)
        if isinstance(content, dict) and "total_half_width_95" in content:
            yield ProtocolScore(
                file=file.name,
                rules=content["environment"]["kwargs"].get("rules", "2.1"),
                means={(cell["red_agent"], cell["horizon"]): cell["mean"] for cell in content["cells"]},
                total=content["total"],
                half_width=content["total_half_width_95"],
            )
