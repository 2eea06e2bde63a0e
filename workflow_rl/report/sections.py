"""What a report is made of, from top to bottom."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from workflow_rl.cage2.scenario import RED_AGENTS
from workflow_rl.display import percent
from workflow_rl.evaluation import HORIZONS, NORMAL_95
from workflow_rl.findings import best_row, kept_orders
from workflow_rl.protocol import PUBLISHED
from workflow_rl.report.answer import Confirmation
from workflow_rl.report.leaderboard import leaderboard_figure
from workflow_rl.report.learning import learning_figures
from workflow_rl.report.page import Section, Table, differing_rows
from workflow_rl.report.runs import Run
from workflow_rl.report.search import search_figures
from workflow_rl.report.speed import speed_figures, timeline_figure
from workflow_rl.report.timeline import read_timeline
from workflow_rl.report.versions import versions_table

_ANSWER = (
    "Mean returns with their 95 % intervals: of the first orders of each search, played once more in fresh "
    "episodes on the simulator that the search confirms on; of no order, as the search's own simulator "
    "scored it."
)

_VERSIONS = (
    "Of what each run was trained with, on the machine that trained it; a run that was resumed with other "
    "ones has a column for each. Rows that differ stand out."
)


def sections(runs: Sequence[Run], confirmations: Sequence[Confirmation] = ()) -> Iterator[Section]:
    """The parts of the report of some runs.

    Args:
        runs: beside each other.
        confirmations: what searches of all attackers among them ended with.

    Raises:
        RunDirectoryError: a trace cannot be read.
    """
    yield Section("Overview", table=_overview(runs))
    if confirmations:
        yield Section("Answer", table=_answer(confirmations), note=_ANSWER)
    if any(run.training or run.learning for run in runs):
        yield Section("Learning", tuple(learning_figures(runs)))
    else:
        yield Section("Learning", note="No update has been made yet.")
    searches = tuple(figure for run in runs for figure in search_figures(run))
    if searches:
        yield Section("Search", searches)
    if any(run.command != "train-env" for run in runs):
        yield _evaluation(runs)
    if any(run.training or run.learning for run in runs):
        yield Section("Speed", tuple(speed_figures(runs)))
    yield _timelines(runs)
    yield Section("Configuration", table=_configuration(runs), is_folded=True)
    yield Section("Versions", table=versions_table(runs), is_folded=True, note=_VERSIONS)


def _answer(confirmations: Sequence[Confirmation]) -> Table:
    rows = tuple(
        (
            found.red_agent,
            found.workflow or "no order",
            f"{found.reward:.1f} ± {NORMAL_95 * found.standard_error:.1f}",
            percent(found.compliance),
            found.kept_orders or "-",
        )
        for found in confirmations
    )
    return Table(("attacker", "order", "reward", "compliance", "its policy keeps to"), rows)


def _overview(runs: Sequence[Run]) -> Table:
    """Facts of the runs, without those that none of them has."""
    facts = [_facts(run) for run in runs]
    rows = {name: [each[name] for each in facts] for name in facts[0]}
    known = {name: row for name, row in rows.items() if row != [None] * len(row)}
    shown = tuple((name, *map(_shown, row)) for name, row in known.items())
    return Table(("", *(run.label for run in runs)), shown)


def _facts(run: Run) -> dict[str, Any]:
    """What one wants to know of a run first, the same names for every run; `None` where it has no such."""
    summary = run.summary
    played = run.settings.get("env") or f"{run.settings['simulator']}, {run.settings['red_agent']}"
    return {
        "command": f"workflow-rl {run.command}",
        "state": "complete" if run.is_complete else "unfinished",
        "played": str(played),
        "seed": str(run.settings["seed"]),
        "training episodes": f"{run.num_episodes:,}",
        "wall time": _quantity(summary.get("wall_seconds"), "s"),
        "warm throughput": _quantity(summary.get("warm_episodes_per_second"), "episodes/s"),
        "best order": _best_order(run),
        "evaluated reward, 95 %": _evaluated_reward(summary),
        "policy keeps to": _kept_orders(run),
        "compliance": _share(summary.get("best_compliance")),
        "compliance as blue sees it": _share(summary.get("best_observed_compliance")),
        "retries": summary.get("retries"),
    }


def _best_order(run: Run) -> str | None:
    """Without one that binds the policy, the one that it is judged by all the same."""
    order = run.summary.get("best_workflow")
    is_unbound = order is not None and run.settings.get("alignment") == "none"
    return f"none; judged by {order}" if is_unbound else order


def _kept_orders(run: Run) -> str | None:
    """Of a run whose best order was kept to."""
    if not run.ranking or run.summary.get("best_workflow") is None:
        return None
    best = best_row(run.ranking, run.summary)
    return kept_orders(best, run.ranking) if best.status == "kept" else None


def _quantity(value: float | None, unit: str) -> str | None:
    return None if value is None else f"{value:,.1f} {unit}"


def _share(value: float | None) -> str | None:
    return None if value is None else percent(value)


def _evaluated_reward(summary: Mapping[str, Any]) -> str | None:
    """With half of its 95 % interval; what it is called depends on the run's command."""
    if summary.get("validation_total") is not None:
        return (
            f"{summary['validation_total']:.2f} ± {summary['validation_total_half_width']:.2f}, "
            "sum of nine cells"
        )
    name = next((n for n in ("best_reward", "evaluation_return") if summary.get(n) is not None), None)
    if name is None:
        return None
    return f"{summary[name]:.2f} ± {NORMAL_95 * summary[f'{name}_standard_error']:.2f}"


