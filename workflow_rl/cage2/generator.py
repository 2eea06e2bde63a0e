"""Chance: the random numbers of a step, computed from the episode's seed and the step's number.

The numbers are counted, not drawn from a stream: the chances of step t do not depend on which were used
before, so the same seed gives the same episode alone, in a batch, and on every machine. Each has one purpose.
They are the only randomness of the game: a step is a function of state, blue's action and chance, and a test
replays the reference simulator by handing in the chances that make its choices.

The generator is splitmix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators"), whose
n-th output is a hash of key + n * golden ratio.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from workflow_rl.compilation import compiled
from workflow_rl.seeding import mix64

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)
_LOW_HALF = np.uint64(0xFFFFFFFF)
_UNIT = 2.0**-32


class Chance(NamedTuple):
    """Uniform numbers in [0, 1), multiples of 2**-32: one for each thing that chance decides in a step.

    Attributes:
        target: B_line's first target, or the host that Meander scans, escalates or exploits.
        exploit: the exploit that red tries.
        detection: whether a reverse shell is noticed.
        session: which of its user sessions red escalates.
    """

    target: float
    exploit: float
    detection: float
    session: float


@compiled
def _output(key: np.uint64, index: int) -> np.uint64:
    return np.uint64(mix64(key + np.uint64(index + 1) * _GOLDEN))


@compiled
def chance_of(key: np.uint64, step: int) -> Chance:
    """The chances of one step (0, 1, ...) of the episode with this key."""
    first = _output(key, 2 * step)
    second = _output(key, 2 * step + 1)
    return Chance(
        float(first >> _HALF) * _UNIT,
        float(first & _LOW_HALF) * _UNIT,
        float(second >> _HALF) * _UNIT,
        float(second & _LOW_HALF) * _UNIT,
    )


@compiled
def next_seed(seed: np.uint64) -> np.uint64:
    """The seed of the episode that follows one, when nobody gives one."""
    return np.uint64(mix64(seed + _GOLDEN))
