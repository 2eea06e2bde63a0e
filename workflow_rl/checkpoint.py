"""Checkpoints: what a run needs to go on after a kill as if it had never been stopped.

    checkpoints/<number>-<sha256>.safetensors      number counts the checkpoints of a run

One file holds arrays and, in its metadata, JSON; nothing is pickled. The name ends with the SHA-256 of the
contents, so a reader knows whether a file is whole (and so does `sha256sum`). A file is written beside its
place and then renamed, and the one before is kept until the next: whatever happens, a whole one is there. A
newest file that was damaged later is passed over, and the run goes on from the one before.

What is promised: a run that is resumed from any checkpoint ends with the same weights and the same figures in
its logs, all but seconds, as one that was never stopped, on the same type of processor with the same version
of torch and the same number of learner threads. Who collects, and with how many workers, may differ.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from workflow_rl.errors import RunDirectoryError
from workflow_rl.run_directory import RunDirectory

CHECKPOINTS = "checkpoints"
_SUFFIX = ".safetensors"
_METADATA_KEY = "workflow_rl"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The state of a run between two updates.

    Attributes:
        state: JSON values; floats survive exactly.
        arrays: by name, of any shape, in the types of numpy that safetensors knows.
    """

    state: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]]


def save_checkpoint(directory: RunDirectory, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, then delete all others but the newest whole one.

    Raises:
        RunDirectoryError: it cannot be written, e.g. to a full disk; the earlier ones are then untouched.
        ValueError: a number of the state is NaN or infinite.
    """
    earlier = _files(directory.path)
    number = 1 + max((_number(file) for file in earlier), default=0)
    content = checkpoint_to_bytes(checkpoint)
    name = f"{number:06d}-{hashlib.sha256(content).hexdigest()}{_SUFFIX}"
    directory.write_bytes(f"{CHECKPOINTS}/{name}", content)
    before = next((file.name for file in earlier if is_whole(file)), name)
    directory.delete_files(CHECKPOINTS, but={name, before})


def load_checkpoint(directory: RunDirectory, on_damage: Callable[[str], None]) -> Checkpoint | None:
    """Read the newest whole checkpoint.

    Args:
        directory: of the run.
        on_damage: told in one line of each newer one that is damaged.

    Returns:
        The checkpoint; `None` if the run was stopped before its first one.

    Raises:
        RunDirectoryError: there are checkpoints and all are damaged.
    """
    files = _files(directory.path)
    for file in files:
        if is_whole(file):
            return read_checkpoint(file)
        on_damage(f"{file} is damaged; it is passed over")
    if files:
        raise RunDirectoryError(
            f"every checkpoint in {directory.path / CHECKPOINTS} is damaged, so the run cannot go on; "
            "start another one with another --run-dir"
        )
    return None


def _files(run_directory: Path) -> list[Path]:
    """The checkpoints of a run, newest first."""
    named = [file for file in (run_directory / CHECKPOINTS).glob(f"*-*{_SUFFIX}") if _number(file) > 0]
    return sorted(named, key=_number, reverse=True)


def _number(file: Path) -> int:
    """The number in a checkpoint's name, 0 if it is not the name of one."""
    number = file.name.partition("-")[0]
    return int(number) if number.isascii() and number.isdigit() else 0


def is_whole(file: Path) -> bool:
    """Whether a file whose name ends with the SHA-256 of its contents can be read and is what was written."""
    try:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return False
    return file.stem.endswith("-" + digest)


def checkpoint_to_bytes(checkpoint: Checkpoint) -> bytes:
    """The contents of a file that `read_checkpoint` reads.

    Raises:
        ValueError: a number of the state is NaN or infinite.
    """
    dense = {name: np.array(array, order="C") for name, array in checkpoint.arrays.items()}
    return safetensors.numpy.save(dense, {_METADATA_KEY: json.dumps(checkpoint.state, allow_nan=False)})


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a file that is whole.

    Raises:
        RunDirectoryError: it does not fit, so it was written by another version of the package.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            state = json.loads(file.metadata()[_METADATA_KEY])
            # Copied, for compiled code takes arrays that cannot be written to for another type.
            arrays = {name: np.array(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
    except (KeyError, TypeError, ValueError, safetensors.SafetensorError) as error:
        raise RunDirectoryError(f"{path} is of another version: {error!r}") from error
    return Checkpoint(state, arrays)
