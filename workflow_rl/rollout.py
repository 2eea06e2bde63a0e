"""Plays episodes, one after the other; `collectors.synchronous` steps many at a time by the same rules.

A `Player` lives in one process (the learner's, or a worker's), builds each environment once and keeps it, and
plays tickets with the snapshot they name. What an episode contains depends on its ticket and its snapshot
alone: the environment is seeded by the ticket at every reset, and each action's random number belongs to
(episode, step).
"""

from __future__ import annotations

import importlib
import os
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol, Self, cast

import gymnasium
import numpy as np
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker
from numpy.typing import NDArray

from workflow_rl.alignment import IS_FIX, HasRedAccess, compromised_types
from workflow_rl.cage2.env import Cage2Env
from workflow_rl.compiled_rollout import play_compiled
from workflow_rl.compliance_mask import allowed_by_order
from workflow_rl.environments import constructor_errors
from workflow_rl.episode import (
    WORKFLOW_CONTEXT,
    EnvironmentSpec,
    Episodes,
    NetworkShape,
    Snapshot,
    Ticket,
    context_of,
    pack_forbidden,
)
from workflow_rl.errors import EpisodeError, WorkflowRLError
from workflow_rl.inference import Actor, actor_of
from workflow_rl.seeding import environment_seed, episode_key
from workflow_rl.spaces import Interface, interface_of

Environment = gymnasium.Env[NDArray[Any], Any]

_ONLY_CHECK = (OrderEnforcing, PassiveEnvChecker)
"""Wrappers of `gymnasium.make` that raise on misuse and change nothing of an episode."""


def make_environment(spec: EnvironmentSpec) -> Environment:
    """Build an environment without Gymnasium's per-step checks, which cost more than a policy.

    `module:name` imports the module first; `name` is then an id that the module registers, or a class in it.
    """
    module, _, name = spec.id.rpartition(":")
    kwargs = dict(spec.kwargs)
    if module:
        found = getattr(importlib.import_module(module), name, None)
        if isinstance(found, type):
            return cast(Environment, found(**kwargs))
    return gymnasium.make(spec.id, disable_env_checker=True, **kwargs)


def check_environment(spec: EnvironmentSpec) -> None:
    """See that an environment can be built.

    Raises:
        SettingError: it cannot be.
        MissingExtraError: a part that it needs is not installed.
    """
    with constructor_errors(spec.id):
        make_environment(spec).close()


def shape_for(spec: EnvironmentSpec, *, hidden_size: int, has_workflow: bool) -> NetworkShape:
    """The actor that fits an environment, which is built for the question and closed again.

    Raises:
        SettingError: the spaces are not supported.
        Exception: whatever the environment's constructor raises.
    """
    with closing(make_environment(spec)) as probe:
        return network_shape(probe, hidden_size=hidden_size, has_workflow=has_workflow)


def network_shape(environment: Environment, *, hidden_size: int, has_workflow: bool) -> NetworkShape:
    """The actor that fits an environment.

    Raises:
        SettingError: the spaces are not supported.
    """
    interface = interface_of(environment)
    return NetworkShape(
        num_observations=interface.num_observations,
        num_context=WORKFLOW_CONTEXT if has_workflow else 0,
        hidden_size=hidden_size,
        num_actions=interface.num_actions,
        branches=interface.branches,
        is_gaussian=interface.is_gaussian,
    )


@dataclass(frozen=True, slots=True)
class Raised:
    """What an environment raised, in a form that can always be sent.

    Attributes:
        error: its type and message.
        trace: the traceback.
    """

    error: str
    trace: str

    @classmethod
    def by(cls, error: BaseException) -> Self:
        """Keep what is known of an exception."""
        return cls(f"{type(error).__name__}: {error}", "".join(traceback.format_exception(error)))


@dataclass(frozen=True, slots=True)
class BadMask:
    """An action mask that an environment gave and that cannot be kept to.

    Attributes:
        step: at which it was to be, 0-based.
        error: what is wrong with it.
    """

    step: int
    error: str


def failed_episode(ticket: Ticket, fault: Raised | BadMask) -> EpisodeError:
    """How the failure of an episode is reported, whoever played it."""
    name = ticket.environment.id
    if isinstance(fault, Raised):
        return EpisodeError(f"{name} raised {fault.error} while playing {ticket}", fault.trace)
    where = f"at step {fault.step} of {ticket}"
    return EpisodeError(f"the action mask of {name} {where} is no good: {fault.error}")


def _announce_to_nobody(first: int, count: int) -> None:
    """What a player does with its news by default."""


