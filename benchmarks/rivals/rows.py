"""The line of the table that a system gets for its runs, of one comparison or of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from measurement import Run

from workflow_rl.bench.timing import Spread

_HEAD = ("system", "version", "settings")


def row(
    head: Mapping[str, str],
    runs: Sequence[Run],
    failure: str | None,
    *,
    episode_steps: int,
    ideal: float | None,
) -> dict[str, Any]:
    """A system's figures as far as it came, and how it failed if it did; JSON values.

    Args:
        head: its name ("system"), "version" and "settings".
        runs: one per round; none, and there are no figures.
        failure: what ended the rounds.
        episode_steps: steps of an episode.
        ideal: episodes per second if nothing but the environment took time, if that is known.
    """
    rates = [taken.steps / episode_steps / taken.wall_seconds for taken in runs]
    figures = {
        "episodes_per_second": rates,
        "share_of_ideal": [] if ideal is None else [rate / ideal for rate in rates],
        "cpu_microseconds_per_step": [1e6 * taken.cpu_seconds / taken.steps for taken in runs],
        "first_batch_seconds": [taken.first_batch_seconds for taken in runs],
        "pss_bytes": [taken.pss_bytes for taken in runs],
    }
    spreads = {name: asdict(Spread.of(values)) for name, values in figures.items() if values}
    return {**head, "failure": failure, **spreads, "runs": [asdict(taken) for taken in runs]}


def pooled_rows(reports: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row per system, of reports on the same work, in the order in which systems first occur."""
    work = reports[0]
    found: dict[str, list[Mapping[str, Any]]] = {}
    for report in reports:
        for taken in report["rows"]:
            found.setdefault(taken["system"], []).append(taken)
    return [
        row(
            {name: parts[0][name] for name in _HEAD},
            [Run(**run) for part in parts for run in part["runs"]],
            next((part["failure"] for part in parts if part["failure"]), None),
            episode_steps=work["task"]["episode_steps"],
            ideal=work["ideal_episodes_per_second"],
        )
        for parts in found.values()
    ]
