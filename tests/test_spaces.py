"""Spaces: what the policy sees of an observation, and what the environment gets for a choice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from workflow_rl.errors import SettingError
from workflow_rl.spaces import interface_of


@dataclass
class Shown(gymnasium.Env[Any, Any]):
    """An environment that is only its spaces."""

    observation_space: spaces.Space[Any]
    action_space: spaces.Space[Any]


def seen(space: spaces.Space[Any], observation: Any) -> np.ndarray[Any, Any]:
    """An observation as the policy sees it."""
    interface = interface_of(Shown(space, spaces.Discrete(2)))
    encoded = interface.encode(observation)
    assert encoded.shape == (interface.num_observations,)
    return encoded


SIGHTS: dict[str, tuple[spaces.Space[Any], Any, list[float], type]] = {
    "box": (spaces.Box(-1, 1, (2,), np.float64), np.array([0.5, -0.25]), [0.5, -0.25], np.float32),
    "image": (spaces.Box(0, 255, (2, 2), np.uint8), np.array([[0, 255], [7, 8]]), [0, 255, 7, 8], np.float32),
    "scalar box": (spaces.Box(-1, 1, ()), np.float32(0.5), [0.5], np.float32),
    "bits": (spaces.MultiBinary(3), np.array([1, 0, 1], np.int8), [1, 0, 1], np.uint8),
    "bit table": (spaces.MultiBinary((2, 2)), np.array([[1, 0], [0, 1]], np.int8), [1, 0, 0, 1], np.uint8),
    "number": (spaces.Discrete(4), 2, [0, 0, 1, 0], np.uint8),
    "number from 5": (spaces.Discrete(3, start=5), 7, [0, 0, 1], np.uint8),
    "numbers": (spaces.MultiDiscrete([2, 3]), np.array([1, 0]), [0, 1, 1, 0, 0], np.uint8),
    "number table": (
        spaces.MultiDiscrete(np.array([[2], [3]]), start=np.array([[0], [10]])),
        np.array([[1], [10]]),
        [0, 1, 1, 0, 0],
        np.uint8,
    ),
    "wide integers": (spaces.Box(-9, 9, (2,), np.int64), np.array([-7, 8]), [-7, 8], np.float32),
    "mapping": (
        spaces.Dict(a=spaces.Box(-9, 9, (1,)), b=spaces.Discrete(2)),
        {"a": np.array([4.5]), "b": 1},
        [4.5, 0, 1],
        np.float32,
    ),
    "mapping of bits": (
        spaces.Dict(a=spaces.Discrete(2), b=spaces.Tuple([spaces.MultiBinary(1)])),
        {"a": 0, "b": (np.array([1]),)},
        [1, 0, 1],
        np.uint8,
    ),
}


@pytest.mark.parametrize(("space", "observation", "expected", "dtype"), SIGHTS.values(), ids=SIGHTS)
def test_observations(space: spaces.Space[Any], observation: Any, expected: list[float], dtype: type) -> None:
    encoded = seen(space, observation)
    assert encoded.dtype == dtype
    assert encoded.tolist() == expected


def test_a_mapping_is_seen_in_the_order_of_its_space_not_of_the_observation() -> None:
    space = spaces.Dict(a=spaces.Discrete(2), b=spaces.Discrete(2))
    assert seen(space, {"b": 0, "a": 1}).tolist() == seen(space, {"a": 1, "b": 0}).tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize("space", [spaces.Box(-1, 1, (2,)), spaces.MultiBinary(2)], ids=str)
def test_what_was_seen_does_not_change_when_the_environment_goes_on(space: spaces.Space[Any]) -> None:
    shared = np.ones(2, space.dtype)
    encoded = seen(space, shared)
    shared[:] = 0
    assert encoded.tolist() == [1, 1]


@pytest.mark.parametrize(("start", "expected"), [(0, [0, 1, 2]), (-1, [-1, 0, 1])])
def test_choices_of_a_number(start: int, expected: list[int]) -> None:
    interface = interface_of(Shown(spaces.Discrete(2), spaces.Discrete(3, start=start)))
    assert interface.num_actions == 3
    assert [interface.decode(choice) for choice in range(3)] == expected


def test_choices_of_several_numbers() -> None:
    space = spaces.MultiDiscrete(np.array([[2, 3], [4, 1]]), start=np.array([[0, 0], [10, 0]]))
    interface = interface_of(Shown(spaces.Discrete(2), space))
    assert (interface.num_actions, interface.branches) == (10, (2, 3, 4, 1))
    action = interface.decode(np.array([1, 2, 3, 0], np.int16))
    assert action.tolist() == [[1, 2], [13, 0]]
    assert action in space


BOUNDED = spaces.Box(np.array([[0], [-8]], np.float32), np.array([[1], [2]], np.float32))


@pytest.mark.parametrize(
    ("space", "choice", "expected"),
    [
        (BOUNDED, [-1, 1], [[0], [2]]),
        (BOUNDED, [0, 0], [[0.5], [-3]]),
        (BOUNDED, [-7, 7], [[0], [2]]),
        (spaces.Box(-np.inf, np.inf, (2,), np.float64), [-7, 0.5], [-7, 0.5]),
        (spaces.Box(0, np.inf, (2,), np.float32), [-7, 7], [0, 7]),
    ],
    ids=str,
)
def test_choices_of_decimals(space: spaces.Box, choice: list[float], expected: list[Any]) -> None:
    interface = interface_of(Shown(spaces.Discrete(2), space))
    assert interface.is_gaussian
    assert interface.num_actions == 2
    action = interface.decode(np.array(choice, np.float32))
    assert action.tolist() == expected
    assert action in space


@given(
    st.sampled_from(["float16", "float32", "float64"]),
    st.lists(st.floats(width=16), min_size=2, max_size=2, unique=True),
    st.floats(-2, 2, width=32),
)
@settings(deadline=None)
def test_no_choice_leaves_the_bounds_by_rounding(kind: str, bounds: list[float], choice: float) -> None:
    """A third of a bound is no round number in any of these types."""
    low, high = np.sort((np.array(bounds) / 3).astype(kind))
    assume(low < high < np.inf or (np.isfinite(low) and high == np.inf))
    space = spaces.Box(low, high, (1,), np.dtype(kind).type)
    action = interface_of(Shown(spaces.Discrete(2), space)).decode(np.array([choice], np.float32))
    assert action in space


def test_the_widest_bounds_do_not_overflow() -> None:
    most = np.finfo(np.float64).max
    decode = interface_of(Shown(spaces.Discrete(2), spaces.Box(-most, most, (3,), np.float64))).decode
    assert decode(np.array([-1, 0, 1], np.float32)).tolist() == [-most, 0, most]


def test_an_observation_of_another_length_than_its_space_is_refused() -> None:
    interface = interface_of(Shown(spaces.Box(-1, 1, (2,)), spaces.Discrete(2)))
    with pytest.raises(ValueError, match="cannot reshape array of size 3"):
        interface.encode(np.zeros(3, np.float32))


def test_spaces_that_are_not_supported_are_refused_in_one_line() -> None:
    endless = spaces.Sequence(spaces.Discrete(2))
    with pytest.raises(SettingError, match=r"observation space must have a fixed length.*Sequence"):
        interface_of(Shown(endless, spaces.Discrete(2)))
    with pytest.raises(
        SettingError, match=r"action space must be Discrete, MultiDiscrete or a Box.*MultiBinary"
    ):
        interface_of(Shown(spaces.Discrete(2), spaces.MultiBinary(3)))
    for large in (spaces.Discrete(40_000), spaces.MultiDiscrete([2, 40_000])):
        with pytest.raises(SettingError, match=r"among 32767 actions at most, .*40000"):
            interface_of(Shown(spaces.Discrete(2), large))


GRID = spaces.MultiDiscrete(np.array([[2, 3], [1, 2]]))
MASKS: dict[str, tuple[spaces.Space[Any], Any, list[int]]] = {
    "bits": (spaces.Discrete(4, start=7), np.array([0, 1, 1, 0], np.int8), [0, 1, 1, 0]),
    "truth values": (spaces.Discrete(2), np.array([False, True]), [0, 1]),
    "list": (spaces.Discrete(2), [0, 1], [0, 1]),
    "in a row": (spaces.MultiDiscrete([2, 2]), np.array([0, 1, 1, 0]), [0, 1, 1, 0]),
    "tuple": (spaces.MultiDiscrete([1, 3]), (np.array([1]), np.array([1, 0, 0])), [1, 1, 0, 0]),
    "nested tuple": (
        GRID,
        ((np.array([0, 1]), np.array([1, 0, 1])), (np.array([1]), np.array([0, 1]))),
        [0, 1, 1, 0, 1, 1, 0, 1],
    ),
}


@pytest.mark.parametrize(("space", "mask", "expected"), MASKS.values(), ids=MASKS)
def test_masks(space: spaces.Space[Any], mask: Any, expected: list[int]) -> None:
    allowed = interface_of(Shown(spaces.Discrete(2), space)).allowed_by(mask)
    assert allowed.dtype == np.bool_
    assert allowed.tolist() == expected


BAD_MASKS: dict[str, tuple[spaces.Space[Any], Any, str]] = {
    "short": (spaces.Discrete(4), [1, 1, 1], "it must have 4 numbers, has 3"),
    "scalar": (spaces.Discrete(4), 1, "it must have 4 numbers, has 1"),
    "long": (spaces.MultiDiscrete([2, 3]), np.ones(6), r"it must have 2 \+ 3 numbers, has 6"),
    "exchanged": (
        spaces.MultiDiscrete([2, 3]),
        (np.ones(3), np.ones(2)),
        r"it must have 2 \+ 3 numbers, has 3 \+ 2",
    ),
    "logits": (spaces.Discrete(3), [0.0, -np.inf, 1.0], "its numbers must be 0 or 1"),
    "nothing": (spaces.Discrete(3), [0, 0, 0], "it leaves nothing to choose from"),
    "nothing for one": (spaces.MultiDiscrete([2, 3]), [1, 1, 0, 0, 0], "it leaves nothing to choose from"),
    "box": (spaces.Box(-1, 1, (2,)), [1, 1], r"actions of a Box cannot be masked, got \[1, 1\]"),
}


@pytest.mark.parametrize(("space", "mask", "complaint"), BAD_MASKS.values(), ids=BAD_MASKS)
def test_masks_that_do_not_fit_are_refused(space: spaces.Space[Any], mask: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=f"^{complaint}$"):
        interface_of(Shown(spaces.Discrete(2), space)).allowed_by(mask)
