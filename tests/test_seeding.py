"""Random numbers: published values of the generator, and independence of everything that must not matter."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest

from workflow_rl.seeding import (
    Stream,
    attacker_draw,
    environment_seed,
    episode_key,
    generator,
    mix64,
    policy_uniform,
)

WORD = 2**64
GOLDEN = 0x9E3779B97F4A7C15
words = st.integers(0, WORD - 1)


def slow_mix64(value: int) -> int:
    """splitmix64's finaliser on unbounded integers."""
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 % WORD
    value = (value ^ value >> 27) * 0x94D049BB133111EB % WORD
    return value ^ value >> 31


def slow_key(run_seed: int, stream: int, episode: int) -> int:
    key = slow_mix64((run_seed + GOLDEN) % WORD)
    key = slow_mix64(key ^ (stream * 0xBF58476D1CE4E5B9 + GOLDEN) % WORD)
    return slow_mix64(key ^ (episode * 0x94D049BB133111EB + GOLDEN) % WORD)


def slow_uniform(key: int, step: int) -> float:
    return (slow_mix64(((key ^ 0x504F4C49) + (step + 1) * GOLDEN) % WORD) >> 11) / 2**53


def keys(
    num_episodes: int, *, run_seed: int = 0, stream: Stream = Stream.TRAINING_EPISODE
) -> list[np.uint64]:
    return [episode_key(run_seed, stream, episode) for episode in range(num_episodes)]


@pytest.mark.parametrize(
    ("seed", "outputs"),
    [
        # Published with the reference implementations of splitmix64 (Vigna's C, Rosetta Code's table).
        (
            1234567,
            [
                6457827717110365317,
                3203168211198807973,
                9817491932198370423,
                4593380528125082431,
                16408922859458223821,
            ],
        ),
        (0, [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]),
    ],
)
def test_published_values_of_splitmix64(seed: int, outputs: list[int]) -> None:
    states = [(seed + n * GOLDEN) % WORD for n in range(1, len(outputs) + 1)]
    assert [int(mix64(np.uint64(state))) for state in states] == outputs


@given(words)
@settings(deadline=None)
def test_compiled_hash_agrees_with_unbounded_integers(value: int) -> None:
    assert int(mix64(np.uint64(value))) == slow_mix64(value)
    with np.errstate(over="ignore"):
        assert int(mix64.py_func(np.uint64(value))) == slow_mix64(value)


@given(st.integers(0, 2**63 - 1), st.sampled_from(Stream), st.integers(0, 2**40), st.integers(0, 10**6))
@settings(deadline=None)
def test_everything_of_an_episode_agrees_with_unbounded_integers(
    run_seed: int, stream: Stream, episode: int, step: int
) -> None:
    key = episode_key(run_seed, stream, episode)
    assert type(key) is np.uint64
    assert int(key) == slow_key(run_seed, stream, episode)
    assert environment_seed(key) == slow_mix64(int(key) ^ 0x454E5649) >> 33
    assert policy_uniform(key, np.uint64(step)) == slow_uniform(int(key), step)


def test_a_flipped_input_bit_flips_about_half_the_output_bits() -> None:
    """Avalanche: over 64 bits and 200 keys the mean share of flips is within 1 % of a half."""
    values = np.random.default_rng(1).integers(0, 2**63, 200)
    flips = [
        (int(mix64(np.uint64(value))) ^ int(mix64(np.uint64(int(value) ^ 1 << bit)))).bit_count()
        for value in values
        for bit in range(64)
    ]
    assert np.mean(flips) == pytest.approx(32, rel=0.01)
    assert min(flips) > 5


def test_keys_are_distinct_over_runs_streams_and_episodes() -> None:
    all_keys = [
        int(episode_key(run_seed, stream, episode))
        for run_seed, stream, episode in itertools.product(range(10), Stream, range(200))
    ]
    assert len(set(all_keys)) == len(all_keys) == 10 * len(Stream) * 200


def test_environment_seeds_have_31_bits_and_use_them_all() -> None:
    seeds = np.array([environment_seed(key) for key in keys(1000)])
    assert seeds.min() >= 0
    assert seeds.max() < 2**31
    assert np.bitwise_or.reduce(seeds) == 2**31 - 1
    assert len(np.unique(seeds)) == 1000


def test_uniform_numbers_are_uniform_and_below_one() -> None:
    """Kolmogorov-Smirnov over steps of one episode, and over episodes at one step; false alarm 1e-4 each."""
    key = episode_key(0, Stream.TRAINING_EPISODE, 0)
    over_steps = [policy_uniform(key, np.uint64(step)) for step in range(5000)]
    over_episodes = [policy_uniform(key, np.uint64(0)) for key in keys(5000)]
    for numbers in (over_steps, over_episodes):
        assert min(numbers) >= 0
        assert max(numbers) < 1
        assert kstest(numbers, "uniform").pvalue > 1e-4


