"""Who did what when, read from a trace (`tracing`).

A trace holds every episode of a run, far more than a picture can show, so only a window of it is read: the
first slices after the warm-up, as many as can be told apart.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workflow_rl.errors import RunDirectoryError

_WARM_UP_BATCHES = 3
_MOST_SLICES = 1000
_MOST_WORKERS = 40
_MICROSECONDS = 1e6


@dataclass(frozen=True)
class Slice:
    """Something that took a while.

    Attributes:
        row: "learner" or a worker's name.
        kind: "waits", "updates", "episode" or "evaluation".
        start: in seconds since the window began.
        end: likewise.
        name: as in the trace.
    """

    row: str
    kind: str
    start: float
    end: float
    name: str


def read_timeline(path: Path) -> tuple[Slice, ...]:
    """A window of a trace, which may still be growing, in the order of its rows.

    Raises:
        RunDirectoryError: the file cannot be read or is no trace.
    """
    names: dict[int, str] = {}
    window: list[dict[str, Any]] = []
    for event in _events(path):
        if event["ph"] == "M" and event["name"] == "thread_name":
            names[event["tid"]] = event["args"]["name"]
        elif event["ph"] == "X" and event["args"]["batch"] >= _WARM_UP_BATCHES:
            window.append(event)
        if len(window) == _MOST_SLICES:
            break
    begin = min((event["ts"] for event in window), default=0.0)
    rows = list(names)[: 1 + _MOST_WORKERS]
    shown = [event for event in window if event["tid"] in rows]
    shown.sort(key=lambda event: (rows.index(event["tid"]), event["ts"]))
    return tuple(_slice(names[event["tid"]], event, begin) for event in shown)


def _events(path: Path) -> Iterator[dict[str, Any]]:
    """Events of the file, a line each; a torn last line is left out."""
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                if line.startswith("{") and line.rstrip().rstrip(",").endswith("}"):
                    yield json.loads(line.rstrip().rstrip(","))
    except (OSError, ValueError) as error:
        raise RunDirectoryError(f"{path} is no trace that can be read: {error}") from error


def _slice(row: str, event: dict[str, Any], begin: float) -> Slice:
    start = (event["ts"] - begin) / _MICROSECONDS
    kinds = {"wait": "waits", "update": "updates", "evaluation": "evaluation"}
    return Slice(
        row=row,
        kind=kinds.get(event["name"].split()[0], "episode"),
        start=start,
        end=start + event["dur"] / _MICROSECONDS,
        name=event["name"],
    )
