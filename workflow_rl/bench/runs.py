"""Trainings of a benchmark, kept in a file so that a command that was stopped goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from workflow_rl.bench import report
from workflow_rl.bench.learning import Learning
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
    """What was learnt so far.

    Args:
        file: where it is kept; `None` keeps it in memory.

    Raises:
        SettingError: the file cannot be read or written.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._learnt: dict[str, dict[str, Any]] = {}
        if file is None:
            return
        report.check_writable(file, "--runs")
        try:
            if file.exists():
                self._learnt = json.loads(file.read_bytes())
        except (OSError, ValueError) as error:
            raise SettingError(f"--runs {file} cannot be read: {error}") from error

    def learn(
        self, learn: Callable[[Settings], Learning], runs: Sequence[Settings], *, processes: int = 1
    ) -> list[Learning]:
        """Do the runs that are not kept yet.

        Args:
            learn: trains with settings by name.
            runs: the settings of each.
            processes: how many do it side by side; one is this one.

        Returns:
            What each run learnt, in the order of their settings.
        """
        missing = [settings for settings in runs if _key(settings) not in self._learnt]
        done = (
            ((settings, learn(settings)) for settings in missing)
            if processes == 1
            else side_by_side(learn, missing, processes=processes)
        )
        for settings, learning in done:
            self._keep(settings, learning)
        return [Learning(**self._learnt[_key(settings)]) for settings in runs]

    def _keep(self, settings: Settings, learning: Learning) -> None:
        click.echo(f"{_key(settings)}: {learning.score:.1f} at {learning.compliance}", err=True)
        self._learnt[_key(settings)] = asdict(learning)
        if self._file is not None:
            report.write(self._file, self._learnt)


def _key(settings: Settings) -> str:
    return json.dumps(settings, sort_keys=True)
