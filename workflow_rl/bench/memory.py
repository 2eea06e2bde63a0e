"""What a run takes of the machine's memory, its processes together.

The proportional set size (PSS) counts a page that n processes share as 1/n in each of them, so that the sum
over all processes is what the run really takes, however much the workers inherit from the fork server.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from workflow_rl.bench import processes


@dataclass(frozen=True)
class Memory:
    """PSS in bytes; `workers` is the sum over `num_workers`, `largest_worker` one of them."""

    num_workers: int
    learner: int
    fork_server: int
    workers: int
    largest_worker: int

    @property
    def total(self) -> int:
        """Of the whole run."""
        return self.learner + self.fork_server + self.workers


def read_memory() -> Memory:
    """The memory of this process, its fork server and the workers, now.

    The executor starts a worker when none is idle: with short episodes there may be fewer than allowed.
    """
    server = processes.fork_server_of(os.getpid())
    workers = [] if server is None else processes.children_of(server)
    each = [processes.proportional_set_bytes(worker) for worker in workers]
    return Memory(
        num_workers=len(workers),
        learner=processes.proportional_set_bytes(os.getpid()),
        fork_server=0 if server is None else processes.proportional_set_bytes(server),
        workers=sum(each),
        largest_worker=max(each, default=0),
    )
