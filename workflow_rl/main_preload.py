"""Imported by the fork server, after all else and before any worker exists.

A worker imports the learner's main module, since an environment may be defined or registered there. Done here
it is done once, and what a script imports at its top, torch perhaps, is loaded once rather than by every
worker. (`set_forkserver_preload` takes the name `__main__` for this, which has had no effect before Python
3.13.8 and 3.14.1: cpython issue 126631.)

Then everything is frozen: a worker's garbage collector would otherwise write to every object that it has
inherited, and so take time and unshare their pages.
"""

from __future__ import annotations

import contextlib
import gc
import json
import multiprocessing.popen_forkserver  # noqa: F401  (what a worker is started with)
import os
from multiprocessing import process, spawn

from workflow_rl.fork_server import MAIN_VARIABLE

this_process = process.current_process()
this_process._inheriting = True  # type: ignore[attr-defined]  # refuses workers to a script without a main guard
with contextlib.suppress(Exception):  # the workers meet the same error, and die of it where it is reported
    spawn.prepare(json.loads(os.environ[MAIN_VARIABLE]))
del this_process._inheriting  # type: ignore[attr-defined]
gc.collect()
gc.freeze()
