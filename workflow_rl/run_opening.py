"""Opens a run: a new one in a directory of its own, or one that was stopped and is to go on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from rich.console import Console

from workflow_rl.checkpoint import Checkpoint, load_checkpoint
from workflow_rl.collectors import check_collector
from workflow_rl.errors import RunDirectoryError
from workflow_rl.run_directory import CONFIG, SUMMARY, RunDirectory, default_run_directory
from workflow_rl.scalar_loggers import ScalarCopy, check_logger
from workflow_rl.settings import (
    CommandSettings,
    DefenderTrainSettings,
    EnvironmentTrainSettings,
    FullSearchSettings,
    TrainSettings,
)
from workflow_rl.sittings import record_sitting
from workflow_rl.tracing import TraceFile

_KINDS: Sequence[type[CommandSettings]] = (
    TrainSettings,
    EnvironmentTrainSettings,
    DefenderTrainSettings,
    FullSearchSettings,
)
"""Of settings; those of a search are the ones of train and more, hence last."""

_Settings = TypeVar("_Settings", bound=CommandSettings)


@dataclass(frozen=True)
class OpenRun(Generic[_Settings]):
    """A run that this process may write.

    Attributes:
        settings: of the run, its directory resolved.
        directory: of the run.
        checkpoint: to go on from; `None` starts from the beginning.
    """

    settings: _Settings
    directory: RunDirectory
    checkpoint: Checkpoint | None


@contextmanager
def new_run(settings: _Settings) -> Iterator[OpenRun[_Settings]]:
    """Make the directory of a new run, with its settings and what it runs on in it.

    Raises:
        RunDirectoryError: it cannot be made, or holds a run.
        SettingError, MissingExtraError: the trace cannot be written, or the collector or the logger cannot be
            made; nothing was made.
    """
    _check_trace(settings)
    check_collector(settings.collector)
    check_logger(settings.run.logger)
    path = settings.run.run_dir or default_run_directory(settings.run.seed)
    settings = replace(settings, run=replace(settings.run, run_dir=path))
    with RunDirectory.create(path) as directory:
        record_sitting(directory, has_resumed=False, trace=settings.run.trace)
        directory.write_json(CONFIG, settings.to_flat())  # last: with it, the directory holds a run
        _copy_scalars(settings, directory)
        yield OpenRun(settings, directory, None)


@contextmanager
def resumed_run(
    kind: type[_Settings], path: Path, changes: Mapping[str, Any], ignored: Sequence[str]
) -> Iterator[OpenRun[_Settings]]:
    """Open the directory of a run that was stopped.

    Args:
        kind: of its settings.
        path: of the directory.
        changes: settings that may differ from the run's own.
        ignored: settings that were given and may not; they are named on stderr.

    Raises:
        RunDirectoryError: there is no such run, it is complete, of another command, or damaged.
        SettingError, MissingExtraError: the trace cannot be written, or the collector or the logger cannot be
            made.
    """
    with RunDirectory.resume(path) as directory:
        stored = _stored_settings(kind, directory)
        if (summary := directory.read_json(SUMMARY)) is not None and summary["is_complete"]:
            raise RunDirectoryError(
                f"the run in {path} is complete; start another one with another --run-dir"
            )
        settings = cast(_Settings, kind.from_flat({**stored, "trace": None, **changes, "run_dir": path}))
        _check_trace(settings)
        check_collector(settings.collector)
        check_logger(settings.run.logger)
        if ignored:
            _warn("resuming with the run's own settings; not changed: " + ", ".join(ignored))
        _copy_scalars(settings, directory)
        checkpoint = load_checkpoint(directory, _warn)
        record_sitting(directory, has_resumed=True, trace=settings.run.trace)
        yield OpenRun(settings, directory, checkpoint)


def kind_of_run(path: Path) -> type[CommandSettings]:
    """Of which command a run is, by the settings in its directory.

    Raises:
        RunDirectoryError: the directory holds no run, or its settings are damaged or of another version.
    """
    stored = RunDirectory(path).read_json(CONFIG)
    if stored is None:
        raise RunDirectoryError(f"{path} holds no run: it has no {CONFIG}")
    if not isinstance(stored, dict):
        raise RunDirectoryError(f"{path / CONFIG} is damaged: it holds no settings")
    for kind in _KINDS:
        if set(stored) <= kind.names():
            return kind
    unknown = min(set(stored) - FullSearchSettings.names())
    raise RunDirectoryError(f"{path / CONFIG} is of another version: it has an unknown setting {unknown!r}")


def _stored_settings(kind: type[_Settings], directory: RunDirectory) -> dict[str, Any]:
    command = kind_of_run(directory.path).command
    if command != kind.command:
        raise RunDirectoryError(
            f"the run in {directory.path} is one of workflow-rl {command}; "
            f"use workflow-rl {command} --resume {directory.path}"
        )
    stored: dict[str, Any] = directory.read_json(CONFIG)
    return stored


def _check_trace(settings: CommandSettings) -> None:
    """Refuse a place for the trace before anything else is made."""
    if settings.run.trace is not None:
        TraceFile(settings.run.trace).close()


def _copy_scalars(settings: CommandSettings, directory: RunDirectory) -> None:
    if (name := settings.run.logger) is not None:
        directory.copy_scalars(ScalarCopy(name, directory.path, settings.to_flat(), _warn))


def _warn(message: str) -> None:
    Console(stderr=True).print(message, highlight=False, soft_wrap=True)
