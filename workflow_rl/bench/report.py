"""A benchmark's result as one JSON document: figures, machine, conditions."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from workflow_rl.bench.machine import Conditions, describe_machine
from workflow_rl.errors import SettingError
from workflow_rl.run_log import RunDirectory


def check_writable(file: Path) -> None:
    """Refuse a place for the report before the measurement rather than after it.

    Raises:
        SettingError: nothing can be written there.
    """
    try:
        if file.is_dir():
            raise IsADirectoryError(f"{file} is a directory")
        with tempfile.TemporaryFile(dir=file.parent):
            pass
    except OSError as error:
        raise SettingError(f"--json {file} cannot be written: {error.strerror or error}") from error


def document(benchmark: str, conditions: Conditions, figures: Mapping[str, Any]) -> dict[str, Any]:
    """The report of one measurement on this machine, JSON values only.

    Args:
        benchmark: its name.
        conditions: of the measurement.
        figures: what was measured.
    """
    return {
        "benchmark": benchmark,
        **figures,
        "conditions": asdict(conditions),
        "machine": asdict(describe_machine()),
    }


def write(file: Path, content: Mapping[str, Any]) -> None:
    """Write a report atomically: whoever reads the file finds the old one or the whole new one.

    Raises:
        RunDirectoryError: it cannot be written.
    """
    RunDirectory(file.parent).write_json(file.name, content)
