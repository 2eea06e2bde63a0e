"""Writes the report of some runs, as a command."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from workflow_rl.bench.report import check_writable
from workflow_rl.errors import MissingExtraError
from workflow_rl.report.runs import read_runs


def report(paths: Sequence[Path], output: Path | None) -> int:
    """Write the report of some runs beside each other.

    Args:
        paths: directories of runs.
        output: the page; the PNGs go into a directory beside it. `None` is report.html in the directory of a
            single run, or here for several.

    Returns:
        The exit code, 0.

    Raises:
        WorkflowRLError: one line for the user.
    """
    _require_extra()
    from workflow_rl.report.answer import read_confirmations
    from workflow_rl.report.page import write_report
    from workflow_rl.report.sections import sections

    runs = read_runs(paths)
    output = output or (paths[0] if len(paths) == 1 else Path()) / "report.html"
    check_writable(output, "--output")
    title = "Report of " + ", ".join(path.resolve().name for path in paths)
    pictures = write_report(title, tuple(sections(runs, read_confirmations(paths))), output)
    charts = f"{len(pictures)} charts, also in {pictures[0].parent}" if pictures else "no charts yet"
    Console().print(f"{output}: {charts}; open it in a browser", highlight=False, soft_wrap=True)
    return 0


def _require_extra() -> None:
    for package in ("altair", "vl_convert"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, "report", "workflow-rl report")
