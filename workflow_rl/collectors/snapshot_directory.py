"""Hands policy weights to the workers of one machine: a small file per version.

Workers map the file rather than read it, so that all of them evaluate the same copy of the weights. A hundred
workers that wait most of the time take turns on few cores, and each would find its own copy gone from the
processor's caches whenever it wakes.

The learner writes each version once; a worker reads it when the first ticket names it. Files in memory
(`/dev/shm` where there is one) rather than `multiprocessing.shared_memory`: its resource tracker unlinks
segments that other processes still use (cpython issue 82300), and 80 kB a version do not need more.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np

from workflow_rl.episode import NetworkShape, Snapshot
from workflow_rl.errors import LearnerError

_MEMORY = Path("/dev/shm")


class SnapshotDirectory:
    """The learner's side: writes and forgets versions."""

    def __init__(self) -> None:
        in_memory = _MEMORY if os.access(_MEMORY, os.W_OK) else None
        self.path = Path(tempfile.mkdtemp(prefix="workflow_rl-", dir=in_memory))
        self._versions: set[int] = set()

    def write(self, snapshot: Snapshot) -> None:
        """Make a version readable; readers see all of it or nothing.

        Raises:
            LearnerError: it cannot be written; containers often have little memory for files.
        """
        parameters = _file(self.path, snapshot.version)
        partial = self.path / "partial.npy"
        try:
            _shape_file(parameters).write_text(json.dumps(asdict(snapshot.shape)))
            np.save(partial, snapshot.parameters)
            partial.replace(parameters)
        except OSError as error:
            raise LearnerError(
                f"the policy cannot be written for the workers, {snapshot.parameters.nbytes:,} bytes to "
                f"{self.path} ({error.strerror or error}): is it full?"
            ) from error
        self._versions.add(snapshot.version)

    def __contains__(self, version: object) -> bool:
        return version in self._versions

    def keep(self, versions: set[int]) -> None:
        """Delete all versions but these."""
        for version in self._versions - versions:
            parameters = _file(self.path, version)
            _shape_file(parameters).unlink(missing_ok=True)
            with contextlib.suppress(PermissionError):  # Windows keeps a file that a worker has mapped
                parameters.unlink(missing_ok=True)
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
            parameters = _file(self.path, version)
            shape = NetworkShape.from_json(json.loads(_shape_file(parameters).read_text()))
            mapped = np.load(parameters, mmap_mode="c", allow_pickle=False)
            self._latest = Snapshot(version, shape, mapped.view(np.ndarray))
        return self._latest


def _file(directory: Path, version: int) -> Path:
    return directory / f"{version}.npy"


def _shape_file(parameters: Path) -> Path:
    return parameters.with_suffix(".json")
