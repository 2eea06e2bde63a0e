"""TensorBoard's events of one sitting, written at once by whoever has them.

torch's own `SummaryWriter` writes in a thread, which ends with a traceback when the disk is full, some time
after the call that it belongs to has returned. Here what cannot be written is an error of that call.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[import-untyped]
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]

from workflow_rl.closing import Closing


class EventFile(Closing):
    """A new file of events, in the format that TensorBoard reads.

    Args:
        directory: that TensorBoard is pointed to; made if it is not there.
        first_step: of this file; what earlier files of the directory hold from there on is not shown.

    Raises:
        OSError: it cannot be written.
    """

    def __init__(self, directory: Path, first_step: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        now = time.time()
        # TensorBoard reads files in the order of their names, and takes the later one where two overlap.
        name = f"events.out.tfevents.{now:017.6f}.{socket.gethostname()}.{os.getpid()}"
        self._file = (directory / name).open("ab")
        self._records = RecordWriter(self._file)
        # What torch's SummaryWriter begins with, given a `purge_step`.
        self._write(Event(wall_time=now, step=first_step, file_version="brain.Event:2"))
        start = SessionLog(status=SessionLog.START)
        self._write(Event(wall_time=now, step=first_step, session_log=start))
        self._file.flush()

    def add_scalars(self, values: Mapping[str, float], step: int) -> None:
        """Add figures by tag; they have left this process when the call returns.

        Raises:
            OSError: they cannot be written.
        """
        figures = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._write(Event(wall_time=time.time(), step=step, summary=Summary(value=figures)))
        self._file.flush()

    def synchronize(self) -> None:
        """Bring all events to the disk.

        Raises:
            OSError: they cannot be written.
        """
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file. Idempotent.

        Raises:
            OSError: what was added last cannot be written.
        """
        self._file.close()

    def _write(self, event: Event) -> None:
        self._records.write(event.SerializeToString())
