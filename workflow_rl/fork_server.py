"""The process that worker processes are forked from.

It imports what workers need, once, so that a hundred of them start in about a second and share those pages.
Started early, it does so while this process is still importing torch.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from multiprocessing import forkserver, spawn
from multiprocessing.context import BaseContext
from pathlib import Path

from workflow_rl.errors import SettingError
from workflow_rl.open_files import raise_open_files_limit

if sys.platform != "win32":
    from workflow_rl.worker_process import WorkerContext

MAIN_VARIABLE = "WORKFLOW_RL_MAIN"
"""Tells the fork server which main module its workers import (`main_preload`)."""

_MAIN_KEYS = ("sys_argv", "init_main_from_name", "init_main_from_path")

_THREAD_COUNTS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def worker_context(preload: Sequence[str]) -> BaseContext:
    """The way to start workers here: forkserver, or spawn where there is none (Windows).

    Lets this process open more files, starts the fork server and returns at once. A process has one: if it
    runs already, it goes on with what it has imported.

    Args:
        preload: modules that it imports before the first worker.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    raise_open_files_limit()
    context = WorkerContext()
    context.set_forkserver_preload([*preload, "workflow_rl.main_preload"])
    with _environment_of_workers(), _interrupts_held():
        forkserver.ensure_running()  # inherits both now, and the workers from it
    return context


def refuse_imported_script() -> None:
    """Keep a script from beginning anew in each of its workers, which import it.

    Raises:
        SettingError: this process is one of them, or the fork server, and is importing the script.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise SettingError(
            "worker processes import the script that they work for, so what it does belongs under "
            "if __name__ == '__main__':"
        )


@contextlib.contextmanager
def _environment_of_workers() -> Iterator[None]:
    """The variables that the fork server is to see.

    Numerical libraries get one thread in each worker; they read these variables when first loaded.

    Until Python 3.12 the fork server finds what it preloads on its own import path only, which lacks a
    checkout that is not installed (cpython issue 117378).
    """
    import_path = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    main = {key: value for key, value in spawn.get_preparation_data("worker").items() if key in _MAIN_KEYS}
    variables = {
        **dict.fromkeys(_THREAD_COUNTS, "1"),
        "PYTHONPATH": os.pathsep.join(import_path),
        MAIN_VARIABLE: json.dumps(main),
    }
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C reaches the whole terminal group; a worker that is just starting must not die of it.

    Processes inherit the mask; `collectors.worker.start` lifts it once the worker ignores the signal.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
