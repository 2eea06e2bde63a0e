"""Prints reports of `compare.py` as one table in Markdown: `python table.py REPORT.json ...`.

The rounds of reports on the same work are taken together.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rows import pooled_rows

_COLUMNS = (
    "steps",
    "workers",
    "system",
    "episodes/s",
    "of the ideal",
    "CPU a step, µs",
    "first batch, s",
    "memory, GB",
)


def lines(reports: list[dict[str, Any]]) -> Iterator[str]:
    """The table, line by line; regimes and numbers of workers in the order in which they first occur."""
    yield markdown(_COLUMNS)
    yield markdown(("---",) * len(_COLUMNS))
    works: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for report in reports:
        works.setdefault((report["regime"], report["task"]["n_workers"]), []).append(report)
    for (regime, n_workers), on_it in works.items():
        for row in pooled_rows(on_it):
            name = f"{row['system']} {row['version']}"
            yield markdown((regime, str(n_workers), name, *figures(row)))


def figures(row: dict[str, Any]) -> tuple[str, ...]:
    """The last columns of a system; how it failed, if it did, stands in place of its rate."""
    if "episodes_per_second" not in row:
        return (row["failure"], "", "", "", "")
    return (
        spread(row["episodes_per_second"], ".3g") + (f"; then {row['failure']}" if row["failure"] else ""),
        f"{row['share_of_ideal']['median']:.2f}" if "share_of_ideal" in row else "",
        f"{row['cpu_microseconds_per_step']['median']:,.0f}",
        f"{row['first_batch_seconds']['median']:.0f}",
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