class Player:
    """Plays tickets in this process; environments and actors are kept between calls.

    Args:
        announce: told which tickets of a call to `play` begin now: the position of the first, and how many;
            compiled episodes begin together.
    """

    def __init__(self, announce: Callable[[int, int], None] = _announce_to_nobody) -> None:
        self._announce = announce
        self._environments: dict[EnvironmentSpec, Environment] = {}
        self._actor: Actor | None = None

    def play(self, tickets: Sequence[Ticket], snapshot: Snapshot) -> Episodes:
        """Play tickets of one version, in the order given.

        Args:
            tickets: at least one, all with `version == snapshot.version`.
            snapshot: the weights they name.

        Raises:
            EpisodeError: the environment raised; names the episode and carries the traceback.
        """
        if self._actor is None or self._actor.version != snapshot.version:
            self._actor = actor_of(snapshot)
        played: list[Episodes] = []
        first = 0
        for _, group in groupby(tickets, key=lambda ticket: ticket.environment):
            alike = tuple(group)
            played.append(self._play_group(first, alike, self._actor))
            first += len(alike)
        return Episodes.concatenate(played)

    def close(self) -> None:
        """Close the environments. Idempotent."""
        while self._environments:
            self._environments.popitem()[1].close()

    def _play_group(self, first: int, tickets: Sequence[Ticket], actor: Actor) -> Episodes:
        """Play tickets of one environment; the first has this position in the call."""
        self._announce(first, 1)
        with self._blaming(tickets[0]):
            environment = self._environment(tickets[0].environment)
        if (game := native_game(environment)) is not None:
            self._announce(first, len(tickets))
            return play_compiled(game, tickets, actor)
        episodes = []
        for position, ticket in enumerate(tickets, first):
            self._announce(position, 1)
            with self._blaming(ticket):
                environment = self._environment(ticket.environment)
                episodes.append(play_episode(environment, interface_of(environment), ticket, actor))
        return Episodes.concatenate(episodes)

    def _environment(self, spec: EnvironmentSpec) -> Environment:
        if spec not in self._environments:
            self._environments[spec] = make_environment(spec)
        return self._environments[spec]

    @contextmanager
    def _blaming(self, ticket: Ticket) -> Iterator[None]:
        """Report whatever the environment raises as the failure of this ticket."""
        try:
            yield
        except WorkflowRLError:
            raise
        except (Exception, SystemExit) as error:  # `sys.exit` in an environment is not to end the learner
            self._environments.pop(ticket.environment, None)  # it may be in any state now: build it anew
            raise failed_episode(ticket, Raised.by(error)) from error


def native_game(environment: Environment) -> Cage2Env | None:
    """The native simulator itself, where that is all an environment is.

    `None` for any other environment, for a subclass, and where a wrapper may change what an episode holds.
    """
    while type(environment) in _ONLY_CHECK:
        environment = cast(gymnasium.Wrapper[Any, Any, Any, Any], environment).env
    return environment if type(environment) is Cage2Env else None


def compromised_now(environment: Environment) -> int:
    """The true state as compliance sees it, see `alignment.compromised_types`."""
    return compromised_types(cast(HasRedAccess, environment.unwrapped).red_access())


def allowed_now(info: Mapping[str, Any], interface: Interface) -> NDArray[np.bool_] | None:
    """The actions that the environment allows, (A,) bool; `None` if it does not say.

    Raises:
        ValueError: the mask cannot be kept to.
    """
    mask = info.get("action_mask")
    return None if mask is None else interface.allowed_by(mask)


def _allowed(
    info: Mapping[str, Any], interface: Interface, ticket: Ticket, seen: NDArray[Any], step: int
) -> NDArray[np.bool_] | None:
    """What the workflow or else the environment allows at a step."""
    if ticket.mask is not None:
        return allowed_by_order(ticket, seen)
    try:
        return allowed_now(info, interface)
    except ValueError as error:
        raise failed_episode(ticket, BadMask(step, str(error))) from error


class ChoosesActions(Protocol):
    """What plays an episode: a learnt policy, or anything that takes its place."""

    def begin_episode(self, context: NDArray[np.float32], key: np.uint64, *, greedy: bool) -> None:
        """Start an episode, see `inference.Actor`."""

    def act(
        self, observation: NDArray[Any], step: int, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[Any, float]:
        """The choice at a step and its log-probability, see `inference.Actor`."""


def play_episode(
    environment: Environment, interface: Interface, ticket: Ticket, actor: ChoosesActions
) -> Episodes:
    """Play one ticket, step by step.

    Args:
        environment: the one that the ticket names.
        interface: of that environment.
        ticket: what is played.
        actor: chooses.

    Raises:
        EpisodeError: an action mask cannot be kept to.
        Exception: whatever the environment raises.
    """
    started = time.monotonic()
    key = episode_key(ticket.run_seed, ticket.stream, ticket.episode)
    actor.begin_episode(context_of(ticket), key, greedy=ticket.greedy)
    judged = ticket.workflow is not None
    first, info = environment.reset(seed=int(environment_seed(key)))
    observations = [interface.encode(first)]
    actions: list[Any] = []
    masks: list[NDArray[np.bool_] | None] = []
    log_probs: list[float] = []
    rewards: list[float] = []
    compromised: list[int] = []
    terminated = truncated = False
    while not (terminated or truncated):
        seen = observations[-1]
        masks.append(_allowed(info, interface, ticket, seen, len(actions)))
        action, log_prob = actor.act(seen, len(actions), masks[-1])
        # The true state costs time, so it is asked for only where compliance needs it: before a fix.
        is_fix = judged and IS_FIX[action]
        compromised.append(compromised_now(environment) if is_fix else 0)
        observation, reward, terminated, truncated, info = environment.step(interface.decode(action))
        observations.append(interface.encode(observation))
        actions.append(action)
        log_probs.append(log_prob)
        rewards.append(float(reward))
    return Episodes(
        tickets=(ticket,),
        lengths=np.array([len(actions)], np.int32),
        observations=np.array(observations),
        actions=np.array(actions, interface.action_dtype),
        forbidden=pack_forbidden(masks),
        log_probs=np.array(log_probs, np.float32),
        rewards=np.array(rewards, np.float32),
        compromised=np.array(compromised, np.uint8),
        terminated=np.array([terminated]),
        started=np.array([started]),
        seconds=np.array([time.monotonic() - started], np.float32),
        worker=np.array([os.getpid()], np.int32),
    )
