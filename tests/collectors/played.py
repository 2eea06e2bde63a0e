"""What the collector tests have in common: tickets, snapshots, faults, and when two batches are the same."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields

import numpy as np
from awkward_environments import NUM_ACTIONS, NUM_OBSERVATIONS, specification

from workflow_rl.collectors import Collector, SequentialCollector
from workflow_rl.collectors.attempts import Cause
from workflow_rl.episode import WORKFLOW_CONTEXT, EnvironmentSpec, Episodes, NetworkShape, Snapshot, Ticket
from workflow_rl.seeding import Stream

UNEVEN = specification("Uneven")
CAGE2 = EnvironmentSpec.of("workflow_rl/Cage2-v0", {"red_agent": "RedMeanderAgent", "max_steps": 12})

CAUSES = {
    "exits": Cause.DIED,
    "segfaults": Cause.DIED,
    "is killed": Cause.DIED,
    "hangs": Cause.HUNG,
    "leaves": Cause.RAISED,
    "runs out of memory": Cause.RAISED,
    "is unpicklable": Cause.RAISED,
}
"""As what a collector counts each of `awkward_environments.FAULTS`."""

_TIMING = {"started", "seconds", "worker"}
"""Fields of `Episodes` that say when and by whom, not what."""


def snapshot(version: int, environment: EnvironmentSpec = UNEVEN) -> Snapshot:
    """A policy far from uniform, different for every version."""
    num_observations = 52 if environment == CAGE2 else NUM_OBSERVATIONS
    shape = NetworkShape(num_observations, WORKFLOW_CONTEXT, 16, NUM_ACTIONS)
    weights = np.random.default_rng(version).normal(scale=0.4, size=shape.num_parameters)
    return Snapshot(version, shape, weights.astype(np.float32))


def tickets(
    episodes: Iterable[int],
    *,
    batch: int = 0,
    version: int = 0,
    environment: EnvironmentSpec = UNEVEN,
    workflow: int = 7,
    greedy: bool = False,
) -> list[Ticket]:
    """Training tickets of run seed 5."""
    return [
        Ticket(5, Stream.TRAINING_EPISODE, episode, environment, version, batch, workflow, greedy)
        for episode in episodes
    ]


def played_alone(asked: list[Ticket]) -> Episodes:
    """The tickets of one batch as the sequential collector plays them, each alone."""
    with SequentialCollector() as collector:
        parts = []
        for ticket in asked:
            collector.publish(snapshot(ticket.version, ticket.environment))
            collector.submit([ticket])
            parts.append(collector.collect(ticket.batch))
    return Episodes.concatenate(sorted(parts, key=lambda part: part.tickets[0].episode))


def assert_same(first: Episodes, second: Episodes) -> None:
    """The same episodes, to the last bit."""
    assert first.tickets == second.tickets
    for field in fields(Episodes):
        if field.name in _TIMING | {"tickets"}:
            continue
        one, other = getattr(first, field.name), getattr(second, field.name)
        assert one.dtype == other.dtype, field.name
        assert one.shape == other.shape, field.name
        assert one.tobytes() == other.tobytes(), field.name


def play(collector: Collector, asked: list[Ticket]) -> Episodes:
    """Publish what the tickets of one batch name, and play them."""
    for version in sorted({ticket.version for ticket in asked}):
        collector.publish(snapshot(version, asked[0].environment))
        collector.submit([ticket for ticket in asked if ticket.version == version])
    return collector.collect(asked[0].batch)
