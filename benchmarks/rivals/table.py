"""Prints reports of `compare.py` as one table in Markdown: `python table.py REPORT.json ...`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_COLUMNS = (
    "steps",
    "workers",
    "system",
    "episodes/s",
    "of the ideal",
    "CPU a step, µs",
    "first update, s",
    "memory, GB",
)


def lines(reports: list[dict[str, Any]]) -> Iterator[str]:
    """The table, line by line, in the order of the reports."""
    yield markdown(_COLUMNS)
    yield markdown(("---",) * len(_COLUMNS))
    for report in reports:
        for row in report["rows"]:
            name = f"{row['system']} {row['version']}"
            yield markdown((report["regime"], str(report["task"]["n_workers"]), name, *figures(row)))


def figures(row: dict[str, Any]) -> tuple[str, ...]:
    """The last columns of a system; how it failed, if it did, stands in place of its rate."""
    if "episodes_per_second" not in row:
        return (row["failure"], "", "", "", "")
    return (
        spread(row["episodes_per_second"], ".3g") + (f"; then {row['failure']}" if row["failure"] else ""),
        f"{row['share_of_ideal']['median']:.2f}" if "share_of_ideal" in row else "",
        f"{row['cpu_microseconds_per_step']['median']:,.0f}",
        f"{row['first_update_seconds']['median']:.0f}",
        f"{row['pss_bytes']['median'] / 1e9:.1f}",
    )


def spread(figure: dict[str, float], form: str) -> str:
    """The median, and the range if there was more than one round."""
    if figure["minimum"] == figure["maximum"]:
        return f"{figure['median']:{form}}"
    return f"{figure['median']:{form}} ({figure['minimum']:{form}} to {figure['maximum']:{form}})"


def markdown(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    reports = [json.loads(Path(name).read_text()) for name in sys.argv[1:]]
    print("\n".join(lines(reports)))


if __name__ == "__main__":
    main()
