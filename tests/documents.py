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
        CHECKOUT / "CONTRIBUTING.md",
        *(CHECKOUT / "docs").rglob("*.md"),
        *(CHECKOUT / "benchmarks").rglob("README.md"),
    )
)

_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?<=\n\n)(?: {4}[^\n]+\n)+")
_SPAN = re.compile(r"`((?:workflow-rl|python) [^`]+)`")
_CALL = re.compile(r"(?:[A-Z_]+=\S+ )*(?:workflow-rl|python|pytest|for) ")


@dataclass(frozen=True)
class Block:
    """A block of code, or a command within a sentence.

    Attributes:
        document: where it is, relative to the checkout.
        line: of the document, from 1.
        language: as the fence says; "bash" where there is no fence and the text calls a program; or empty.
        text: without the fence or the indentation.
    """

    document: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"

    def lines(self) -> list[str]:
        """Those of the text, continued ones joined."""
        return self.text.replace("\\\n", " ").splitlines()

    def commands(self) -> Iterator[list[str]]:
        """The words of each line without its comment; a line with a shell's variable is left out."""
        for line in self.lines():
            with contextlib.suppress(ValueError):  # text that is no command may open a quotation mark
                if (words := shlex.split(line, comments=True)) and "$" not in line:
                    yield words


def blocks() -> Iterator[Block]:
    """Every block of every document, in the order in which they stand."""
    for document in DOCUMENTS:
        yield from sorted(_blocks_of(document), key=lambda block: block.line)


def spans() -> Iterator[Block]:
    """Every call of a program that a sentence names."""
    for document in DOCUMENTS:
        text = (CHECKOUT / document).read_text()
        for span in _SPAN.finditer(text):
            yield Block(document, _line(text, span), "bash", span[1].replace("\n", " "))


def _blocks_of(document: Path) -> Iterator[Block]:
    text = (CHECKOUT / document).read_text()
    for fence in _FENCE.finditer(text):
        yield Block(document, _line(text, fence), fence[1], fence[2])
    plain = _FENCE.sub(lambda fence: "\n" * fence[0].count("\n"), text)
    for indented in _INDENTED.finditer(plain):
        code = re.sub(r"(?m)^ {4}", "", indented[0])
        yield Block(document, _line(plain, indented), "bash" if _CALL.match(code) else "", code)


def _line(text: str, match: re.Match[str]) -> int:
    return text.count("\n", 0, match.start()) + 1
