"""All randomness of a run, derived from one seed.

Two kinds of streams. An *episode* has a 64-bit key that is a hash of (run seed, stream, episode index); the
environment's seed and the draws of the policy come from it by counting, so the same episode can be played by
any process, in any order, in Python or in compiled code. The *learner* and the search use numpy generators.
No stream depends on time, process, or how many draws another stream has made.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from workflow_rl.compilation import compiled

# Odd constant of the golden ratio and the finaliser's multipliers: splitmix64 (Steele, Lea, Flood 2014,
# "Fast splittable pseudorandom number generators", section 3).
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLIER_1 = np.uint64(0xBF58476D1CE4E5B9)
_MULTIPLIER_2 = np.uint64(0x94D049BB133111EB)
_UNIT = 2.0**-53
_ENVIRONMENT = np.uint64(0x454E5649)  # "ENVI": separates the environment's seed from the policy's draws
_POLICY = np.uint64(0x504F4C49)  # "POLI"
_ATTACKER = np.uint64(0x41545441)  # "ATTA": separates the draw of an attacker from what the attacker draws


class Stream(IntEnum):
    """What a stream of random numbers is for."""

    TRAINING_EPISODE = 0
    EVALUATION_EPISODE = 1
    POLICY_INITIALISATION = 2
    MINIBATCHES = 3
    SEARCH = 4
    WORKFLOW = 5
    RANKING = 6
    VALIDATION_EPISODE = 7


def generator(run_seed: int, stream: Stream, *index: int) -> np.random.Generator:
    """The numpy generator of one stream, e.g. the minibatches of one update."""
    return np.random.default_rng(np.random.SeedSequence(run_seed, spawn_key=(int(stream), *index)))


def policy_seed(run_seed: int, index: int) -> int:
    """What the initial weights of a run's policy are drawn from, 0..2**63 - 1.

    Args:
        run_seed: of the run.
        index: of the policy in it, from 0.
    """
    return int(generator(run_seed, Stream.POLICY_INITIALISATION, index).integers(2**63))


@compiled
def mix64(value: np.uint64) -> np.uint64:
    """Hash 64 bits to 64 bits, every input bit affecting every output bit (splitmix64's finaliser)."""
    value = (value ^ (value >> np.uint64(30))) * _MULTIPLIER_1
    value = (value ^ (value >> np.uint64(27))) * _MULTIPLIER_2
    return value ^ (value >> np.uint64(31))


@compiled
def _hash3(run_seed: np.uint64, stream: np.uint64, episode: np.uint64) -> np.uint64:
    key = mix64(run_seed + _GOLDEN)
    key = mix64(key ^ (stream * _MULTIPLIER_1 + _GOLDEN))
    return mix64(key ^ (episode * _MULTIPLIER_2 + _GOLDEN))


def episode_key(run_seed: int, stream: Stream, episode: int) -> np.uint64:
    """The 64-bit key of an episode: all its randomness is counted from here."""
    key = _hash3(np.uint64(run_seed), np.uint64(stream), np.uint64(episode))
    return np.uint64(key)  # compiled code returns a Python int, which would come back to it as a signed one


@compiled
def environment_seed(key: np.uint64) -> np.uint64:
    """The seed for `env.reset`: 31 bits, which every Gymnasium environment accepts."""
    return mix64(key ^ _ENVIRONMENT) >> np.uint64(33)


@compiled
def attacker_draw(environment_seed: np.uint64, count: int) -> int:
    """Which of some attackers plays an episode.

    Args:
        environment_seed: of the episode.
        count: how many there are to draw from, each with the same chance.
    """
    return int(mix64(environment_seed ^ _ATTACKER) % np.uint64(count))


@compiled
def policy_uniform(key: np.uint64, step: np.uint64) -> float:
    """The uniform number in [0, 1) that chooses the action of a step (53 bits)."""
    bits = mix64((key ^ _POLICY) + (step + np.uint64(1)) * _GOLDEN)
    return float(bits >> np.uint64(11)) * _UNIT
