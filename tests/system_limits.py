"""Limits that the system sets to a process, narrowed for a while."""

from __future__ import annotations

import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil


@contextmanager
def small_files_only(limit: int) -> Iterator[None]:
    """A limit in bytes; what exceeds it the operating system refuses like what a full disk does not hold."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def room_for_files(number: int) -> Iterator[None]:
    """This process has allowed itself to open about so many files more, and may allow itself any number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(file.name) for file in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + number, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def room_for_threads(number: int) -> Iterator[None]:
    """The system gives this process so many more threads at most: address space for no more stacks."""
    stack = 512 * 2**20
    limits = resource.getrlimit(resource.RLIMIT_AS)
    before = threading.stack_size(stack)
    in_use = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (in_use + number * stack + stack // 2, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
        threading.stack_size(before)
