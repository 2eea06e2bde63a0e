"""The report of `workflow-rl bench collectors` as tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from workflow_rl.bench.figures import REFERENCES

_MEGABYTE = 1e6

Figures = Mapping[str, Any]


def show(console: Console, content: Figures) -> None:
    """Print the sections that a report has."""
    _say(console, content["regime"]["description"])
    if "scaling" in content:
        _show_scaling(console, content["scaling"])
    if "four" in content:
        console.print(_speed_table(content["four"]))
        console.print(_needs_table(content["four"]))
    if "causes" in content:
        console.print(_causes_table(content["causes"]))
    if "tails" in content:
        console.print(_tails_table(content["tails"]))
        _say(console, _explanation(content["tails"]))
    _say(console, _reading(content))
    if (warning := content["conditions"]["warning"]) is not None:
        _say(console, f"warning: {warning}")


def _show_scaling(console: Console, scaling: Figures) -> None:
    for count in scaling["by_workers"]:
        console.print(_speed_table(count))
    if scaling["rises"]:
        console.print(_rise_table(scaling["rises"]))
    console.print(_update_table(scaling["by_workers"]))


def _speed_table(count: Figures) -> Table:
    ideal = count["ideal"]
    title = (
        f"{count['n_workers']} workers: ideal {_short(ideal['episodes_per_second'])} episodes/s, "
        f"set by the {ideal['limit']}"
    )
    headings = (
        "episodes/s",
        "cold",
        "of the ideal",
        "x synchronous",
        "x sequential",
        "CPU ms/episode",
        "MB",
    )
    table = _table(title, headings)
    for name, figures in count["systems"].items():
        table.add_row(
            name,
            _interval(figures["episodes_per_second"]),
            _short(figures["cold_episodes_per_second"]["median"]),
            _share(figures["share_of_ideal"]["median"]),
            *(_interval_if_any(figures["speed_up"].get(other)) for other in REFERENCES),
            _short(1000 * figures["cpu_seconds_per_episode"]["median"]),
            _short(figures["pss_bytes"]["median"] / _MEGABYTE),
        )
    return table


def _rise_table(rises: Iterable[Figures]) -> Table:
    rises = list(rises)
    names = list(rises[0]["rate"])
    table = _table("what more workers bring: times as many episodes/s", ("workers", "ideal", *names))
    for rise in rises:
        rates = (f"{rise['rate'][name]:.2f}" for name in names)
        table.add_row(
            f"{rise['from']} to {rise['to']}", f"{rise['workers']:.2f}", f"{rise['ideal']:.2f}", *rates
        )
    return table


def _update_table(counts: Iterable[Figures]) -> Table:
    headings = ("batch", "s", "waiting", "updating", "collection hidden", "update hidden")
    table = _table("from one update to the next", headings)
    for count in counts:
        for name, figures in count["systems"].items():
            update = {key: spread["median"] for key, spread in figures["update"].items()}
            table.add_row(
                f"{count['n_workers']} {name}",
                str(figures["batch_size"]),
                f"{update['seconds']:.3f}",
                f"{update['waiting_seconds']:.3f} s, {_share(update['waiting_share'])}",
                f"{update['updating_seconds']:.3f} s, {_share(update['updating_share'])}",
                _share(update["hidden_collection"]),
                _share(update["hidden_update"]),
            )
    return table


def _needs_table(four: Figures) -> Table:
    headings = ("start-up s", "processes", "MB started", "needs")
    table = _table("what it takes to have them", headings)
    for name, needs in four["needs"].items():
        figures = four["systems"].get(name)
        if figures is None:
            table.add_row(name, "", "", "", needs)
            continue
        table.add_row(
            name,
            _interval(figures["setup_seconds"]),
            str(figures["processes"]),
            _short(figures["pss_bytes_of_others"]["median"] / _MEGABYTE),
            needs,
        )
    return table


def _causes_table(causes: Figures) -> Table:
    headings = ("from what to what", "times as fast", "theory")
    table = _table(f"where the speed-up comes from, {causes['n_workers']} workers", headings)
    for factor in causes["factors"]:
        name = f"x {factor['name']}" if factor["is_in_chain"] else f"  {factor['name']}"
        theory = "" if factor["theory"] is None else _short(factor["theory"])
        table.add_row(name, factor["change"], _interval(factor["times"]), theory)
    whole = causes["whole"]
    table.add_row(f"= {whole['name']}", whole["change"], _interval(whole["times"]), "")
    return table


def _tails_table(tails: Figures) -> Table:
    headings = ("executor over synchronous", "over that at sigma 0", "theory: no step barrier")
    title = f"by tail, {tails['n_workers']} workers, {tails['steps_per_episode']} steps an episode"
    table = _table(title, headings)
    for point in tails["measured"]:
        table.add_row(
            f"sigma {point['sigma']:g}",
            _interval(point["speed_up"]),
            _short(point["over_equal_steps"]),
            _short(point["theory"]),
        )
    return table


def _explanation(tails: Figures) -> str:
    """What a ratio like the reported one is made of."""
    reported = tails["reported"]
    workers = f"{reported['n_workers']} workers"
    if reported["sigma"] is None:
        tail = f"no tail does: {workers} gain less than {reported['n_workers']} times"
    else:
        tail = f"step times need a log-normal tail of sigma {reported['sigma']:.2f}"
    return (
        f"For {reported['speed_up']:g} times as fast by removing the step barrier between {workers} alone, "
        f"{tail}. A ratio like that is otherwise a product: of the barrier's part, and of what the "
        "synchronous system spends in other places."
    )


def _reading(content: Figures) -> str:
    """How to read the tables, in a few lines."""
    plan, confidence = content["plan"], content["interval"]["confidence"]
    return (
        f"Medians of {plan['rounds']} round(s) of at least {plan['seconds']:g} s and two updates (lowest to "
        f"highest round, which holds the median with a probability of {_share(confidence)}). Each round "
        "starts every system anew; cold is its first batch, the start included. MB: proportional set size of "
        "all processes, the learner's included. The sequential system gets fewer episodes an update where a "
        "whole batch would outlast the round: its rate does not depend on how many."
    )


def _table(title: str, headings: Iterable[str]) -> Table:
    table = Table(title=title)
    table.add_column("")
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False)


def _interval(spread: Figures) -> str:
    if spread["minimum"] == spread["maximum"]:
        return _short(spread["median"])
    return f"{_short(spread['median'])} ({_short(spread['minimum'])}–{_short(spread['maximum'])})"


def _interval_if_any(spread: Figures | None) -> str:
    """Nothing for what was not measured."""
    return "" if spread is None else _interval(spread)


def _share(value: float) -> str:
    return f"{100 * value:.0f} %"


def _short(value: float) -> str:
    """Three digits."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
