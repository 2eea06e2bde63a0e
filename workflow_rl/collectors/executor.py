"""Barrier-free collection on the executors of `concurrent.futures`: in processes, or in threads.

    learner process                                    worker processes (forkserver)
    submit(tickets) -> chunks -> dispatcher  --------> play(chunk): simulate, infer, sample, record
    publish(snapshot) -> file per version    - - - - > read when a ticket first names the version
    collect(batch)  <- episodes, index order <--------  whole episodes, as flat arrays

An episode is a pure function of its ticket, so a worker that is lost costs nothing but time: its tickets are
played again (`dispatcher`). The executor's other workers are lost with it, so the workers are spread over
several executors.

Threads (`thread_pool`) take the place of everything right of the learner's process in this picture. They
suit environments that release the interpreter lock and never crash, as the native simulator does.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from functools import partial

from workflow_rl.collectors.barrier_free import BarrierFreeCollector
from workflow_rl.collectors.dispatcher import Dispatcher
from workflow_rl.collectors.pool import Report
from workflow_rl.collectors.snapshot_directory import SnapshotDirectory
from workflow_rl.collectors.thread_pool import SnapshotShelf, ThreadPool
from workflow_rl.collectors.worker_pool import WorkerPool
from workflow_rl.environments import POLICY_PRELOAD
from workflow_rl.fork_server import worker_context
from workflow_rl.open_files import require_open_files

_WORKERS_PER_POOL = 10
"""Workers that are lost together when one of them is."""

_WINDOWS_LIMIT = 61


class ExecutorCollector(BarrierFreeCollector):
    """Persistent workers that play whole episodes on their own.

    `close` ends processes at once, whatever they are doing, and threads after the episode they are playing.

    Args:
        n_workers: worker processes, or threads.
        executor: "process" or "thread".
        preload: what the fork server imports before the first worker (`environments.preload_modules`).
        episode_timeout: seconds after which an episode counts as hanging, its worker is killed and its ticket
            played again; `None` for never. Compiled episodes that travel together may take so long each.
        workers_per_pool: processes that share an executor (at most 61 on Windows, the limit of its wait).

    Raises:
        CollectorError: the system does not let this process have so many workers.
        ValueError: there is a time limit for episodes, which nothing can end in a thread.
    """

    def __init__(
        self,
        n_workers: int,
        *,
        executor: str = "process",
        preload: Sequence[str] = (POLICY_PRELOAD,),
        episode_timeout: float | None = None,
        workers_per_pool: int = _WORKERS_PER_POOL,
    ) -> None:
        if executor == "thread":
            if episode_timeout is not None:
                raise ValueError("nothing ends an episode that hangs in a thread")
            shelf = SnapshotShelf()
            super().__init__(n_workers, shelf, partial(ThreadPool, n_workers, shelf))
            return
        require_open_files(n_workers)
        directory = SnapshotDirectory()

        def make_pool(size: int, report: Callable[[Report], None]) -> WorkerPool:
            return WorkerPool(size, worker_context(preload), directory.path, report)

        sizes = _pool_sizes(n_workers, workers_per_pool)
        super().__init__(n_workers, directory, partial(Dispatcher, sizes, make_pool, episode_timeout))


def _pool_sizes(num_workers: int, per_pool: int) -> list[int]:
    """Spread workers evenly over as few pools as hold them."""
    most = min(per_pool, _WINDOWS_LIMIT) if sys.platform == "win32" else per_pool
    num_pools = math.ceil(num_workers / most)
    return [num_workers * (i + 1) // num_pools - num_workers * i // num_pools for i in range(num_pools)]
