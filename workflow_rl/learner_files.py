"""Learners that are to go on some day: what a trial ended with, policy and optimiser, in the run's directory.

    learners/<trial>-<sha256>.safetensors

A run may train an order, turn to others, and go on with it much later, to the last bit as if nothing had been
in between. Like a checkpoint a file is named after its contents, so a reader knows whether it is whole, and a
trial that is played again after a kill writes the same file again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass

from workflow_rl.checkpoint import Checkpoint, checkpoint_to_bytes, is_whole, read_checkpoint
from workflow_rl.errors import RunDirectoryError
from workflow_rl.run_directory import RunDirectory

LEARNERS = "learners"


@dataclass(frozen=True)
class LearnerFiles:
    """The learners of one run.

    Attributes:
        directory: of the run.
    """

    directory: RunDirectory

    def store(self, trial: int, learnt: Checkpoint) -> str:
        """Write what a trial ended with.

        Returns:
            The name of its file, for `load`.

        Raises:
            RunDirectoryError: it cannot be written.
        """
        content = checkpoint_to_bytes(learnt)
        name = f"{trial:03d}-{hashlib.sha256(content).hexdigest()}.safetensors"
        self.directory.write_bytes(f"{LEARNERS}/{name}", content)
        return name

    def load(self, name: str) -> Checkpoint:
        """Read what `store` wrote.

        Raises:
            RunDirectoryError: it is damaged, or of another version.
        """
        file = self.directory.path / LEARNERS / name
        if not is_whole(file):
            raise RunDirectoryError(
                f"{file} is damaged; the run cannot go on with the training that it holds"
            )
        return read_checkpoint(file)

    def keep(self, names: Collection[str]) -> None:
        """Delete all others.

        Raises:
            RunDirectoryError: one cannot be deleted.
        """
        self.directory.delete_files(LEARNERS, but=names)
