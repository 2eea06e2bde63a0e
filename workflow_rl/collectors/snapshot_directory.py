"""Hands policy weights to the workers of one machine: a small file per version.

The learner writes each version once; a worker reads it when the first ticket names it. Files in memory
(`/dev/shm` where there is one) rather than `multiprocessing.shared_memory`: its resource tracker unlinks
segments that other processes still use (cpython issue 82300), and 80 kB a version do not need more.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np

from workflow_rl.episode import NetworkShape, Snapshot

_MEMORY = Path("/dev/shm")


class SnapshotDirectory:
    """The learner's side: writes and forgets versions."""

    def __init__(self) -> None:
        in_memory = _MEMORY if os.access(_MEMORY, os.W_OK) else None
        self.path = Path(tempfile.mkdtemp(prefix="workflow_rl-", dir=in_memory))
        self._versions: set[int] = set()

    def write(self, snapshot: Snapshot) -> None:
        """Make a version readable; readers see all of it or nothing."""
        shape = json.dumps(asdict(snapshot.shape))
        partial = self.path / "partial.npz"
        np.savez(partial, shape=np.array(shape), parameters=snapshot.parameters)
        partial.replace(_file(self.path, snapshot.version))
        self._versions.add(snapshot.version)

    def __contains__(self, version: int) -> bool:
        return version in self._versions

    def keep(self, versions: set[int]) -> None:
        """Delete all versions but these."""
        for version in self._versions - versions:
            _file(self.path, version).unlink(missing_ok=True)
        self._versions &= versions

    def close(self) -> None:
        """Delete the directory. Idempotent."""
        shutil.rmtree(self.path, ignore_errors=True)


class SnapshotReader:
    """A worker's side: keeps the version it read last."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._latest: Snapshot | None = None

    def read(self, version: int) -> Snapshot:
        """The snapshot of a version that has been written."""
        if self._latest is None or self._latest.version != version:
            with np.load(_file(self.path, version), allow_pickle=False) as arrays:
                shape = NetworkShape.from_json(json.loads(str(arrays["shape"])))
                self._latest = Snapshot(version, shape, arrays["parameters"])
        return self._latest


def _file(directory: Path, version: int) -> Path:
    return directory / f"{version}.npz"
