"""Interchangeable ways to play the episodes of a batch; they differ in speed, never in what is played."""

from __future__ import annotations

from workflow_rl.collectors.executor import ExecutorCollector
from workflow_rl.collectors.interface import Collector
from workflow_rl.collectors.sequential import SequentialCollector
from workflow_rl.environments import preload_modules
from workflow_rl.episode import EnvironmentSpec
from workflow_rl.settings import CollectorSettings

__all__ = ["Collector", "ExecutorCollector", "SequentialCollector", "make_collector"]


def make_collector(settings: CollectorSettings, environment: EnvironmentSpec) -> Collector:
    """The collector that the settings name, ready to play an environment."""
    if settings.collector == "sequential":
        return SequentialCollector()
    return ExecutorCollector(
        settings.n_workers,
        preload=preload_modules(environment),
        episode_timeout=settings.episode_timeout,
    )
