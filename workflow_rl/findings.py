"""What a search found, for people: a table of the first orders, and three sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from workflow_rl.display import percent, print_wide
from workflow_rl.run_log import (
    RankingRow,
)

_SHOWN_ORDERS = 10


def print_ranking(console: Console, rows: Sequence[RankingRow], *, title: str) -> None:
    """Print the first orders of a ranking.

    Args:
        console: where to.
        rows: best first.
        title: of the table.
    """
    print_wide(console, _table(rows[:_SHOWN_ORDERS], title))


def _table(rows: Sequence[RankingRow], title: str) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in ("", "order", "alike", "reward", "95 %", "best", "compliance", "episodes", "status"):
        table.add_column(heading, justify="left" if heading in ("order", "status") else "right")
    for row in rows:
        table.add_row(
            str(row.rank),
            row.workflow,
            str(_num_alike(row)),
            f"{row.reward:.1f}",
            f"{row.lower:.1f} to {row.upper:.1f}",
            f"{100 * row.chance_to_be_best:.0f} %",
            "-" if row.compliance is None else f"{row.compliance:.3f}",
            f"{row.episodes:,}",
            row.status,
        )
    return table


def sentences(rows: Sequence[RankingRow], red_agent: str, summary: Mapping[str, Any]) -> tuple[str, ...]:
    """What was found, how well its policy keeps to it, and what was spent.

    Args:
        rows: of the ranking, best first, at least one of them trained.
        red_agent: the attacker.
        summary: of the run.
    """
    best = next(row for row in rows if summary["best_workflow"] in _orders_of(row))
    alike = f", which no rule tells from {_num_alike(best)} others," if best.equivalent_orders else ""
    chance = f"{100 * best.chance_to_be_best:.0f} %"
    sure = f"with a chance of {chance} no order earns more as far as each is trained"
    trained = [row for row in rows if row.status != "predicted"]
    return (
        f"Against {red_agent} the best workflow found is {best.workflow}{alike} expected to earn "
        f"{best.reward:.1f} (95 %: {best.lower:.1f} to {best.upper:.1f}); "
        f"{sure if best.status == 'kept' else 'no training kept to its order as well as demanded'}.",
        f"Its policy keeps to it in {percent(best.compliance)} of its fixes, "
        f"{percent(best.observed_compliance)} by what blue could see, in fresh episodes.",
        f"{len(trained)} of {len(rows)} orders that differ were trained, in {summary['episodes']:,} episodes "
        f"and {summary['wall_seconds']:.0f} seconds; the rest is predicted from them.",
    )


def _orders_of(row: RankingRow) -> list[str]:
    return [row.workflow, *filter(None, row.equivalent_orders.split(";"))]


def _num_alike(row: RankingRow) -> int:
    return len(_orders_of(row)) - 1