def _evaluation(runs: Sequence[Run]) -> Section:
    if not any(run.protocol_scores for run in runs):
        path = runs[0].path
        return Section(
            "Evaluation",
            note="There is no evaluation by the protocol of CAGE Challenge 2 in the run's directory yet. "
            "This makes one:",
            command=f"workflow-rl evaluate {path} --protocol cage2 --json {path}/evaluation.json",
        )
    scored = [
        (f"{run.label} ({found.file})", found.rules, found.means, found.total)
        for run in runs
        for found in run.protocol_scores
    ]
    published: list[tuple[str, str, Any, float]] = [
        (
            known.name,
            known.rules,
            {(red, h): known.means[red][i] for red in RED_AGENTS for i, h in enumerate(HORIZONS)},
            known.total,
        )
        for known in PUBLISHED
    ]
    columns = [*scored, *published]
    cells = [(red_agent, horizon) for red_agent in RED_AGENTS for horizon in HORIZONS]
    rows = [
        ("rules", *(rules for _, rules, _, _ in columns)),
        *(
            (f"{cell[0]}, {cell[1]} steps", *(f"{means[cell]:.2f}" for _, _, means, _ in columns))
            for cell in cells
        ),
        ("total", *(f"{total:.2f}" for _, _, _, total in columns)),
    ]
    heading = ("mean return", *(name for name, _, _, _ in columns))
    return Section("Evaluation", (leaderboard_figure(runs),), Table(heading, tuple(rows)))


def _timelines(runs: Sequence[Run]) -> Section:
    figures = []
    for run in runs:
        slices = () if run.trace is None else read_timeline(run.trace)
        if slices:
            figures.append(timeline_figure(run, slices))
    if figures:
        return Section("Workers", tuple(figures))
    return Section(
        "Workers",
        note="No run here has a trace, which shows what every worker did when. A run with --trace FILE "
        "writes one; put it into the run's directory if it has been moved.",
    )


def _configuration(runs: Sequence[Run]) -> Table:
    names = list(dict.fromkeys(name for run in runs for name in run.settings))
    values = {name: [run.settings.get(name, "–") for run in runs] for name in names}
    rows = tuple((name, *map(_shown, row)) for name, row in values.items())
    return Table(("setting", *(run.label for run in runs)), rows, differing_rows(rows))


def _shown(value: Any) -> str:
    return "–" if value is None else str(value)
