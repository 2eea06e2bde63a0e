"""How many cores a process may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from workflow_rl.cores import cores_given, usable_cores


def test_affinity_bounds_the_cores() -> None:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.mark.parametrize(
    ("content", "cores"),
    [("max 100000\n", None), ("200000 100000\n", 2), ("150000 100000\n", 2), ("1000 100000\n", 1)],
)
def test_a_container_bounds_the_cores(tmp_path: Path, content: str, cores: int | None) -> None:
    limit = tmp_path / "cpu.max"
    limit.write_text(content)
    assert cores_given(limit) == cores
    assert cores_given(tmp_path / "nothing") is None
