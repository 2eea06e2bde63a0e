"""What a lag costs in learning, with the decoupled and with the coupled objective: learning curves.

    python benchmarks/lag.py --seeds 5 --runs lag.json --figure docs/figures/lag.svg

Trains on CAGE Challenge 2 (native simulator, B_lineAgent, one order) and on CartPole-v1, at every lag with
both objectives; at lag 0 they are the same. Needs the `figures` extra to draw. What else the machine does has
no influence on what is learnt.

The figure shows the mean over seeds of each batch's return, and one standard error to both sides. A batch
shows the policy that played it, which is older than the one that learns from it by the lag. The report has,
for each variant, the final policy's score on fresh episodes (`final`) and the mean return over the budget of
training (`during_training`, which tells how fast it learnt), both with the standard error over seeds.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from workflow_rl.bench import report
from workflow_rl.bench.learning import Learning, learn_environment, learn_order
from workflow_rl.bench.runs import Runs, runs_option
from workflow_rl.errors import SettingError

LAGS = (0, 1, 2, 4, 8)
OBJECTIVES = ("decoupled", "coupled")
CARTPOLE = Path(__file__).parents[1] / "examples" / "cartpole.toml"

_SMOOTHED_UPDATES = 5
_GRID_POINTS = 60


@dataclass(frozen=True, eq=False)
class Task:
    """Something to learn.

    Attributes:
        name: for people.
        learn: trains with settings by name.
        settings: all that differ from the defaults, but for lag, objective and seed.
        budget: episodes or steps of training; a run may go beyond it with batches that were in flight.
        amount: what the budget is counted in.
        scale: keyword arguments of matplotlib's `set_yscale`.
        limits: of the axis of returns.
        ticks: of that axis.
        axis_note: what its label has to say beside what it shows.
    """

    name: str
    learn: Callable[[Mapping[str, Any]], Learning]
    settings: Mapping[str, Any]
    budget: int
    amount: str
    scale: Mapping[str, Any]
    limits: tuple[float, float]
    ticks: tuple[int, ...]
    axis_note: str = ""


@dataclass(frozen=True)
class Variant:
    """One curve of a task."""

    lag: int
    objective: str


@dataclass(frozen=True)
class Spread:
    """A figure over seeds."""

    mean: float
    standard_error: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of at least two values."""
        return cls(float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values))))


def tasks(*, quick: bool) -> tuple[Task, ...]:
    """What is learnt; if `quick`, hardly begun."""
    cage2: dict[str, Any] = {
        "workflow": "op_server,enterprise,defender,op_host,user",
        "total_episodes": 5000,
        "evaluation_episodes": 500,
        "entropy_coefficient": 0.01,  # the default when docs/lag.md was measured
    }
    cartpole = {**tomllib.loads(CARTPOLE.read_text()), "total_steps": 50_000}
    if quick:
        cage2 |= {"total_episodes": 40, "episodes_per_update": 10, "max_steps": 5, "evaluation_episodes": 2}
        cartpole |= {"total_steps": 600, "steps_per_update": 100, "epochs": 1, "evaluation_episodes": 2}
    return (
        Task(
            name="CAGE Challenge 2",
            learn=learn_order,
            settings=cage2,
            budget=cage2["total_episodes"],
            amount="training episodes",
            scale={"value": "symlog", "linthresh": 20},  # from -20 on the logarithm of the loss
            limits=(-1000, -25),
            ticks=(-1000, -300, -100, -30),
            axis_note=" (log scale)",
        ),
        Task(
            name="CartPole-v1",
            learn=learn_environment,
            settings=cartpole,
            budget=cartpole["total_steps"],
            amount="training steps",
            scale={"value": "linear"},
            limits=(0, 515),
            ticks=(0, 100, 200, 300, 400, 500),
        ),
    )


def variants(lags: Sequence[int]) -> Iterator[Variant]:
    """Every lag with every objective; at lag 0 they are the same."""
    for lag in lags:
        for objective in OBJECTIVES if lag > 0 else OBJECTIVES[:1]:
            yield Variant(lag, objective)


def summarise(learnt: Sequence[Learning], budget: int) -> dict[str, Any]:
    """Final score and learning speed of one variant, over its seeds."""
    compliances = [run.compliance for run in learnt if run.compliance is not None]
    return {
        "final": asdict(Spread.of([run.score for run in learnt])),
        "during_training": asdict(Spread.of([mean_return(run, budget) for run in learnt])),
        "compliance": float(np.mean(compliances)) if compliances else None,
        "cpu_seconds": sum(run.cpu_seconds for run in learnt),
    }


def mean_return(run: Learning, budget: int) -> float:
    """Mean over the episodes or steps of the budget of the return of their batch."""
    return float(np.average(run.returns, weights=np.diff(np.minimum(run.amounts, budget), prepend=0)))


