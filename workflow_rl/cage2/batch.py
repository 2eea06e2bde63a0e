"""The rules over many environments at once: the compiled functions that Python calls.

Python passes arrays of states, a single environment an array of one, so that each function here is compiled
for one set of types only.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workflow_rl.cage2 import observation
from workflow_rl.cage2.generator import next_seed
from workflow_rl.cage2.state import reset
from workflow_rl.cage2.step import step
from workflow_rl.compilation import compiled

States = NDArray[Any]
"""(N,) array of `state.STATE`."""


class Autoreset(IntEnum):
    """When an environment that has reached its horizon starts its next episode (Gymnasium's three modes)."""

    DISABLED = 0
    NEXT_STEP = 1
    SAME_STEP = 2


_NEXT_STEP = int(Autoreset.NEXT_STEP)
_SAME_STEP = int(Autoreset.SAME_STEP)


@compiled
def reset_all(states: States, seeds: NDArray[np.uint64], chosen: NDArray[np.bool_]) -> None:
    """Start an episode in the chosen environments.

    Args:
        states: (N,) `STATE`, changed in place.
        seeds: (N,) uint64, those of environments not chosen are ignored.
        chosen: (N,) bool.
    """
    for i in range(len(states)):
        if chosen[i]:
            reset(states[i], seeds[i])


@compiled
def step_all(
    states: States,
    actions: NDArray[np.int64],
    autoreset: int,
    rewards: NDArray[np.float64],
    truncations: NDArray[np.bool_],
    bits: NDArray[np.int8],
    final_bits: NDArray[np.int8],
) -> None:
    """Play one step everywhere.

    Args:
        states: (N,) `STATE`, changed in place.
        actions: (N,) int64, each a position in `action_sets.action_names`, not checked.
        autoreset: an `Autoreset`. With NEXT_STEP an environment at its horizon ignores its action and is
            reset, with reward 0; with SAME_STEP it is reset right after the step that reached the horizon.
            Either way the new episode's seed follows from that of the last one (`generator.next_seed`).
        rewards: (N,) float64, overwritten.
        truncations: (N,) bool, overwritten: whether this step reached the horizon.
        bits: (N, B) int8, overwritten with the observations.
        final_bits: (N, B) int8; where SAME_STEP resets, overwritten with the episode's last observation.
    """
    for i in range(len(states)):
        state = states[i]
        if autoreset == _NEXT_STEP and state.step >= state.max_steps:
            reset(state, next_seed(state.seed))
            rewards[i] = 0.0
            truncations[i] = False
        else:
            rewards[i] = step(state, actions[i])
            truncations[i] = state.step >= state.max_steps
            if autoreset == _SAME_STEP and truncations[i]:
                observation.observe(state, final_bits[i])
                reset(state, next_seed(state.seed))
        observation.observe(state, bits[i])


@compiled
def observe_all(states: States, bits: NDArray[np.int8]) -> None:
    """Write the observations of (N,) states into (N, B) int8."""
    for i in range(len(states)):
        observation.observe(states[i], bits[i])


@compiled
def red_access_all(states: States, access: NDArray[np.int8]) -> None:
    """Write red's true hold in (N,) states into (N, 13) int8 (`observation.red_access`)."""
    for i in range(len(states)):
        observation.red_access(states[i], access[i])
