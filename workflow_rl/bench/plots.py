"""Charts of a report of `workflow-rl bench collectors`, as PNG files.

throughput.png   episodes per second by number of workers, against the ideal
breakdown.png    what the time from one update to the next is made of
timeline.png     who plays when: a row per worker, with a barrier and without
tails.png        speed-up by tail of the step times, theory and measured
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workflow_rl.bench.report import check_writable
from workflow_rl.bench.turn import TIMELINE_SECONDS
from workflow_rl.errors import MissingExtraError, SettingError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Figures = Mapping[str, Any]

_COLOURS = {"executor": "#0b6e4f", "synchronous": "#c8553d", "sequential": "#7a7a7a", "ray": "#3d5a9e"}
_IDEAL = "#222222"
_UPDATE = "#f2c14e"
_DPI = 120
_GAP_SECONDS = 0.01
"""What makes the end of one episode and the start of the next visible."""


def make_plotter(directory: Path) -> Callable[[Figures], None]:
    """What draws the charts of a report, found to be able to before anything is measured.

    Args:
        directory: where they go; made if it is not there.

    Raises:
        MissingExtraError: matplotlib is not installed.
        SettingError: nothing can be written there.
    """
    try:
        import matplotlib  # noqa: F401  (an extra)
    except ImportError as error:
        raise MissingExtraError("matplotlib", "figures", "--plots") from error
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingError(f"--plots {directory} cannot be made: {error.strerror}") from error
    check_writable(directory / "throughput.png", "--plots")
    return lambda content: draw(content, directory)


def draw(content: Figures, directory: Path) -> None:
    """Draw the charts of the sections that a report has."""
    if "scaling" in content:
        counts = content["scaling"]["by_workers"]
        _save(_throughput(counts), directory / "throughput.png")
        _save(_breakdown(counts[-1]), directory / "breakdown.png")
        _save(_timelines(counts[-1]), directory / "timeline.png")
    if "tails" in content:
        _save(_tails(content["tails"]), directory / "tails.png")


def _throughput(counts: list[Figures]) -> Figure:
    figure = _figure(6.4, 4.4)
    panel = figure.subplots()
    workers = [count["n_workers"] for count in counts]
    ideal = [count["ideal"]["episodes_per_second"] for count in counts]
    panel.plot(workers, ideal, color=_IDEAL, linestyle="--", marker="", label="ideal")
    for name in counts[0]["systems"]:
        spreads = [count["systems"][name]["episodes_per_second"] for count in counts]
        _plot_spreads(panel, workers, spreads, name, _COLOURS[name])
    panel.set(
        xlabel="workers",
        ylabel="episodes per second",
        xscale="log",
        yscale="log",
        title="Warm, updates included",
    )
    panel.set_xticks(workers, [str(count) for count in workers])
    panel.minorticks_off()
    _label_logarithms(panel)
    panel.legend(frameon=False)
    return figure


def _breakdown(count: Figures) -> Figure:
    figure = _figure(8.4, 2.8)
    panel = figure.subplots()
    names = list(count["systems"])
    for row, name in enumerate(names):
        update = {key: spread["median"] for key, spread in count["systems"][name]["update"].items()}
        waiting, hidden = update["waiting_share"], update["updating_share"] * update["hidden_update"]
        parts = (
            ("waiting for episodes", waiting, _COLOURS["sequential"]),
            ("updating, while workers play", hidden, _UPDATE),
            ("updating, while workers wait", 1 - waiting - hidden, _COLOURS["synchronous"]),
        )
        left = 0.0
        for label, share, colour in parts:
            panel.barh(row, share, left=left, color=colour, label=label if row == 0 else None)
            left += share
        milliseconds = 1000 * update["seconds"] / count["systems"][name]["batch_size"]
        panel.text(1.01, row, f"{milliseconds:,.3g} ms an episode", va="center")
    panel.set_yticks(range(len(names)), names)
    panel.invert_yaxis()
    panel.set(xlim=(0, 1), title=f"From one update to the next, {count['n_workers']} workers")
    panel.xaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def _timelines(count: Figures) -> Figure:
    names = [name for name in ("executor", "synchronous") if name in count["timelines"]]
    figure = _figure(8.0, 2.6 * len(names))
    panels = figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
    for panel, name in zip(panels, names, strict=True):
        timeline = count["timelines"][name]
        for start, end in timeline["updates"]:
            panel.axvspan(start, end, color=_UPDATE, alpha=0.45, linewidth=0, zorder=3)
        rows = [row for row, _, _ in timeline["episodes"]]
        lengths = [end - start - _GAP_SECONDS for _, start, end in timeline["episodes"]]
        starts = [start for _, start, _ in timeline["episodes"]]
        panel.barh(rows, lengths, left=starts, height=1.0, color=_COLOURS[name], linewidth=0)
        panel.set(ylabel="worker", title=f"{name}: a bar is an episode, yellow an update")
    panels[-1].set(xlabel="seconds", xlim=(0, TIMELINE_SECONDS))
    return figure


def _tails(tails: Figures) -> Figure:
    figure = _figure(6.4, 4.4)
    panel = figure.subplots()
    workers, reported = tails["n_workers"], tails["reported"]
    panel.plot(
        tails["curve"]["sigma"],
        tails["curve"]["theory"],
        color=_IDEAL,
        linestyle="--",
        label=f"theory, no step barrier between {workers}",
    )
    sigmas = [point["sigma"] for point in tails["measured"]]
    spreads = [point["speed_up"] for point in tails["measured"]]
    _plot_spreads(panel, sigmas, spreads, "executor over synchronous, measured", _COLOURS["executor"])
    if reported["sigma"] is not None:
        panel.plot([reported["sigma"]], [reported["speed_up"]], "o", color=_COLOURS["synchronous"])
        panel.annotate(
            f"{reported['speed_up']:g} at sigma {reported['sigma']:.2f}",
            (reported["sigma"], reported["speed_up"]),
            xytext=(-8, 0),
            textcoords="offset points",
            ha="right",
        )
    panel.set(xlabel="sigma of the log-normal step times", ylabel="times as fast", yscale="log")
    _label_logarithms(panel)
    panel.legend(frameon=False, loc="upper left")
    return figure


def _plot_spreads(panel: Axes, x: list[float], spreads: list[Figures], label: str, colour: str) -> None:
    """Medians, with the interval of each as a bar."""
    medians = [spread["median"] for spread in spreads]
    below = [spread["median"] - spread["minimum"] for spread in spreads]
    above = [spread["maximum"] - spread["median"] for spread in spreads]
    panel.errorbar(
        x, medians, yerr=[below, above], color=colour, marker="o", markersize=4, capsize=3, label=label
    )


def _label_logarithms(panel: Axes) -> None:
    """Plain numbers at 1, 2, 5, 10 ... of the vertical axis."""
    from matplotlib.ticker import LogLocator

    panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    panel.yaxis.set_major_formatter("{x:g}")
    panel.minorticks_off()
    panel.grid(axis="y", alpha=0.25)


def _figure(width: float, height: float) -> Figure:
    """Empty, inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: Figure, file: Path) -> None:
    for panel in figure.axes:
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=_DPI)
