"""What lies between an environment and the policy: spaces on one side, flat vectors and numbers on the other.

    observation  --encode-->  (O,) bits or float32    --policy-->  choice  --decode-->  action

The same for every environment, so that nothing above knows what it plays:

    observation space                  what the policy sees
    Box, any shape                     its numbers, flattened
    MultiBinary, any shape             its bits, flattened
    Discrete, MultiDiscrete            one-hot bits
    Dict, Tuple of these               their parts in the order of `gymnasium.spaces.flatten`
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from workflow_rl.errors import SettingError

_BITS = (spaces.MultiBinary, spaces.Discrete, spaces.MultiDiscrete)


@dataclass(frozen=True)
class Interface:
    """How one environment is observed and acted upon.

    Attributes:
        num_observations: length of an encoded observation.
        num_actions: outputs that the policy needs, one for each action.
        encode: an observation as a new array, (num_observations,) uint8 if all of it is bits, else float32.
        decode: what `step` takes for the policy's choice.
    """

    num_observations: int
    num_actions: int
    encode: Callable[[Any], NDArray[Any]]
    decode: Callable[[int], Any]


def interface_of(environment: gymnasium.Env[Any, Any]) -> Interface:
    """The interface that an environment's spaces ask for.

    Raises:
        SettingError: a space is not supported.
    """
    observation, action = environment.observation_space, environment.action_space
    if not observation.is_np_flattenable:
        raise SettingError(
            f"the observation space must have a fixed length when flattened, got {observation}"
        )
    if not isinstance(action, spaces.Discrete):
        raise SettingError(f"the action space must be Discrete, got {action}")
    return Interface(
        num_observations=spaces.flatdim(observation),
        num_actions=int(action.n),
        encode=_encoder(observation),
        decode=_decoder(action),
    )


def _encoder(space: spaces.Space[Any]) -> Callable[[Any], NDArray[Any]]:
    """A copy each time: some environments hand out the array that they go on writing to."""
    dtype = np.uint8 if _is_bits(space) else np.float32
    if isinstance(space, spaces.Box | spaces.MultiBinary) and len(space.shape) == 1:
        return lambda observation: np.array(observation, dtype)
    return lambda observation: np.array(spaces.flatten(space, observation), dtype)


def _is_bits(space: spaces.Space[Any]) -> bool:
    if isinstance(space, spaces.Dict):
        return all(_is_bits(part) for part in space.values())
    if isinstance(space, spaces.Tuple):
        return all(_is_bits(part) for part in space)
    return isinstance(space, _BITS)


def _decoder(space: spaces.Discrete) -> Callable[[int], Any]:
    start = int(space.start)
    return lambda choice: choice + start
