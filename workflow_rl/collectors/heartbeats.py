"""What each worker is playing and since when: the one thing a dead or a hanging worker can still tell.

    worker     begins a call     -> its number and the time go into <directory>/workers/<process id>
    learner    a worker is dead  -> the call it names was being played and is to blame, others are not
               now and then      -> a worker whose call began too long ago hangs

A future's own state says neither: it counts as running from the moment it is prefetched. The file is mapped
into the worker's memory, so that a beat is one store of 16 bytes and outlives the worker, however it ends.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from dataclasses import dataclass
from pathlib import Path

_BEAT = struct.Struct("=dq")  # the time first: a beat read while it is written never looks older than it is
_NO_CALL = -1


@dataclass(frozen=True, slots=True)
class Beat:
    """The last call that a worker began.

    Attributes:
        started: when, seconds of the system-wide monotonic clock.
        call: its number.
    """

    started: float
    call: int


class Heartbeat:
    """A worker's side.

    Args:
        directory: the learner's, shared by all its workers.
    """

    def __init__(self, directory: Path) -> None:
        file = _file(directory, os.getpid())
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(_BEAT.pack(time.monotonic(), _NO_CALL))
        with file.open("r+b") as opened:
            self._memory = mmap.mmap(opened.fileno(), _BEAT.size)

    def begin(self, call: int) -> None:
        """Say that a call begins now."""
        _BEAT.pack_into(self._memory, 0, time.monotonic(), call)


def read_beat(directory: Path, process: int) -> Beat | None:
    """The last beat of a worker, dead or alive; `None` if it has not come so far as to have one."""
    try:
        content = _file(directory, process).read_bytes()
    except FileNotFoundError:
        return None
    return Beat(*_BEAT.unpack(content)) if len(content) == _BEAT.size else None


def forget_beat(directory: Path, process: int) -> None:
    """Delete what a worker that has ended left."""
    _file(directory, process).unlink(missing_ok=True)


def _file(directory: Path, process: int) -> Path:
    return directory / "workers" / str(process)
