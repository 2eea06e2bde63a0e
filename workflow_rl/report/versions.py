"""With what the runs of a report were trained: versions and machines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from workflow_rl.machine import PACKAGES, THREAD_SETTINGS, Machine
from workflow_rl.report.page import Table, differing_rows
from workflow_rl.report.runs import Run

_GIGABYTE = 1e9
_UNKNOWN = "not recorded"


def versions_table(runs: Sequence[Run]) -> Table:
    """A column for each run, and another where it went on with something else; rows that differ stand out."""
    machines = [found for run in runs for found in _machines(run)]
    columns = [{} if machine is None else _facts(machine) for _, machine in machines]
    names = list(dict.fromkeys(name for column in columns for name, value in column.items() if value))
    rows = tuple(
        (name, *(column.get(name, _UNKNOWN) for column in columns)) for name in names or ["versions"]
    )
    return Table(("", *(heading for heading, _ in machines)), rows, differing_rows(rows))


def _machines(run: Run) -> Iterator[tuple[str, Machine | None]]:
    """What a run was trained on, one after the other; `None` for what older versions did not write down."""
    if not run.sittings or run.sittings[0].has_resumed:
        yield run.label, None
    before = None
    for sitting in run.sittings:
        if sitting.machine != before:
            since = f", from {sitting.started:%Y-%m-%d %H:%M}" if sitting.has_resumed else ""
            yield f"{run.label}{since}", sitting.machine
        before = sitting.machine


def _facts(machine: Machine) -> dict[str, str]:
    """What is said of a machine, the same names for each; what it does not have is empty."""
    commit = machine.commit
    memory = machine.memory_bytes
    return {
        "Python": machine.python,
        **{name: machine.packages.get(name) or "not installed" for name in PACKAGES},
        "commit": "" if commit is None else f"{commit.sha[:12]}{', with changes' if commit.is_dirty else ''}",
        "system": machine.system,
        "processor": machine.processor,
        "cores": str(machine.usable_cores),
        "memory": "" if memory is None else f"{memory / _GIGABYTE:.1f} GB",
        **{name: machine.thread_settings.get(name) or "" for name in THREAD_SETTINGS},
    }
