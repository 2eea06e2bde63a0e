"""The logs of a run: what a row of each says, and how it stands in its file.

    training_log.csv     one row per update        (`TrainingRow`)
    search_log.csv       one row per trial of an order (`SearchRow`)
    learning_log.csv     instead of these two on a Gymnasium environment: one row per update (`LearningRow`)
    validation_log.csv   beside it for a defender: one row per validation (`ValidationRow`)
    ranking.csv          all orders, best first    (`RankingRow`)

`run_directory` writes them; `read_training_log` and the like read them, while they grow too. A last line that
does not end was torn when a machine lost power, and is skipped.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from workflow_rl.errors import RunDirectoryError

TRAINING_LOG = "training_log.csv"
SEARCH_LOG = "search_log.csv"
LEARNING_LOG = "learning_log.csv"
VALIDATION_LOG = "validation_log.csv"
RANKING = "ranking.csv"


@dataclass(frozen=True)
class TrainingRow:
    """One update, a row of training_log.csv.

    Attributes:
        workflow_id: index of the order in training, 0..119; `None` (an empty cell) for all.
        workflow_order: its host types, most urgent first, separated by commas; "all" for all.
        update: updates of this training so far, from 1; a trial that goes on from another counts on.
        episodes: episodes of this trial so far.
        total_episodes: training episodes of the run so far.
        env_reward: mean return of the batch in the simulator's own reward.
        alignment_reward: mean alignment return of the batch.
        total_reward: their sum.
        compliance: of the batch's fixes, 0..1; `None` (an empty cell) without a fix to judge.
        fixes_per_episode: mean number of fixes.
        collection_seconds: time the learner waited for the batch.
        update_seconds: time the update took.
        episodes_per_second: of the batch, collection and update together.
        policy_lag: updates between the policy that played the batch and the one that learnt from it.
        observed_compliance: as `compliance`, judged by what blue's observation showed.
        alignment_weight: lambda, by which the alignment reward was weighed.
    """

    workflow_id: int | None
    workflow_order: str
    update: int
    episodes: int
    total_episodes: int
    env_reward: float
    alignment_reward: float
    total_reward: float
    compliance: float | None
    fixes_per_episode: float
    collection_seconds: float
    update_seconds: float
    episodes_per_second: float
    policy_lag: int
    observed_compliance: float | None
    alignment_weight: float


@dataclass(frozen=True)
class SearchRow:
    """One trial of an order, a row of search_log.csv.

    Attributes:
        iteration: number of the trial, from 0.
        workflow: the order, host types separated by commas.
        ucb: its upper confidence bound when it was chosen; `None` (an empty cell), like `mean` and `std`, if
            nothing was known yet or no search chose it.
        mean: the reward that was expected.
        std: standard deviation of that expectation.
        evaluated_reward: mean return over fresh episodes, in the simulator's own reward.
        evaluated_reward_standard_error: of that mean.
        compliance: of the evaluated policy, 0..1; `None` without a fix to judge.
        episodes: training episodes spent on the trial; of a universal policy those of all orders together.
        met_threshold: whether the compliance met the run's threshold.
        observed_compliance: as `compliance`, judged by what blue's observation showed.
        continues: number of the order's trial before; `None` (an empty cell) if this is its first.
        begins_with: number of the trial whose policy it began with; `None` is fresh weights.
        policy: the file of the policy that earned this; that of an earlier trial if more training spoilt it.
    """

    iteration: int
    workflow: str
    ucb: float | None
    mean: float | None
    std: float | None
    evaluated_reward: float
    evaluated_reward_standard_error: float
    compliance: float | None
    episodes: int
    met_threshold: bool
    observed_compliance: float | None
    continues: int | None
    begins_with: int | None
    policy: str


@dataclass(frozen=True)
class RankingRow:
    """An order, or several that no rule tells apart, and what is known of it: a row of ranking.csv.

    Attributes:
        rank: from 1; orders that one policy serves share it.
        workflow: the order, host types separated by commas.
        status: "kept" by its own policy; "served" by another order's, which keeps to it too and is believed
            to earn more; without a policy that keeps to it as well as the threshold demands "missed" if it
            was trained, "predicted" from other orders if it was not.
        reward: expected of that policy, in the simulator's own reward.
        lower: end of the 95 % interval of that.
        upper: its other end.
        chance_to_be_best: that no other order earns more, as far as policies are trained; orders that one
            policy serves each have the whole chance, those that are missed none.
        compliance: of that policy with this order, 0..1; `None` (an empty cell) without one.
        observed_compliance: as `compliance`, judged by what blue's observation showed.
        episodes: training episodes spent on the order itself.
        policy_of: the order that the policy was trained for, and is told; `None` without a policy.
        policy: file of that policy.
        equivalent_orders: the others, separated by semicolons.
    """

    rank: int
    workflow: str
    status: str
    reward: float
    lower: float
    upper: float
    chance_to_be_best: float
    compliance: float | None
    observed_compliance: float | None
    episodes: int
    policy_of: str | None
    policy: str | None
    equivalent_orders: str

    @property
    def orders(self) -> tuple[str, ...]:
        """All that it is of: the order, then the equivalent ones."""
        return (self.workflow, *filter(None, self.equivalent_orders.split(";")))


@dataclass(frozen=True)
class LearningRow:
    """One update on a Gymnasium environment, a row of learning_log.csv.

    Attributes:
        update: number of updates, from 1.
        episodes: learnt from so far.
        steps: learnt from so far.
        mean_return: of the batch's episodes, in the environment's own reward.
        mean_length: of the batch's episodes, in steps.
        collection_seconds: time the learner waited for the batch.
        update_seconds: time the update took.
        policy_lag: updates between the policy that played the batch and the one that learnt from it.
    """

    update: int
    episodes: int
    steps: int
    mean_return: float
    mean_length: float
    collection_seconds: float
    update_seconds: float
    policy_lag: int


@dataclass(frozen=True)
class ValidationRow:
    """One validation of a defender, a row of validation_log.csv.

    Attributes:
        update: number of updates of the training so far.
        episodes: learnt from so far, by all beginnings of the run.
        beginning: which of them this is, from 0.
        seconds: since the start of the run, start-up and validations included, over all its sittings.
        total: sum of the mean returns of the challenge's nine cells.
        total_half_width: half of its 95 % interval.
        is_best: whether no earlier one was better, so that the policy was kept.
    """

    update: int
    episodes: int
    beginning: int
    seconds: float
    total: float
    total_half_width: float
    is_best: bool


TRAINING_COLUMNS = tuple(field.name for field in fields(TrainingRow))
SEARCH_COLUMNS = tuple(field.name for field in fields(SearchRow))
LEARNING_COLUMNS = tuple(field.name for field in fields(LearningRow))
VALIDATION_COLUMNS = tuple(field.name for field in fields(ValidationRow))
RANKING_COLUMNS = tuple(field.name for field in fields(RankingRow))

COLUMNS: Mapping[str, tuple[str, ...]] = {
    TRAINING_LOG: TRAINING_COLUMNS,
    SEARCH_LOG: SEARCH_COLUMNS,
    LEARNING_LOG: LEARNING_COLUMNS,
    VALIDATION_LOG: VALIDATION_COLUMNS,
}
"""Of the logs that grow, by file name."""

_Row = TypeVar("_Row", TrainingRow, SearchRow, LearningRow, ValidationRow, RankingRow)


def read_training_log(run_directory: Path) -> tuple[TrainingRow, ...]:
    """All whole rows of a run's training_log.csv, which may still be growing.

    Raises:
        RunDirectoryError: it is missing or damaged.
    """
    return _read_log(run_directory / TRAINING_LOG, TrainingRow)


def read_search_log(run_directory: Path) -> tuple[SearchRow, ...]:
    """All whole rows of a run's search_log.csv, which may still be growing.

    Raises:
        RunDirectoryError: it is missing or damaged.
    """
    return _read_log(run_directory / SEARCH_LOG, SearchRow)


def read_learning_log(run_directory: Path) -> tuple[LearningRow, ...]:
    """All whole rows of a run's learning_log.csv, which may still be growing.

    Raises:
        RunDirectoryError: it is missing or damaged.
    """
    return _read_log(run_directory / LEARNING_LOG, LearningRow)


def read_validation_log(run_directory: Path) -> tuple[ValidationRow, ...]:
    """All whole rows of a run's validation_log.csv, which may still be growing.

    Raises:
        RunDirectoryError: it is missing or damaged.
    """
    return _read_log(run_directory / VALIDATION_LOG, ValidationRow)


def read_ranking(run_directory: Path) -> tuple[RankingRow, ...]:
    """All rows of a run's ranking.csv, best order first.

    Raises:
        RunDirectoryError: it is missing or damaged.
    """
    return _read_log(run_directory / RANKING, RankingRow)


def _read_log(path: Path, kind: type[_Row]) -> tuple[_Row, ...]:
    types = get_type_hints(kind)
    lines = whole_rows(path, tuple(types))
    return tuple(kind(**_parse_row(path, line, types)) for line in lines)


def whole_rows(path: Path, columns: tuple[str, ...]) -> list[str]:
    """The lines after the header, without a torn last one, each with its line end.

    Raises:
        RunDirectoryError: it cannot be read, or its header names other columns.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except (OSError, ValueError) as error:
        raise RunDirectoryError(f"{path} cannot be read: {error}") from error
    whole = [line for line in lines if line.endswith("\n")]
    if whole and whole[0] != csv_line(columns):
        raise RunDirectoryError(
            f"{path} is damaged or of another version: its columns are not {','.join(columns)}"
        )
    return whole[1:]


def _parse_row(path: Path, line: str, types: Mapping[str, Any]) -> dict[str, Any]:
    (cells,) = csv.reader([line])
    try:
        return {name: _parse_cell(cell, types[name]) for name, cell in zip(types, cells, strict=True)}
    except ValueError as error:
        raise RunDirectoryError(f"{path} is damaged: {line.strip()!r} is no row of it: {error}") from error


def _parse_cell(cell: str, kind: Any) -> Any:
    if kind in (float | None, int | None, str | None):
        return get_args(kind)[0](cell) if cell else None
    if kind is bool:
        return ("False", "True").index(cell) == 1
    return kind(cell)


def csv_line(cells: Any) -> str:
    """One line of CSV; floats are written so that they read back exactly."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()