def curve(learnt: Sequence[Learning]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Amounts, mean return and its standard error over seeds, each (P,).

    Runs on CartPole are updated after different steps, so every run is read off at the same ones.
    """
    smooth = [smoothed(np.array(run.returns)) for run in learnt]
    grid = np.linspace(
        max(run.amounts[0] for run in learnt), min(run.amounts[-1] for run in learnt), _GRID_POINTS
    )
    values = np.stack(
        [np.interp(grid, run.amounts, returns) for run, returns in zip(learnt, smooth, strict=True)]
    )
    return grid, values.mean(0), values.std(0, ddof=1) / np.sqrt(len(learnt))


def smoothed(returns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each update's mean with the ones before it."""
    sums = np.cumsum(np.concatenate([[0.0], returns]))
    ends = np.arange(1, len(sums))
    starts = np.maximum(0, ends - _SMOOTHED_UPDATES)
    means: NDArray[np.float64] = (sums[ends] - sums[starts]) / (ends - starts)
    return means


def draw(learnt: Mapping[Task, Mapping[Variant, Sequence[Learning]]], file: Path) -> None:
    """One row of panels for each task, one column for each objective, one line for each lag."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "lag", "font.size": 9}
    figure = Figure(figsize=(8, 6), layout="constrained")
    panels = figure.subplots(len(learnt), len(OBJECTIVES), squeeze=False, sharex="row")
    for row, (task, curves) in zip(panels, learnt.items(), strict=True):
        lags = sorted({variant.lag for variant in curves})
        colours = mpl.colormaps["viridis"](np.linspace(0, 0.9, len(lags)))
        for panel, objective in zip(row, OBJECTIVES, strict=True):
            panel.set(title=f"{task.name}, {objective}", xlabel=task.amount)
            panel.set_yscale(**task.scale)
            panel.set_ylim(task.limits)
            panel.set_yticks(task.ticks, [f"{tick}" for tick in task.ticks])
            panel.minorticks_off()
            panel.xaxis.set_major_formatter("{x:,.0f}")
            panel.locator_params(axis="x", nbins=6)
            panel.spines[["top", "right"]].set_visible(False)
            for lag, colour in zip(lags, colours, strict=True):
                shown = Variant(lag, objective if lag > 0 else OBJECTIVES[0])
                amounts, mean, error = curve(curves[shown])
                panel.plot(amounts, mean, color=colour, linewidth=1.4, label=f"lag {lag}")
                panel.fill_between(amounts, mean - error, mean + error, color=colour, alpha=0.18, linewidth=0)
        row[0].set_ylabel(f"mean return of an episode{task.axis_note}")
    panels[0, 0].legend(frameon=False, loc="lower right")
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None, dpi=120)


def check_drawable(file: Path) -> None:
    """Refuse to train for a figure that cannot be drawn.

    Raises:
        SettingError: matplotlib is missing, or the file cannot be written.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise SettingError(
            "--figure needs matplotlib: pip install -c constraints.txt -e '.[figures]'"
        ) from error
    report.check_writable(file, "--figure")


def learn_all(
    chosen: Sequence[Task], lags: Sequence[int], num_seeds: int, runs: Runs
) -> dict[Task, dict[Variant, list[Learning]]]:
    """Train every variant of every task, seed after seed, so that a stopped command has some of each."""
    learnt: dict[Task, dict[Variant, list[Learning]]] = {
        task: {variant: [] for variant in variants(lags)} for task in chosen
    }
    for seed in range(num_seeds):
        for task, curves in learnt.items():
            for variant, so_far in curves.items():
                settings = {**task.settings, **asdict(variant), "seed": seed}
                so_far += runs.learn(task.learn, [settings], Learning)
    return learnt


def measure(num_seeds: int, runs: Runs, figure: Path | None, *, quick: bool) -> dict[str, Any]:
    """Train, draw, and return the figures for the report."""
    learnt = learn_all(tasks(quick=quick), LAGS[:2] if quick else LAGS, num_seeds, runs)
    if figure is not None:
        draw(learnt, figure)
    return {
        "seeds": num_seeds,
        "tasks": {
            task.name: {
                "settings": task.settings,
                "variants": [
                    {**asdict(variant), **summarise(of_all_seeds, task.budget)}
                    for variant, of_all_seeds in curves.items()
                ],
            }
            for task, curves in learnt.items()
        },
    }


@click.command(help=__doc__)
@click.option("--seeds", type=click.IntRange(2), default=3, show_default=True)
@runs_option
@click.option(
    "--figure", type=click.Path(path_type=Path), metavar="FILE", help="Draw the curves (.svg, .png)."
)
@report.json_option
@click.option("--quick", is_flag=True, help="Two lags, two seeds, a few updates, to see that it runs.")
def main(
    seeds: int, runs_file: Path | None, figure: Path | None, json_file: Path | None, quick: bool
) -> None:
    if figure is not None:
        check_drawable(figure)
    report.run(
        "lag",
        lambda: measure(2 if quick else seeds, Runs(runs_file), figure, quick=quick),
        own_load=1,
        json_file=json_file,
    )


if __name__ == "__main__":
    report.run_program(main)