def test_largest_hash_stays_below_one() -> None:
    """53 bits, not 64: the largest word would round up to 1."""
    assert float(np.uint64(WORD - 1) >> np.uint64(11)) * 2.0**-53 < 1
    key = episode_key(1, Stream.TRAINING_EPISODE, 5)
    assert (policy_uniform(key, np.uint64(9)) * 2**53).is_integer()


@pytest.mark.parametrize("neighbour", ["step", "episode", "stream", "run"])
def test_neighbouring_numbers_are_independent(neighbour: str) -> None:
    """Chi-square on the 8 x 8 table of pairs, 5000 pairs, false alarm 1e-4."""
    first, second = [], []
    for n in range(5000):
        key, step = episode_key(0, Stream.TRAINING_EPISODE, n), 0
        other_key, other_step = {
            "step": (key, 1),
            "episode": (episode_key(0, Stream.TRAINING_EPISODE, n + 1), 0),
            "stream": (episode_key(0, Stream.EVALUATION_EPISODE, n), 0),
            "run": (episode_key(1, Stream.TRAINING_EPISODE, n), 0),
        }[neighbour]
        first.append(policy_uniform(key, np.uint64(step)))
        second.append(policy_uniform(other_key, np.uint64(other_step)))
    table = np.histogram2d(first, second, bins=8, range=[[0, 1], [0, 1]])[0]
    assert chisquare(table.ravel()).pvalue > 1e-4


def test_environment_and_policy_share_no_numbers() -> None:
    """The environment's seed says nothing about the first action's number."""
    pairs = [(environment_seed(key) / 2**31, policy_uniform(key, np.uint64(0))) for key in keys(5000)]
    table = np.histogram2d(*zip(*pairs, strict=True), bins=8, range=[[0, 1], [0, 1]])[0]
    assert chisquare(table.ravel()).pvalue > 1e-4


def test_the_order_of_asking_does_not_matter() -> None:
    key = episode_key(3, Stream.TRAINING_EPISODE, 7)
    forwards = [policy_uniform(key, np.uint64(step)) for step in range(20)]
    environment_seed(key)
    backwards = [policy_uniform(key, np.uint64(step)) for step in reversed(range(20))]
    assert forwards == backwards[::-1]


def test_generators_differ_by_every_part_of_their_name() -> None:
    names = [
        (0, Stream.MINIBATCHES, 0, 0),
        (1, Stream.MINIBATCHES, 0, 0),
        (0, Stream.SEARCH, 0, 0),
        (0, Stream.MINIBATCHES, 1, 0),
        (0, Stream.MINIBATCHES, 0, 1),
        (0, Stream.MINIBATCHES, 0),
    ]
    draws = [tuple(generator(*name).integers(0, 2**63, 4)) for name in names]
    assert len(set(draws)) == len(names)
    assert draws == [tuple(generator(*name).integers(0, 2**63, 4)) for name in names]


PROGRAM = """
import numpy as np
from workflow_rl.seeding import Stream, environment_seed, episode_key, generator, policy_uniform
key = episode_key(42, Stream.EVALUATION_EPISODE, 17)
print(int(key), environment_seed(key), policy_uniform(key, np.uint64(99)).hex())
print(generator(42, Stream.MINIBATCHES, 1, 2).permutation(10).tolist())
"""


def test_another_process_with_another_hash_seed_gets_the_same_numbers() -> None:
    key = episode_key(42, Stream.EVALUATION_EPISODE, 17)
    order = generator(42, Stream.MINIBATCHES, 1, 2).permutation(10).tolist()
    uniform = float(policy_uniform(key, np.uint64(99))).hex()
    output = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "PYTHONHASHSEED": "12345"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert output == f"{int(key)} {environment_seed(key)} {uniform}\n{order}\n"


@given(words, st.integers(1, 10))
@settings(deadline=None)
def test_attackers_are_drawn_by_a_hash_of_their_own(seed: int, count: int) -> None:
    assert attacker_draw(np.uint64(seed), count) == slow_mix64(seed ^ 0x41545441) % count


def test_streams_keep_their_numbers() -> None:
    """They are part of every episode's key: renumbering them would change every run."""
    assert {stream.name: stream.value for stream in Stream} == {
        "TRAINING_EPISODE": 0,
        "EVALUATION_EPISODE": 1,
        "POLICY_INITIALISATION": 2,
        "MINIBATCHES": 3,
        "SEARCH": 4,
        "WORKFLOW": 5,
        "RANKING": 6,
        "VALIDATION_EPISODE": 7,
    }
