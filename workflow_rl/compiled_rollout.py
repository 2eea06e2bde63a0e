"""Whole episodes of the native simulator, simulator and policy in one compiled loop.

Plays what `rollout` would play on `cage2.env.Cage2Env` step by step, bit for bit, without returning to Python
between steps. The interpreter lock is released meanwhile.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numba.core.dispatcher import Dispatcher
from numpy.typing import NDArray

from workflow_rl.alignment import FIXED_TYPE, compromised_types, shown_types
from workflow_rl.cage2.env import Cage2Env
from workflow_rl.cage2.observation import observe, red_access
from workflow_rl.cage2.scenario import NUM_ACTIONS, NUM_HOSTS, NUM_OBSERVATION_BITS
from workflow_rl.cage2.state import new_states, reset
from workflow_rl.cage2.step import step
from workflow_rl.compilation import compiled
from workflow_rl.compliance_mask import ALLOWED, forbidden_by_order, masked_types
from workflow_rl.episode import (
    WORKFLOW_CONTEXT,
    EnvironmentSpec,
    Episodes,
    NetworkShape,
    Snapshot,
    Ticket,
    context_of,
)
from workflow_rl.inference import Actor, act, begin_episode, choose_allowed, compute_logits
from workflow_rl.seeding import Stream, environment_seed, episode_key


def play_compiled(environment: Cage2Env, tickets: Sequence[Ticket], actor: Actor) -> Episodes:
    """Play tickets of one environment.

    Args:
        environment: lends its settings; an episode that is running in it is not disturbed.
        tickets: at least one, all for this environment and the actor's version.
        actor: the policy.

    Returns:
        The episodes, in the order of the tickets; all take equally long on paper, a share of the call.
    """
    started = time.monotonic()
    num_episodes, num_steps = len(tickets), environment.settings.max_steps
    shape = actor.shape
    keys = np.array([episode_key(t.run_seed, t.stream, t.episode) for t in tickets], np.uint64)
    observations = np.empty((num_episodes, num_steps + 1, shape.num_observations), np.int8)
    actions = np.empty((num_episodes, num_steps), np.int16)
    log_probs = np.empty((num_episodes, num_steps), np.float32)
    rewards = np.empty((num_episodes, num_steps), np.float32)
    compromised = np.zeros((num_episodes, num_steps), np.uint8)
    is_masked = np.array([ticket.mask is not None for ticket in tickets])
    masked = np.stack([masked_types(ticket) for ticket in tickets])
    _play(
        new_states(environment.settings, 1),
        keys,
        np.stack([context_of(ticket) for ticket in tickets]),
        np.array([ticket.greedy for ticket in tickets]),
        (is_masked, masked),
        actor.layers,
        actor.workspace,
        (observations, actions, log_probs, rewards, compromised),
    )
    seconds = (time.monotonic() - started) / num_episodes
    return Episodes(
        tickets=tuple(tickets),
        lengths=np.full(num_episodes, num_steps, np.int32),
        observations=observations.reshape(-1, shape.num_observations).view(np.uint8),
        actions=actions.ravel(),
        forbidden=_forbidden(is_masked, masked, observations[:, :-1]),
        log_probs=log_probs.ravel(),
        rewards=rewards.ravel(),
        compromised=compromised.ravel(),
        terminated=np.zeros(num_episodes, np.bool_),
        started=started + seconds * np.arange(num_episodes, dtype=np.float64),
        seconds=np.full(num_episodes, seconds, np.float32),
        worker=np.full(num_episodes, os.getpid(), np.int32),
    )


def _forbidden(
    is_masked: NDArray[np.bool_], masked: NDArray[np.int8], observations: NDArray[np.int8]
) -> NDArray[np.uint8]:
    """`Episodes.forbidden` of episodes (E,), given what they observed before each step (E, T, O)."""
    if not is_masked.any():
        return np.empty((observations.shape[0] * observations.shape[1], 0), np.uint8)
    return np.concatenate(
        [forbidden_by_order(types, seen) for types, seen in zip(masked, observations, strict=True)]
    )


def compile_player() -> None:
    """Compile the player, or load it from numba's cache, so that the first episode does not wait for it."""
    environment = Cage2Env(max_steps=1)
    shape = NetworkShape(NUM_OBSERVATION_BITS, WORKFLOW_CONTEXT, hidden_size=1, num_actions=NUM_ACTIONS)
    actor = Actor(Snapshot(0, shape, np.zeros(shape.num_parameters, np.float32)))
    ticket = Ticket(
        0, Stream.TRAINING_EPISODE, 0, EnvironmentSpec("compiled"), version=0, batch=0, workflow=0
    )
    play_compiled(environment, [ticket], actor)


def is_player_cached() -> bool:
    """Whether an earlier process has compiled the player and kept it."""
    cache = cast(Dispatcher, _play).stats.cache_path
    return cache is not None and any(Path(cache).glob("compiled_rollout._play-*.nbi"))


@compiled
def _play(
    states: NDArray[np.void],
    keys: NDArray[np.uint64],
    contexts: NDArray[np.float32],
    greedy: NDArray[np.bool_],
    masks: Any,
    layers: Any,
    workspace: Any,
    records: Any,
) -> None:
    """Play one episode per key, one after the other, in `states[0]`.

    Args:
        states: (1,) `STATE`, overwritten.
        keys: (E,) uint64, see `seeding.episode_key`.
        contexts: (E, context) float32; episodes with a context are judged.
        greedy: (E,) bool.
        masks: whether fixes are masked, (E,) bool; and which of them when, (E, 64) int8 (`masked_types`).
        layers: see `inference.split_parameters`.
        workspace: see `inference.Actor`.
        records: observations (E, T + 1, O) int8, actions (E, T) int16, log-probabilities (E, T) float32,
            rewards (E, T) float32, compromised (E, T) uint8; overwritten, the last only at judged fixes.
    """
    state = states[0]
    is_masked, masked = masks
    observations, actions, log_probs, rewards, compromised = records
    num_steps = actions.shape[1]
    is_judged = contexts.shape[1] > 0
    access = np.empty(NUM_HOSTS, np.int8)
    first = np.empty_like(layers[1])
    for e in range(len(keys)):
        key = keys[e]
        reset(state, environment_seed(key))
        begin_episode(layers, contexts[e], first)
        observe(state, observations[e, 0])
        for t in range(num_steps):
            seen = observations[e, t]
            if is_masked[e]:
                allowed = ALLOWED[masked[e, shown_types(seen)]]
                action, log_prob = _act_allowed(layers, first, seen, allowed, workspace, greedy[e], key, t)
            else:
                action, log_prob = act(layers, first, seen, workspace, greedy[e], key, t)
            if is_judged and FIXED_TYPE[action] >= 0:
                red_access(state, access)
                compromised[e, t] = compromised_types(access)
            rewards[e, t] = step(state, action)
            observe(state, observations[e, t + 1])
            actions[e, t] = action
            log_probs[e, t] = log_prob


@compiled
def _act_allowed(
    layers: Any,
    first: Any,
    observation: Any,
    allowed: Any,
    workspace: Any,
    greedy: bool,
    key: Any,
    step: int,
) -> Any:
    """As `inference.act`, among those actions only that `allowed` (A,) bool says."""
    hidden1, hidden2, logits, exponentials = workspace
    compute_logits(layers, first, observation, hidden1, hidden2, logits)
    return choose_allowed(logits, allowed, exponentials, greedy, key, step)
