"""Files that a process may have open, of which each of its worker processes takes some.

The limit that a process starts with is low, 1,024 on most systems and 256 on macOS; it may itself raise it as
far as a second one. That is done before the first worker starts, for workers inherit it.
"""

from __future__ import annotations

import sys

from workflow_rl.errors import CollectorError

if sys.platform != "win32":
    import resource

_FILES_OF_A_WORKER = 3
_FILES_OF_A_LEARNER = 64

_ENOUGH = 10_240
"""What macOS allows at most. A limit of a million, which others allow, slows programs that try all files."""


def files_needed(num_workers: int) -> int:
    """How many files a learner with so many worker processes has open, with some to spare."""
    return _FILES_OF_A_LEARNER + _FILES_OF_A_WORKER * num_workers


def most_workers(limit: int) -> int:
    """How many worker processes a limit of open files allows."""
    return (limit - _FILES_OF_A_LEARNER) // _FILES_OF_A_WORKER


def open_files_limit() -> int | None:
    """How many files this process may open once it has raised its limit; `None` without a limit."""
    if sys.platform == "win32":
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return None
    return max(soft, _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH))


def raise_open_files_limit() -> None:
    """Let this process, and those that it starts from now on, open as many files as it can be allowed."""
    limit = open_files_limit()
    if sys.platform != "win32" and limit is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def require_open_files(num_workers: int) -> None:
    """See that so many worker processes can be had.

    Raises:
        CollectorError: the system does not allow as many open files.
    """
    limit = open_files_limit()
    if limit is not None and limit < files_needed(num_workers):
        raise CollectorError(
            f"{num_workers} workers need {files_needed(num_workers)} open files and the system allows "
            f"{limit}: raise ulimit -n, or use fewer --n-workers"
        )
