"""Trainings of a benchmark, kept in a file so that a command that was stopped goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import click

from workflow_rl.bench import report
from workflow_rl.bench.side_by_side import side_by_side
from workflow_rl.errors import SettingError

runs_option = click.option(
    "--runs",
    "runs_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Keep every run's curve here. A run that it holds is not repeated, even if the code has changed.",
)

Settings = Mapping[str, Any]
"""Settings of a run by name, JSON values."""


class Outcome(Protocol):
    """What came of a run: a dataclass of JSON values, with the two figures that are told at once."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def score(self) -> float:
        """Mean return of fresh episodes."""

    @property
    def compliance(self) -> float | None:
        """Of those episodes."""


_Outcome = TypeVar("_Outcome", bound=Outcome)


def parse_settings(changes: Iterable[str]) -> dict[str, Any]:
    """`name=value` of each change as a mapping; values are read as JSON where they can be."""
    pairs = (change.partition("=") for change in changes)
    return {name: _parse_value(value) for name, _, value in pairs}


def _parse_value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


class Runs:
    """What runs came to so far.

    Args:
        file: where it is kept; `None` keeps it in memory.

    Raises:
        SettingError: the file cannot be read or written.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._done: dict[str, dict[str, Any]] = {}
        if file is None:
            return
        report.check_writable(file, "--runs")
        try:
            if file.exists():
                self._done = json.loads(file.read_bytes())
        except (OSError, ValueError) as error:
            raise SettingError(f"--runs {file} cannot be read: {error}") from error

    def learn(
        self,
        learn: Callable[[Settings], _Outcome],
        runs: Sequence[Settings],
        kind: type[_Outcome],
        *,
        processes: int = 1,
    ) -> list[_Outcome]:
        """Do the runs that are not kept yet.

        Args:
            learn: trains with settings by name.
            runs: the settings of each.
            kind: of what `learn` returns.
            processes: how many do it side by side; one is this one.

        Returns:
            What came of each run, in the order of their settings.
        """
        missing = [settings for settings in runs if _key(settings) not in self._done]
        done = (
            ((settings, learn(settings)) for settings in missing)
            if processes == 1
            else side_by_side(learn, missing, processes=processes)
        )
        for settings, outcome in done:
            self._keep(settings, outcome)
        return [kind(**self._done[_key(settings)]) for settings in runs]

    def _keep(self, settings: Settings, outcome: Outcome) -> None:
        click.echo(f"{_key(settings)}: {outcome.score:.1f} at {outcome.compliance}", err=True)
        self._done[_key(settings)] = asdict(outcome)
        if self._file is not None:
            report.write(self._file, self._done)


def _key(settings: Settings) -> str:
    return json.dumps(settings, sort_keys=True)
