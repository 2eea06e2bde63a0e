"""The process that worker processes are forked from.

It imports what workers need, once, so that a hundred of them start in about a second and share those pages.
Started early, it does so while this process is still importing torch.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.context import BaseContext

_THREAD_COUNTS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def worker_context(preload: Sequence[str]) -> BaseContext:
    """The way to start workers here: forkserver, or spawn where there is none (Windows).

    Starts the fork server and returns at once. A process has one: if it runs already, it goes on with what it
    has imported.

    Args:
        preload: modules that it imports before the first worker.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    with _one_thread_each():
        forkserver.ensure_running()  # inherits the variables now, and the workers from it
    return context


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Numerical libraries in workers get one thread each; they read these variables when first loaded."""
    before = {name: os.environ.get(name) for name in _THREAD_COUNTS}
    os.environ.update(dict.fromkeys(_THREAD_COUNTS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
