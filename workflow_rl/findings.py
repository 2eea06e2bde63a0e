"""What a search found, for people: a table of the best policies, and three sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from workflow_rl.display import percent, print_wide
from workflow_rl.run_log import RankingRow
from workflow_rl.workflow import Workflow, orders_with, shared_precedences

_SHOWN_POLICIES = 10

_SERVED = ("kept", "served")
"""By a policy that keeps to the order."""


def by_policy(rows: Sequence[RankingRow]) -> list[tuple[RankingRow, ...]]:
    """The rows of a ranking, those together that are due to one policy; groups and rows best first.

    A row that is missed, or predicted, is a group of its own.
    """
    groups: dict[str, list[RankingRow]] = {}
    for row in rows:
        groups.setdefault(row.policy_of or row.workflow, []).append(row)
    return [tuple(group) for group in groups.values()]


def print_ranking(console: Console, rows: Sequence[RankingRow], *, title: str) -> None:
    """Print the first policies of a ranking.

    Args:
        console: where to.
        rows: best first.
        title: of the table.
    """
    print_wide(console, _table(by_policy(rows)[:_SHOWN_POLICIES], title))


def _table(groups: Sequence[Sequence[RankingRow]], title: str) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in (
        "",
        "order",
        "alike",
        "serves",
        "reward",
        "95 %",
        "best",
        "compliance",
        "episodes",
        "status",
    ):
        table.add_column(heading, justify="left" if heading in ("order", "status") else "right")
    for row, *others in groups:
        table.add_row(
            str(row.rank),
            row.workflow,
            str(_num_alike(row)),
            str(1 + len(others)) if row.status in _SERVED else "-",
            f"{row.reward:.1f}",
            f"{row.lower:.1f} to {row.upper:.1f}",
            f"{100 * row.chance_to_be_best:.0f} %",
            "-" if row.compliance is None else f"{row.compliance:.3f}",
            f"{row.episodes:,}",
            row.status,
        )
    return table


def best_row(rows: Sequence[RankingRow], summary: Mapping[str, Any]) -> RankingRow:
    """The row of the best order that a run found, which its summary names."""
    return next(row for row in rows if summary["best_workflow"] in row.orders)


def sentences(rows: Sequence[RankingRow], red_agent: str, summary: Mapping[str, Any]) -> tuple[str, ...]:
    """What was found, how well its policy keeps to it and to which other orders, and what was spent.

    Args:
        rows: of the ranking, best first, at least one of them trained.
        red_agent: the attacker.
        summary: of the run.
    """
    best = best_row(rows, summary)
    alike = f", which no rule tells from {_num_alike(best)} others," if best.equivalent_orders else ""
    chance = f"{100 * best.chance_to_be_best:.0f} %"
    sure = f"with a chance of {chance} no order earns more, as far as policies are trained"
    return (
        f"Against {red_agent} the best workflow found is {best.workflow}{alike} expected to earn "
        f"{best.reward:.1f} (95 %: {best.lower:.1f} to {best.upper:.1f}); "
        f"{sure if best.status == 'kept' else 'no training kept to its order as well as demanded'}.",
        f"Its policy keeps to it in {percent(best.compliance)} of its fixes, "
        f"{percent(best.observed_compliance)} by what blue could see, in fresh episodes"
        f"{f'; as well as demanded it keeps to {kept_orders(best, rows)}' if best.status == 'kept' else ''}.",
        f"{_trained(rows)}, in {summary['episodes']:,} episodes and {summary['wall_seconds']:.0f} seconds"
        f"{_untrained(rows)}.",
    )


def kept_orders(best: RankingRow, rows: Sequence[RankingRow]) -> str:
    """To which orders the policy of a row keeps, and what these have in common.

    Args:
        best: the row; its own order is kept to.
        rows: of the ranking.
    """
    served = [row for row in rows if row.policy_of == best.policy_of]
    if len(served) == len(rows):
        return f"all {len(rows)} orders that differ"
    count = f"{len(served)} of the {len(rows)} orders that differ"
    if len(served) == 1:
        return count
    orders = [Workflow.parse(order) for row in served for order in row.orders]
    shared = shared_precedences(orders)
    that = ": all that" if len(orders_with(shared)) == len(orders) else ", all of which"
    pairs = " and ".join(f"{first.label} before {second.label}" for first, second in shared)
    return f"{count}{that} put {pairs}" if shared else count


def _trained(rows: Sequence[RankingRow]) -> str:
    return f"{sum(row.episodes > 0 for row in rows)} of {len(rows)} orders that differ were trained"


def _untrained(rows: Sequence[RankingRow]) -> str:
    """What is known of the orders that were not trained."""
    statuses = [row.status for row in rows if row.episodes == 0]
    served, predicted = statuses.count("served"), statuses.count("predicted")
    if served and predicted:
        verb = "is" if served == 1 else "are"
        return f"; of the rest {served} {verb} served by their policies, {predicted} predicted"
    if served:
        return "; the rest is served by their policies"
    return "; the rest is predicted from them" if predicted else ""


def _num_alike(row: RankingRow) -> int:
    return len(row.orders) - 1
