"""What each worker is playing and since when: the one thing a dead or a hanging worker can still tell.

    worker     begins an episode -> its call, its place in the call and the time go into
                                    <directory>/workers/<process id>
    learner    a worker is dead  -> the episode it names was being played and is to blame, others are not
               now and then      -> a worker whose episode began too long ago hangs

A future's own state says neither: it counts as running from the moment it is prefetched. The file is mapped
into the worker's memory, so that a beat is one store of 24 bytes (0.3 microseconds, from Python) and outlives
the worker, however it ends. Compiled episodes of a call return to Python when all of them are played: they
share a beat, which says how many they are.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import time
from dataclasses import dataclass
from pathlib import Path

_BEAT = struct.Struct("=dqii")  # the time first: a beat read while it is written never looks older than it is
_NO_CALL = -1


@dataclass(frozen=True, slots=True)
class Beat:
    """The last episodes that a worker began.

    Attributes:
        started: when, seconds of the system-wide monotonic clock.
        call: number of their call; negative before the first.
        first: position of the first in the call.
        count: how many they are.
    """

    started: float
    call: int
    first: int
    count: int

    @property
    def positions(self) -> range:
        """Their positions in the call."""
        return range(self.first, self.first + self.count)


class Heartbeat:
    """A worker's side.

    Args:
        directory: the learner's, shared by all its workers.
    """

    def __init__(self, directory: Path) -> None:
        file = _file(directory, os.getpid())
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(_BEAT.pack(time.monotonic(), _NO_CALL, 0, 0))
        with file.open("r+b") as opened:
            self._memory = mmap.mmap(opened.fileno(), _BEAT.size)
        self._call = _NO_CALL

    def begin(self, call: int) -> None:
        """Say that a call begins now, with its first episode."""
        self._call = call
        self.announce(0, 1)

    def announce(self, first: int, count: int) -> None:
        """Say which episodes of the call begin now: the position of the first, and how many."""
        _BEAT.pack_into(self._memory, 0, time.monotonic(), self._call, first, count)


def read_beat(directory: Path, process: int) -> Beat | None:
    """The last beat of a worker, dead or alive; `None` if it has not come so far as to have one."""
    try:
        content = _file(directory, process).read_bytes()
    except FileNotFoundError:
        return None
    return Beat(*_BEAT.unpack(content)) if len(content) == _BEAT.size else None


def forget_beat(directory: Path, process: int) -> None:
    """Delete what a worker that has ended left."""
    with contextlib.suppress(PermissionError):  # Windows keeps a file as long as the worker has it mapped
        _file(directory, process).unlink(missing_ok=True)


def _file(directory: Path, process: int) -> Path:
    return directory / "workers" / str(process)
