"""`workflow-rl`, called in this process, where a program of its own would take seconds to start."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from workflow_rl import cli

TINY = (
    "--total-episodes=10",
    "--episodes-per-update=5",
    "--evaluation-episodes=2",
    "--max-steps=4",
    "--hidden-size=8",
    "--collector=sequential",
)
"""A whole run within a fraction of a second."""


@dataclass(frozen=True)
class Outcome:
    """What a call of the program came to."""

    code: int | str
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The one line on stderr."""
        (line,) = self.err.splitlines()
        return line


Program = Callable[..., Outcome]
"""The fixture of that name (`conftest.py`): takes the words of a command line."""


def call(*arguments: str | Path) -> int | str:
    """Run a command; returns its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["workflow-rl", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    return ended.value.code or 0
