"""`workflow-rl`, called in this process, where a program of its own would take seconds to start."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from workflow_rl import cli


def call(*arguments: str | Path) -> int | str:
    """Run a command; returns its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["workflow-rl", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    return ended.value.code or 0
