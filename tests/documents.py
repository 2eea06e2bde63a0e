"""Commands and programs as the documents show them."""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]

DOCUMENTS = sorted(
    file.relative_to(CHECKOUT)
    for file in (
        CHECKOUT / "README.md",
        *(CHECKOUT / "docs").rglob("*.md"),
        CHECKOUT / "benchmarks" / "README.md",
    )
)

_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:^ {4}\S[^\n]*\n)+", re.MULTILINE)
_SPAN = re.compile(r"`(workflow-rl [^`]+)`")


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        document: where it is, relative to the checkout.
        line: of the document, from 1.
        language: as the fence says; empty for an indented block, which shows commands that take long.
        text: without the fence or the indentation.
    """

    document: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"

    def commands(self) -> Iterator[list[str]]:
        """The words of each line, continued lines joined, comments left out."""
        for line in self.text.replace("\\\n", " ").splitlines():
            with contextlib.suppress(ValueError):  # text that is no command may open a quotation mark
                if words := shlex.split(line, comments=True):
                    yield words


def blocks() -> Iterator[Block]:
    """Every block of every document."""
    for document in DOCUMENTS:
        text = (CHECKOUT / document).read_text()
        for fence in _FENCE.finditer(text):
            yield Block(document, _line(text, fence), fence[1], fence[2])
        plain = _FENCE.sub(lambda fence: "\n" * fence[0].count("\n"), text)
        for indented in _INDENTED.finditer(plain):
            yield Block(document, _line(plain, indented), "", re.sub(r"(?m)^ {4}", "", indented[0]))


def spans() -> Iterator[tuple[str, list[str]]]:
    """The words of commands that are named within a sentence, and the document."""
    for document in DOCUMENTS:
        for span in _SPAN.finditer((CHECKOUT / document).read_text()):
            yield str(document), shlex.split(span[1].replace("\n", " "))


def _line(text: str, match: re.Match[str]) -> int:
    return text.count("\n", 0, match.start()) + 1
