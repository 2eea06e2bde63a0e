"""Plays one episode of CAGE Challenge 2 and keeps what happened at every step.

The episode is played by the same code as any other (`rollout.play_episode`), so it is the one that an
evaluation with the same seed plays under the same number. A wrapper around the environment looks at the true
state after each step; blue's view, the judgements of the fixes and the type that is first in line follow from
the played episode by the functions that score it.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol, cast

import gymnasium
import numpy as np
from numpy.typing import NDArray

from workflow_rl.alignment import (
    Fix,
    FixCounts,
    compromised_types,
    first_types,
    judge_episodes,
    shown_types,
)
from workflow_rl.cage2.scenario import NUM_HOSTS, NUM_OBSERVATION_BITS
from workflow_rl.episode import Episodes, Snapshot, Ticket
from workflow_rl.inference import actor_of
from workflow_rl.rollout import Environment, make_environment, play_episode
from workflow_rl.spaces import interface_of
from workflow_rl.workflow import HostType, Workflow


class ShowsTruth(Protocol):
    """A simulator of CAGE Challenge 2 that tells what blue does not see."""

    def red_access(self) -> NDArray[np.int8]:
        """Red's true hold on each host, (13,): 0 nothing, 1 a user session, 2 a privileged one."""

    def decoys(self) -> tuple[tuple[str, ...], ...]:
        """The decoys that stand on each host, by the actions that made them."""

    def last_actions(self) -> tuple[str, str] | None:
        """What blue and red did in the last step; `None` before the first one."""


@dataclass(frozen=True)
class Verdict:
    """How keeping to the order stands at a step, by the true state or by what blue sees.

    Attributes:
        fix: judgement of blue's action, the name of an `alignment.Fix` in lower case.
        compliance: of the fixes up to here, 0..1; `None` without one to judge.
        first_type: the type in the order that is now to be fixed first; `None` if none is compromised.
    """

    fix: str
    compliance: float | None
    first_type: str | None


@dataclass(frozen=True)
class Frame:
    """One step: what was done, and how things stand after it. The first frame is the start.

    Attributes:
        step: from 0.
        red_access: red's true hold on each host: 0 nothing, 1 a user session, 2 a privileged one.
        activity: what blue saw on each host in this step: 0 nothing, 1 a scan, 3 an exploit.
        belief: what blue believes of each host: 0 clean, 1 unknown, 2 a user session, 3 a privileged one.
        decoys: that stand on each host, by the actions that made them.
        blue_action: as in `scenario.ACTION_NAMES`; `None` at the start.
        red_action: with its target, as the reference names it; `None` at the start.
        reward: of this step.
        total_reward: up to here.
        true: how keeping to the order stands by the true state; `None` for a policy without an order.
        observed: the same by what blue sees.
    """

    step: int
    red_access: tuple[int, ...]
    activity: tuple[int, ...]
    belief: tuple[int, ...]
    decoys: tuple[tuple[str, ...], ...]
    blue_action: str | None
    red_action: str | None
    reward: float
    total_reward: float
    true: Verdict | None
    observed: Verdict | None


def record_episode(ticket: Ticket, snapshot: Snapshot, definition: str | None) -> tuple[Frame, ...]:
    """Play an episode and keep every step of it.

    Args:
        ticket: of CAGE Challenge 2.
        snapshot: the policy that plays.
        definition: of compliance, see `alignment.judge_fixes`; `None` for a policy without an order.

    Returns:
        One frame more than the episode has steps.
    """
    with closing(_Witness(make_environment(ticket.environment))) as environment:
        episode = play_episode(environment, interface_of(environment), ticket, actor_of(snapshot))
        return _frames(episode, environment.moments, definition)


@dataclass(frozen=True)
class _Moment:
    """The true state after a step, and the actions that led to it."""

    red_access: NDArray[np.int8]
    decoys: tuple[tuple[str, ...], ...]
    actions: tuple[str, str] | None


class _Witness(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Looks at the true state when an episode begins and after every step of it."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._simulator = cast(ShowsTruth, environment.unwrapped)
        self.moments: list[_Moment] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode, and its moments."""
        result = super().reset(seed=seed, options=options)
        self.moments = [self._look()]
        return result

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Play a step, and look."""
        result = super().step(action)
        self.moments.append(self._look())
        return result

    def _look(self) -> _Moment:
        simulator = self._simulator
        return _Moment(simulator.red_access(), simulator.decoys(), simulator.last_actions())


def _frames(episode: Episodes, moments: list[_Moment], definition: str | None) -> tuple[Frame, ...]:
    rewards = np.round([0.0, *episode.rewards.tolist()], 4)  # multiples of 0.1, but for float32
    true, observed = _verdicts(episode, moments, definition)
    frames = []
    for step, moment in enumerate(moments):
        activity, belief = _seen_by_blue(episode.observations[step])
        blue_action, red_action = moment.actions or (None, None)
        frames.append(
            Frame(
                step=step,
                red_access=tuple(moment.red_access.tolist()),
                activity=activity,
                belief=belief,
                decoys=moment.decoys,
                blue_action=blue_action,
                red_action=red_action,
                reward=float(rewards[step]),
                total_reward=round(float(rewards[: step + 1].sum()), 4),
                true=true[step],
                observed=observed[step],
            )
        )
    return tuple(frames)


def _seen_by_blue(observation: NDArray[Any]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The activity on each host and what blue believes of it (`cage2.observation`)."""
    bits = observation[:NUM_OBSERVATION_BITS].astype(int).reshape(NUM_HOSTS, 4)
    return tuple((bits[:, 0] + 2 * bits[:, 1]).tolist()), tuple((bits[:, 2] + 2 * bits[:, 3]).tolist())


def _verdicts(
    episode: Episodes, moments: list[_Moment], definition: str | None
) -> tuple[list[Verdict | None], list[Verdict | None]]:
    """By the true state and by what blue sees, for each moment."""
    (ticket,) = episode.tickets
    if ticket.workflow is None or definition is None:
        return [None] * len(moments), [None] * len(moments)
    workflow = Workflow.from_index(ticket.workflow)
    judged = judge_episodes(episode, [workflow], definition)
    first = first_types(workflow, definition)
    true_types = [compromised_types(moment.red_access) for moment in moments]
    seen_types = [shown_types(observation) for observation in episode.observations]
    return (
        _running(judged.true[0], first[true_types]),
        _running(judged.observed[0], first[seen_types]),
    )


def _running(judged: NDArray[np.int8], first: NDArray[np.int8]) -> list[Verdict | None]:
    """Verdicts from `Fix` values (T,) and the first types in line, -1 for none, (T + 1,)."""
    fixes = [Fix.NONE, *(Fix(fix) for fix in judged.tolist())]
    return [
        Verdict(
            fix=fix.name.lower(),
            compliance=FixCounts.of(judged[:step]).compliance,
            first_type=None if first[step] < 0 else HostType(first[step]).label,
        )
        for step, fix in enumerate(fixes)
    ]
