"""A benchmark's result as one JSON document: figures, machine, conditions.

The scripts in benchmarks/ share what is here: the option `--json`, the measuring and printing, and the way
they end. No torch, since processes that a script starts import the script, and with it this module, again.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from workflow_rl.bench.conditions import Conditions, Watch
from workflow_rl.errors import SettingError, WorkflowRLError
from workflow_rl.machine import describe_machine
from workflow_rl.run_directory import RunDirectory

json_option = click.option(
    "--json", "json_file", type=click.Path(path_type=Path), metavar="FILE", help="Write it here too."
)


def run_program(command: click.Command) -> None:
    """Run a script's command; what the package reports as an error is one line, with its exit code."""
    try:
        command()
    except WorkflowRLError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)


def run(
    benchmark: str, measure: Callable[[], Mapping[str, Any]], *, own_load: float, json_file: Path | None
) -> None:
    """Measure, and print the report; write it too if there is a file for it.

    Args:
        benchmark: its name.
        measure: returns the figures.
        own_load: see `Watch.conditions`.
        json_file: where the report goes.

    Raises:
        SettingError: the file cannot be written; nothing was measured.
    """
    if json_file is not None:
        check_writable(json_file)
    watch = Watch()
    figures = measure()
    content = document(benchmark, watch.conditions(own_load=own_load), figures)
    click.echo(json.dumps(content, indent=2))
    if json_file is not None:
        write(json_file, content)


def check_writable(file: Path, option: str = "--json") -> None:
    """Refuse a place for what comes of a measurement before the measurement rather than after it.

    Args:
        file: the place.
        option: that named it.

    Raises:
        SettingError: nothing can be written there.
    """
    try:
        if file.is_dir():
            raise IsADirectoryError(f"{file} is a directory")
        with tempfile.TemporaryFile(dir=file.parent):
            pass
    except OSError as error:
        raise SettingError(f"{option} {file} cannot be written: {error.strerror or error}") from error


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
