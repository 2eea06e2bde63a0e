"""A report as one HTML file that needs no network, and each of its charts as a PNG beside it.

The charts are drawn by Vega, whose source is part of the page: 0.9 MB, most of what the file weighs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import vl_convert

from workflow_rl.html_page import render_page
from workflow_rl.report.figure import Figure
from workflow_rl.run_directory import RunDirectory

_PNG_SCALE = 2.0
_EXPORTS = "window.vegaEmbed = vegaEmbed;"
"""What the page's own script uses."""


@dataclass(frozen=True)
class Table:
    """A table of a report.

    Attributes:
        heading: of each column.
        rows: cells as they are shown.
        marked: numbers of the rows that stand out.
    """

    heading: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    marked: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Section:
    """A part of a report.

    Attributes:
        title: of the part.
        figures: charts, from top to bottom.
        table: below them.
        note: how to read it, or why there is nothing to show.
        command: that would make what is missing.
        is_folded: whether the reader has to open it.
    """

    title: str
    figures: tuple[Figure, ...] = ()
    table: Table | None = None
    note: str | None = None
    command: str | None = None
    is_folded: bool = False


def differing_rows(rows: Sequence[Sequence[str]]) -> frozenset[int]:
    """Numbers of the rows whose cells after the first are not all the same."""
    return frozenset(number for number, row in enumerate(rows) if len(set(row[1:])) > 1)


def write_report(title: str, sections: Sequence[Section], file: Path) -> list[Path]:
    """Write the page, and the PNGs into a directory beside it.

    Args:
        title: of the page.
        sections: from top to bottom.
        file: the page.

    Returns:
        The PNG files.

    Raises:
        RunDirectoryError: a file cannot be written.
    """
    directory = RunDirectory(file.parent)
    directory.write_bytes(file.name, page(title, sections).encode())
    figures = list(_figures(sections))
    names = [f"{file.stem}-figures/{figure.name}.png" for figure in figures]
    for name, figure in zip(names, figures, strict=True):
        directory.write_bytes(name, png(figure))
    return [file.parent / name for name in names]


def page(title: str, sections: Sequence[Section]) -> str:
    """The report as HTML."""
    specifications = {figure.name: figure.chart.to_dict() for figure in _figures(sections)}
    return render_page(
        "workflow_rl.report",
        "report",
        title=title,
        sections=sections,
        specifications=specifications,
        vega=_vega(),
    )


def png(figure: Figure) -> bytes:
    """A chart with its title as a picture on white."""
    titled = figure.chart.properties(title=figure.title, background="white")
    picture: bytes = vl_convert.vegalite_to_png(json.dumps(titled.to_dict()), scale=_PNG_SCALE)
    return picture


def _figures(sections: Iterable[Section]) -> Iterator[Figure]:
    return (figure for section in sections for figure in section.figures)


@cache
def _vega() -> str:
    source: str = vl_convert.javascript_bundle(_EXPORTS)
    return source.replace("</script", "<\\/script")
