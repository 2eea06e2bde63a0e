"""How a defender's score grows in training: the validations of runs of `workflow-rl train-defender`, drawn.

    python benchmarks/defender_curve.py runs/defender-2.1 runs/defender-leaderboard --figure curve.svg

Each beginning of a run is a line; the one that goes on is in two parts, before and after the others.
Seconds are those of the machine and of what else it did then; episodes are the same everywhere.
Needs the `figures` extra.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import click

from workflow_rl.bench import report
from workflow_rl.protocol import PUBLISHED
from workflow_rl.run_directory import CONFIG, RunDirectory
from workflow_rl.run_log import read_validation_log

_LOWEST_TOTAL = -100


def draw(runs: Sequence[Path], against: str, file: Path) -> None:
    """The lines of each run, and the best published total by each set of rules."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "defender", "font.size": 9}
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    for number, run in enumerate(runs):
        config = RunDirectory(run).read_json(CONFIG)
        label = f"rules {config['rules']}, seed {config['seed']}"
        for _, rows in groupby(read_validation_log(run), key=lambda row: row.beginning):
            amounts, totals = zip(*((getattr(row, against), row.total) for row in rows), strict=True)
            axes.plot(amounts, totals, color=f"C{number}", label=label)
            label = None
    for rules, style in (("leaderboard", "--"), ("2.1", ":")):
        best = max(known.total for known in PUBLISHED if known.rules == rules)
        axes.axhline(best, color="grey", linestyle=style, linewidth=1, label=f"best published, rules {rules}")
    axes.set(ylim=(_LOWEST_TOTAL, -40), xlabel=f"{against} of training", ylabel="total of the nine cells")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None, dpi=120)


@click.command(help=__doc__)
@click.argument("runs", type=click.Path(path_type=Path), nargs=-1, required=True, metavar="RUN_DIR...")
@click.option("--against", type=click.Choice(["episodes", "seconds"]), default="episodes", show_default=True)
@click.option(
    "--figure", type=click.Path(path_type=Path), required=True, metavar="FILE", help=".svg or .png."
)
def main(runs: tuple[Path, ...], against: str, figure: Path) -> None:
    report.check_writable(figure, "--figure")
    draw(runs, against, figure)


if __name__ == "__main__":
    report.run_program(main)
