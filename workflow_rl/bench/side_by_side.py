"""Work that takes one core each, done by several processes: trainings that are run for what they learn."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def side_by_side(
    work: Callable[[_Item], _Result],
    items: Iterable[_Item],
    *,
    processes: int,
    seconds: float | None = None,
) -> Iterator[tuple[_Item, _Result]]:
    """Do the work on each item, in the order in which the work ends.

    Args:
        work: a function of a module, since other processes look it up there.
        items: what it is done on; may be sent to processes.
        processes: how many, each new; what they print is lost to nobody.
        seconds: begin nothing that, by the longest so far, would end later than this; `None` does all.

    Yields:
        An item, and what came of it.

    Raises:
        Exception: whatever the work raises.
    """
    waiting = deque(items)
    running: dict[Future[_Result], tuple[_Item, float]] = {}
    begin, longest = time.monotonic(), 0.0
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        while waiting or running:
            is_late = seconds is not None and time.monotonic() - begin + longest > seconds
            while waiting and len(running) < processes and not is_late:
                item = waiting.popleft()
                running[pool.submit(work, item)] = (item, time.monotonic())
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                item, since = running.pop(future)
                longest = max(longest, time.monotonic() - since)
                yield item, future.result()
