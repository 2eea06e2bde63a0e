"""A Ray cluster for all tests that ask for one, which nobody joins who does not have this process's token."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator

import pytest
from ray_nodes import RayNodes

# Read when Ray is loaded.
os.environ.update({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)})


@pytest.fixture(scope="session")
def session_nodes() -> Iterator[RayNodes]:
    """One node of four CPUs, for tests that lose no node."""
    pytest.importorskip("ray", reason="needs workflow-rl[ray]")
    with RayNodes(4) as nodes:
        yield nodes


@pytest.fixture
def nodes(session_nodes: RayNodes) -> Iterator[RayNodes]:
    """The same; whatever a test starts there has to be gone at its end."""
    yield session_nodes
    session_nodes.wait_for_no_actor()
