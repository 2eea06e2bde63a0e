"""Policies that learnt nothing, to compare those that did with.

    sleep             does nothing
    random            any action, each as likely
    greedy-observed   restores the first host in the order that blue's observation shows as compromised
    greedy-true       restores the first host in the order that is compromised, which blue cannot know

Within a type the first host in the scenario's order is restored; while nothing is to be restored, greedy
policies do nothing. User0 is left alone: its foothold is there to stay. The baselines are played by the code
that plays learnt policies (`rollout.play_episode`), step by step, on either simulator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from workflow_rl.alignment import PERMANENT_FOOTHOLD, HasRedAccess, is_shown
from workflow_rl.cage2.scenario import (
    HOST_NAMES,
    HOST_TYPES,
    NUM_ACTIONS,
    NUM_HOSTS,
    action_index,
)
from workflow_rl.episode import EnvironmentSpec, Episodes, Ticket
from workflow_rl.rollout import make_environment, play_episode
from workflow_rl.seeding import Stream
from workflow_rl.spaces import interface_of
from workflow_rl.workflow import Workflow

HAND_MADE_ORDERS: Mapping[str, Workflow] = {
    "critical first": Workflow.parse("defender,op_server,enterprise,op_host,user"),
    "enterprise first": Workflow.parse("enterprise,defender,op_server,op_host,user"),
    "user first": Workflow.parse("user,defender,enterprise,op_server,op_host"),
    "operational first": Workflow.parse("op_server,op_host,defender,enterprise,user"),
    "balanced": Workflow.parse("defender,enterprise,op_server,user,op_host"),
    "reverse": Workflow.parse("user,op_host,enterprise,op_server,defender"),
}
"""Orders that people thought of. Source: the older system's fixed-priority baselines."""

_SLEEP = action_index("Sleep")
_RESTORE = tuple(action_index("Restore", name) for name in HOST_NAMES)


@dataclass(frozen=True, eq=False)
class Situation:
    """What a baseline may look at before a step.

    Attributes:
        workflow: the order it keeps to, if it keeps to any.
        observation: of blue, (at least 52,) bits.
        environment: knows the true state.
        draws: of the episode.
    """

    workflow: Workflow
    observation: NDArray[Any]
    environment: HasRedAccess
    draws: np.random.Generator


def _sleep(_: Situation) -> int:
    return _SLEEP


def _random(situation: Situation) -> int:
    return int(situation.draws.integers(NUM_ACTIONS))


def _greedy_observed(situation: Situation) -> int:
    is_compromised = np.array([is_shown(situation.observation, host) for host in range(NUM_HOSTS)])
    return _restore_first(is_compromised, situation.workflow)


def _greedy_true(situation: Situation) -> int:
    return _restore_first(situation.environment.red_access() > 0, situation.workflow)


def _restore_first(is_compromised: NDArray[np.bool_], workflow: Workflow) -> int:
    """Restore the first of some hosts, (13,) bool; sleep if there is none."""
    hosts = [int(host) for host in np.flatnonzero(is_compromised) if host != PERMANENT_FOOTHOLD]
    if not hosts:
        return _SLEEP
    return _RESTORE[min(hosts, key=lambda host: workflow.ranks[HOST_TYPES[host]])]


BASELINES: Mapping[str, Callable[[Situation], int]] = {
    "sleep": _sleep,
    "random": _random,
    "greedy-observed": _greedy_observed,
    "greedy-true": _greedy_true,
}
"""By name: what each does in a situation."""

WITHOUT_ORDER = frozenset({"sleep", "random"})
"""Those that do the same whatever the order."""


class BaselineActor:
    """A baseline in the place of a learnt policy (`rollout.ChoosesActions`).

    Args:
        name: one of `BASELINES`.
        workflow: the order it keeps to.
        environment: what it plays.
    """

    def __init__(self, name: str, workflow: Workflow, environment: HasRedAccess) -> None:
        self._choose = BASELINES[name]
        self._workflow = workflow
        self._environment = environment
        self._draws = np.random.default_rng(0)

    def begin_episode(self, context: NDArray[np.float32], key: np.uint64, *, greedy: bool) -> None:  # noqa: ARG002
        """Start an episode; only its `key` matters, see `seeding.episode_key`."""
        self._draws = np.random.default_rng(int(key))

    def act(
        self,
        observation: NDArray[Any],
        step: int,  # noqa: ARG002
        allowed: NDArray[np.bool_] | None = None,  # noqa: ARG002
    ) -> tuple[int, float]:
        """The action after an observation, and 0 in the place of its log-probability."""
        situation = Situation(self._workflow, observation, self._environment, self._draws)
        return self._choose(situation), 0.0


def play_baseline(
    name: str, workflow: Workflow, environment: EnvironmentSpec, *, run_seed: int, num_episodes: int
) -> Episodes:
    """Play a baseline in this process, in the evaluation episodes of a run seed.

    Args:
        name: one of `BASELINES`.
        workflow: the order it keeps to.
        environment: CAGE Challenge 2 on either simulator.
        run_seed: decides the attacker's choices, the same as for a learnt policy.
        num_episodes: at least one.
    """
    with closing(make_environment(environment)) as game:
        actor = BaselineActor(name, workflow, cast(HasRedAccess, game.unwrapped))
        interface = interface_of(game)
        tickets = [
            Ticket(run_seed, Stream.EVALUATION_EPISODE, episode, environment, 0, 0, workflow.index)
            for episode in range(num_episodes)
        ]
        return Episodes.concatenate([play_episode(game, interface, ticket, actor) for ticket in tickets])
