"""Masks that keep to the order: never a violation by what blue observes, and the same bits whoever plays."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
from numpy.typing import NDArray

from workflow_rl.alignment import Fix, compliance_of, judge_episodes
from workflow_rl.cage2.env import Cage2Env
from workflow_rl.cage2.scenario import ACTION_NAMES, HOST_NAMES, HOST_TYPES
from workflow_rl.collectors import Collector, ExecutorCollector, SequentialCollector, SynchronousCollector
from workflow_rl.compliance_mask import allowed_by_order, forbidden_by_order, masked_types
from workflow_rl.episode import (
    WORKFLOW_CONTEXT,
    EnvironmentSpec,
    Episodes,
    NetworkShape,
    Snapshot,
    Ticket,
    unpack_forbidden,
)
from workflow_rl.rollout import Player
from workflow_rl.seeding import Stream
from workflow_rl.workflow import HostType, Workflow

SHAPE = NetworkShape(52, WORKFLOW_CONTEXT, hidden_size=16, num_actions=145)
HOSTS_OF = {kind: [h for h, t in enumerate(HOST_TYPES) if t == kind] for kind in HostType}


class SteppedCage2(gymnasium.Env[NDArray[np.int8], np.int64]):
    """The native simulator as any other environment: no compiled player takes it."""

    def __init__(self, **settings: Any) -> None:
        self._game = Cage2Env(**settings)
        self.observation_space, self.action_space = self._game.observation_space, self._game.action_space
        self.reset, self.step = self._game.reset, self._game.step  # type: ignore[method-assign]
        self.red_access = self._game.red_access


def environment(red_agent: str = "RedMeanderAgent", max_steps: int = 100, **extra: bool) -> EnvironmentSpec:
    return EnvironmentSpec.of(
        "workflow_rl/Cage2-v0", {"red_agent": red_agent, "max_steps": max_steps, **extra}
    )


def ticket(
    episode: int, played: EnvironmentSpec, *, mask: str | None = "reachable", greedy: bool = False
) -> Ticket:
    return Ticket(
        8,
        Stream.TRAINING_EPISODE,
        episode,
        played,
        0,
        0,
        workflow=7 * episode % 120,
        greedy=greedy,
        mask=mask,
    )


def snapshot(shape: NetworkShape = SHAPE, *, scale: float = 0.5) -> Snapshot:
    """A policy far from uniform that likes to fix."""
    parameters = np.random.default_rng(3).normal(scale=scale, size=shape.num_parameters).astype(np.float32)
    is_fix = [name.startswith(("Remove", "Restore")) for name in ACTION_NAMES]
    parameters[-145:][is_fix] += 2
    return Snapshot(0, shape, parameters)


def play(tickets: Sequence[Ticket], policy: Snapshot | None = None) -> Episodes:
    player = Player()
    try:
        return player.play(tickets, policy or snapshot())
    finally:
        player.close()


def order_of(ticket: Ticket) -> Workflow:
    assert ticket.workflow is not None
    return Workflow.from_index(ticket.workflow)


def violations(played: Episodes, definition: str = "reachable") -> tuple[int, int]:
    """Violating fixes by what blue observed, and by the truth."""
    judged = judge_episodes(played, [order_of(t) for t in played.tickets], definition)
    observed, true = (
        sum(np.count_nonzero(f == Fix.VIOLATING) for f in j) for j in (judged.observed, judged.true)
    )
    return observed, true


@pytest.mark.parametrize("shown", list(itertools.product((False, True), repeat=5)))
def test_only_the_first_type_that_is_shown_may_be_fixed(shown: tuple[bool, ...]) -> None:
    """In all 120 orders, action by action."""
    observation = np.zeros(52, np.float32)
    for kind in HostType:
        observation[4 * HOSTS_OF[kind][-1] + 3] = shown[kind]  # of users it is not User0
    for index in range(120):
        order = Workflow.from_index(index)
        first = next((kind for kind in order.order if shown[kind]), None)
        allowed = allowed_by_order(
            Ticket(0, Stream.TRAINING_EPISODE, 0, environment(), 0, 0, index, mask="reachable"), observation
        )
        for action, name in enumerate(ACTION_NAMES):
            kind, _, host = name.partition(" ")
            is_fix = kind in ("Remove", "Restore")
            may = not is_fix or first is None or HOST_TYPES[HOST_NAMES.index(host)] == first
            assert allowed[action] == may, (str(order), name)


def test_the_foothold_counts_as_the_definition_has_it() -> None:
    observation = np.zeros(52, np.uint8)
    observation[4 * HOST_NAMES.index("User0") + 3] = 1
    reachable, any_session = (
        allowed_by_order(ticket(0, environment(), mask=mask), observation)
        for mask in ("reachable", "any-session")
    )
    assert reachable.all()
    assert any_session.sum() == 145 - 2 * 8


def test_a_remove_opens_no_way_round_the_order() -> None:
    """What it leaves is unknown, most often still compromised, and masks as if it were."""
    users_first = Ticket(0, Stream.TRAINING_EPISODE, 0, environment(), 0, 0, 119, mask="reachable")
    assert order_of(users_first).order[0] == HostType.USER
    compromised, unknown = np.zeros((2, 52), np.uint8)
    user = HOST_NAMES.index("User3")
    compromised[4 * user + 3] = unknown[4 * user + 2] = 1
    allowed = allowed_by_order(users_first, unknown)
    np.testing.assert_array_equal(allowed, allowed_by_order(users_first, compromised))
    assert allowed.sum() == 145 - 2 * 8


def test_without_a_mask_everything_is_allowed() -> None:
    for plain in (
        ticket(0, environment(), mask=None),
        Ticket(0, Stream.TRAINING_EPISODE, 0, environment(), 0, 0),
    ):
        assert allowed_by_order(plain, np.ones(52, np.uint8)).all()


@pytest.mark.parametrize("definition", ["reachable", "any-session"])
@pytest.mark.parametrize("greedy", [False, True])
@pytest.mark.parametrize("red_agent", ["B_lineAgent", "RedMeanderAgent"])
def test_no_episode_violates_what_blue_observes(red_agent: str, greedy: bool, definition: str) -> None:
    """240 episodes, each order twice; the same policy without masks does little else."""
    masked = [ticket(e, environment(red_agent), mask=definition, greedy=greedy) for e in range(240)]
    free = [ticket(e, environment(red_agent), mask=None, greedy=greedy) for e in range(240)]
    assert violations(play(masked), definition)[0] == 0
    assert violations(play(free), definition)[0] > 1000


def test_what_was_masked_is_what_the_observations_say() -> None:
    tickets = [ticket(e, environment(max_steps=40)) for e in range(20)]
    played = play(tickets)
    forbidden = unpack_forbidden(played.forbidden, 145)
    seen = played.observations[played.is_acted_upon]
    for asked, steps in zip(tickets, played.step_slices(), strict=True):
        for row in range(steps.start, steps.stop):
            np.testing.assert_array_equal(forbidden[row], ~allowed_by_order(asked, seen[row]))
        packed = forbidden_by_order(masked_types(asked), seen[steps])
        np.testing.assert_array_equal(packed, played.forbidden[steps])
    assert not forbidden[np.arange(len(forbidden)), played.actions].any()
    assert forbidden.any(1).mean() > 0.3


def assert_same(one: Episodes, other: Episodes) -> None:
    for field in fields(Episodes):
        if field.name not in ("tickets", "started", "seconds", "worker"):
            assert getattr(one, field.name).tobytes() == getattr(other, field.name).tobytes(), field.name


@pytest.mark.parametrize("extra", [{}, {"scan_memory": True, "decoy_memory": True}], ids=["bits", "memories"])
def test_the_compiled_player_plays_what_is_played_step_by_step(extra: dict[str, bool]) -> None:
    """Masked and free episodes side by side."""
    shape = NetworkShape(52 + 130 * bool(extra), WORKFLOW_CONTEXT, hidden_size=16, num_actions=145)
    compiled, stepped = (
        EnvironmentSpec(name, environment(**extra).kwargs)
        for name in ("workflow_rl/Cage2-v0", "test_compliance_mask:SteppedCage2")
    )
    batches = [
        play(
            [ticket(e, spec, mask="reachable" if e % 3 else None, greedy=e % 2 == 0) for e in range(30)],
            snapshot(shape, scale=0.3),
        )
        for spec in (compiled, stepped)
    ]
    assert_same(*batches)
    assert batches[0].forbidden.any(1).mean() > 0.2


COLLECTORS: tuple[Callable[[], Collector], ...] = (
    SequentialCollector,
    partial(ExecutorCollector, 2, executor="process"),
    partial(ExecutorCollector, 2, executor="thread"),
    partial(SynchronousCollector, 3),
)


def test_masked_episodes_are_the_same_whoever_collects_them() -> None:
    tickets = [ticket(e, environment(max_steps=30)) for e in range(10)]
    batches = []
    for make in COLLECTORS:
        with make() as collector:
            collector.publish(snapshot())
            collector.submit(tickets)
            batches.append(collector.collect(0))
    for batch in batches[1:]:
        assert_same(batches[0], batch)


@pytest.mark.skipif(importlib.util.find_spec("csle_cyborg") is None, reason="needs the cyborg extra")
def test_the_reference_simulator_is_masked_as_well() -> None:
    reference = EnvironmentSpec.of("workflow_rl/CybORG-v0", {"red_agent": "B_lineAgent", "max_steps": 40})
    played = play([ticket(e, reference) for e in range(5)])
    assert violations(played)[0] == 0
    assert played.forbidden.any()
    judged = judge_episodes(played, [order_of(t) for t in played.tickets], "reachable")
    assert compliance_of(judged.observed, "reachable") == 1.0
