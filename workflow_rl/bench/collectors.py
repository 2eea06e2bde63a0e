"""`workflow-rl bench collectors`: the four ways to collect, side by side.

    scaling   the collectors by number of workers: speed, costs, what an update waits for
    four      all four, Ray included, at one number of workers
    causes    where the speed-up comes from, one factor changed at a time
    tails     speed-up against the tail of the step times, by theory and measured

Everything is measured in rounds in which the systems take turns (`contest`), and reported as a median with an
interval (`figures`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from workflow_rl.bench import processes, report, tables
from workflow_rl.bench.causes import measure_causes
from workflow_rl.bench.conditions import Watch
from workflow_rl.bench.contest import Schedule, prepare
from workflow_rl.bench.figures import confidence
from workflow_rl.bench.four import measure_four
from workflow_rl.bench.plan import Plan
from workflow_rl.bench.plots import make_plotter
from workflow_rl.bench.regimes import Regime
from workflow_rl.bench.scaling import Contest, measure_scaling
from workflow_rl.bench.tails import measure_tails
from workflow_rl.cores import usable_cores

_EVERYWHERE = ("executor", "synchronous", "sequential")
"""Ray's actors take a process of some 100 MB and a fraction of a second of CPU time each to start: it is
compared at one worker count."""


_TOLERATED_SHARE = 0.05
"""Of the cores, taken by others."""

_FILE_WIDTH = 120


def run(regime: Regime, plan: Plan, *, json_file: Path | None, plots: Path | None) -> int:
    """Measure, print tables, and write a report if one is asked for.

    Args:
        regime: what is played.
        plan: what is measured.
        json_file: where the report goes.
        plots: directory for charts, made if it is not there.

    Returns:
        The exit code, 0.

    Raises:
        SettingError: the report or the charts cannot be written, or this is not Linux.
        MissingExtraError: charts are asked for and matplotlib is not installed.
        WorkflowRLError: a system could not start, or its episodes could not be played.
    """
    processes.check_supported()
    if json_file is not None:
        report.check_writable(json_file)
    draw = None if plots is None else make_plotter(plots)
    console = _console()
    watch = Watch()
    with console.status("preparing") as status:
        figures = measure(regime, plan, status.update)
    conditions = replace(
        watch.conditions(own_load=math.inf), warning=busy_warning(_foreign_cores(figures), usable_cores())
    )
    content = report.document("collectors", conditions, figures)
    tables.show(console, content)
    if json_file is not None:
        report.write(json_file, content)
    if draw is not None:
        draw(content)
    return 0


def measure(regime: Regime, plan: Plan, show: Callable[[str], None]) -> dict[str, Any]:
    """The sections of the report."""
    alone = prepare(regime)
    contest = Contest(regime, plan.lag, plan.batch_size, alone, Schedule(plan.rounds, plan.seconds, show))
    figures: dict[str, Any] = {
        "regime": {"name": regime.name, "description": regime.description},
        "plan": asdict(plan),
        "interval": {"kind": "lowest to highest round", "confidence": confidence(plan.rounds)},
        "alone": asdict(alone),
    }
    if "scaling" in plan.sections:
        figures["scaling"] = measure_scaling(contest, plan.collectors or _EVERYWHERE, plan.worker_counts)
    if "four" in plan.sections:
        figures["four"] = measure_four(contest, plan.compare_at)
    if "causes" in plan.sections:
        figures["causes"] = measure_causes(contest, plan.worker_counts[-1])
    if "tails" in plan.sections and regime.waits is not None:
        figures["tails"] = measure_tails(contest, regime.waits, plan.sigmas, plan.worker_counts[-1])
    return figures


def busy_warning(foreign_cores: float, cores: int) -> str | None:
    """One line if others took much of the machine while systems were measured, else `None`."""
    if foreign_cores <= _TOLERATED_SHARE * cores:
        return None
    return (
        f"the machine was busy: other processes took {foreign_cores:.2f} of its {cores} cores while systems "
        "were measured; figures are too low and spread too far"
    )


def _foreign_cores(figures: dict[str, Any]) -> float:
    """The median of the section that had the most of it."""
    parts = [
        *figures.get("scaling", {"by_workers": ()})["by_workers"],
        *(figures[section] for section in ("four", "causes", "tails") if section in figures),
    ]
    return max(float(part["foreign_cores"]["median"]) for part in parts)


def _console() -> Console:
    """Wide enough for the tables where no terminal limits it."""
    console = Console()
    return console if console.is_terminal else Console(width=_FILE_WIDTH)
