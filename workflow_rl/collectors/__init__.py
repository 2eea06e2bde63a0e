"""Interchangeable ways to play the episodes of a batch; they differ in speed, never in what is played."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from workflow_rl.collectors.executor import ExecutorCollector
from workflow_rl.collectors.interface import Collector
from workflow_rl.collectors.sequential import SequentialCollector
from workflow_rl.collectors.synchronous import SynchronousCollector
from workflow_rl.cores import usable_cores
from workflow_rl.environments import NATIVE, executor_of, preload_modules
from workflow_rl.episode import EnvironmentSpec
from workflow_rl.errors import MissingExtraError
from workflow_rl.settings import CollectorSettings

__all__ = [
    "Collector",
    "ExecutorCollector",
    "SequentialCollector",
    "SynchronousCollector",
    "check_collector",
    "make_collector",
]


def make_collector(settings: CollectorSettings, environment: EnvironmentSpec) -> Collector:
    """The collector that the settings name, ready to play an environment.

    Raises:
        SettingError: the settings and the environment do not go together, or there is no Ray cluster.
        MissingExtraError: Ray is asked for and not installed.
        CollectorError: the system does not allow so many workers.
    """
    if settings.collector == "ray":
        with _needing_ray():
            from workflow_rl.collectors.ray_actors import RayCollector

        return RayCollector(
            settings.n_workers,
            address=settings.ray_address,
            preload=preload_modules(environment),
            episode_timeout=settings.episode_timeout,
        )
    executor = executor_of(settings, environment)
    if executor is None:
        return SequentialCollector()
    if settings.collector == "synchronous":
        return SynchronousCollector(settings.n_workers, preload=preload_modules(environment))
    return ExecutorCollector(
        _num_useful(settings.n_workers, executor, environment),
        executor=executor,
        preload=preload_modules(environment),
        episode_timeout=settings.episode_timeout,
    )


def check_collector(settings: CollectorSettings) -> None:
    """Find out what may be missing, before anything is made.

    Raises:
        SettingError: there is no Ray cluster.
        MissingExtraError: Ray is asked for and not installed.
    """
    if settings.collector == "ray":
        with _needing_ray():
            from workflow_rl.collectors.ray_connection import check_address

        check_address(settings.ray_address)


@contextmanager
def _needing_ray() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError("Ray", "ray", "--collector ray") from error


def _num_useful(n_workers: int, executor: str, environment: EnvironmentSpec) -> int:
    """Threads that never wait only take turns where there are more of them than cores."""
    is_always_busy = executor == "thread" and environment.id == NATIVE
    return min(n_workers, usable_cores()) if is_always_busy else n_workers
