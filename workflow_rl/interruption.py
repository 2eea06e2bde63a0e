"""Ctrl-C: the first asks the run to finish its update and write everything, the second stops it at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Self

EXIT_CODE = 130
"""Of a program that was interrupted: 128 and the number of SIGINT, as shells have it."""


class Interruption:
    """While active, SIGINT and SIGTERM set a flag; a second one raises KeyboardInterrupt.

    Python gives signals to the main thread alone; a run in another thread is not interrupted by them.
    """

    def __init__(self) -> None:
        self.is_requested = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal returned

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002  (signal's signature)
        if self.is_requested:
            raise KeyboardInterrupt
        self.is_requested = True
