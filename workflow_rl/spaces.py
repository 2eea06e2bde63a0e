"""What lies between an environment and the policy: spaces on one side, flat vectors and numbers on the other.

    observation  --encode-->  (O,) bits or float32    --policy-->  choice  --decode-->  action

The same for every environment, so that nothing above knows what it plays:

    observation space                  what the policy sees
    Box, any shape                     its numbers, flattened
    MultiBinary, any shape             its bits, flattened
    Discrete, MultiDiscrete            one-hot bits
    Dict, Tuple of these               their parts in the order of `gymnasium.spaces.flatten`

    action space                       what the policy chooses
    Discrete                           one of n
    MultiDiscrete, any shape           one of n for each component
    Box, any shape                     normal numbers, cut to the bounds; -1 and 1 stand for the bounds where
                                       a component has both, and for themselves where not

An environment may rule out some of the numbers to choose from, for the next step, by `info["action_mask"]` of
`reset` and `step`: 1 where a number is allowed, 0 where not. An info without a mask allows all. The mask of a
MultiDiscrete action has the numbers of all components in a row, or is a tuple as for `MultiDiscrete.sample`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from workflow_rl.errors import SettingError

_BITS = (spaces.MultiBinary, spaces.Discrete, spaces.MultiDiscrete)
_MOST_CHOICES = int(np.iinfo(np.int16).max)


@dataclass(frozen=True)
class Interface:
    """How one environment is observed and acted upon.

    Attributes:
        num_observations: length of an encoded observation.
        num_actions: outputs that the policy needs.
        branches: numbers to choose from for each component of a MultiDiscrete action, else empty.
        is_gaussian: whether actions are decimal numbers.
        encode: an observation as a new array, (num_observations,) uint8 if all of it is bits, else float32.
        decode: what `step` takes for a choice: an int, (branches,) int16 or (num_actions,) float32.
        allowed_by: what an action mask allows, (num_actions,) bool; raises `ValueError` if it is no mask.
    """

    num_observations: int
    num_actions: int
    branches: tuple[int, ...]
    is_gaussian: bool
    encode: Callable[[Any], NDArray[Any]]
    decode: Callable[[Any], Any]
    allowed_by: Callable[[Any], NDArray[np.bool_]]

    @property
    def action_dtype(self) -> type[np.float32 | np.int16]:
        """In which choices are recorded."""
        return np.float32 if self.is_gaussian else np.int16


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
    num_actions, branches = _outputs(action)
    if max(branches, default=num_actions) > _MOST_CHOICES:
        raise SettingError(
            f"a choice may be among {_MOST_CHOICES} actions at most, the action space is {action}"
        )
    return Interface(
        num_observations=spaces.flatdim(observation),
        num_actions=num_actions,
        branches=branches,
        is_gaussian=isinstance(action, spaces.Box),
        encode=_encoder(observation),
        decode=_decoder(action),
        allowed_by=_box_mask if isinstance(action, spaces.Box) else _mask_reader(branches or (num_actions,)),
    )


def _outputs(action: spaces.Space[Any]) -> tuple[int, tuple[int, ...]]:
    """How many outputs the policy needs, and how they are grouped for several numbers."""
    if isinstance(action, spaces.Discrete):
        return int(action.n), ()
    if isinstance(action, spaces.MultiDiscrete):
        branches = tuple(int(number) for number in action.nvec.ravel())
        return sum(branches), branches
    if isinstance(action, spaces.Box) and np.issubdtype(action.dtype, np.floating):
        return spaces.flatdim(action), ()
    raise SettingError(f"the action space must be Discrete, MultiDiscrete or a Box of floats, got {action}")


def _encoder(space: spaces.Space[Any]) -> Callable[[Any], NDArray[Any]]:
    """A copy each time: some environments hand out the array that they go on writing to."""
    dtype = np.uint8 if _is_bits(space) else np.float32
    if isinstance(space, spaces.Box | spaces.MultiBinary):
        length = spaces.flatdim(space)  # an observation of another length is refused by `reshape`
        return lambda observation: np.array(observation, dtype).reshape(length)
    return lambda observation: np.array(spaces.flatten(space, observation), dtype)


def _is_bits(space: spaces.Space[Any]) -> bool:
    if isinstance(space, spaces.Dict):
        return all(_is_bits(part) for part in space.values())
    if isinstance(space, spaces.Tuple):
        return all(_is_bits(part) for part in space)
    return isinstance(space, _BITS)


def _decoder(space: spaces.Space[Any]) -> Callable[[Any], Any]:
    if isinstance(space, spaces.Discrete):
        start = int(space.start)
        return lambda choice: choice + start
    if isinstance(space, spaces.MultiDiscrete):
        return lambda choice: choice.reshape(space.shape).astype(space.dtype) + space.start
    assert isinstance(space, spaces.Box)
    return _box_decoder(space)


def _box_decoder(space: spaces.Box) -> Callable[[Any], Any]:
    is_bounded = space.bounded_below & space.bounded_above
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    from_low, to_high = np.where(is_bounded, low, 0.0), np.where(is_bounded, high, 0.0)

    def decode(choice: NDArray[np.float32]) -> NDArray[Any]:
        numbers = choice.reshape(space.shape).astype(np.float64)
        share = (np.clip(numbers, -1.0, 1.0) + 1.0) / 2.0
        within = from_low * (1.0 - share) + to_high * share
        return np.clip(np.where(is_bounded, within, numbers), low, high).astype(space.dtype)

    return decode


def _mask_reader(choices: tuple[int, ...]) -> Callable[[Any], NDArray[np.bool_]]:
    """For a choice among so many numbers, or several of them."""
    num_actions = sum(choices)
    first_of_each = np.cumsum((0, *choices[:-1]))

    def allowed_by(mask: Any) -> NDArray[np.bool_]:
        parts = list(_mask_parts(mask))
        lengths = tuple(map(len, parts))
        if lengths not in ((num_actions,), choices):
            raise ValueError(f"it must have {_sum_of(choices)} numbers, has {_sum_of(lengths)}")
        numbers = np.concatenate(parts)
        allowed: NDArray[np.bool_] = numbers == 1
        if not (allowed | (numbers == 0)).all():
            raise ValueError("its numbers must be 0 or 1")
        if not np.logical_or.reduceat(allowed, first_of_each).all():
            raise ValueError("it leaves nothing to choose from")
        return allowed

    return allowed_by


def _box_mask(mask: Any) -> NDArray[np.bool_]:
    raise ValueError(f"actions of a Box cannot be masked, got {mask}")


def _mask_parts(mask: Any) -> Iterator[NDArray[Any]]:
    """The arrays in a mask, from the first to the last, however nested its tuples are."""
    if isinstance(mask, tuple):
        for part in mask:
            yield from _mask_parts(part)
    else:
        yield np.ravel(mask)


def _sum_of(lengths: Iterable[int]) -> str:
    return " + ".join(map(str, lengths))
