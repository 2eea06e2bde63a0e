"""What the networks are shown: every step's own input and mask, and of bits each distinct one once."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from workflow_rl.episode import (
    EnvironmentSpec,
    Episodes,
    Ticket,
    context_of,
    pack_forbidden,
    unpack_forbidden,
)
from workflow_rl.network_inputs import distinct_inputs
from workflow_rl.seeding import Stream

LENGTHS = np.array([30, 1, 20, 29], np.int32)
NUM_STEPS = int(LENGTHS.sum())
NUM_ACTIONS = 10


def episodes(*, is_binary: bool, has_masks: bool) -> Episodes:
    """Of three bits and two orders, so that nearly every input comes back; masks are of two kinds."""
    draws = np.random.default_rng(0)
    observations = draws.integers(0, 2, (NUM_STEPS + len(LENGTHS), 3))
    kinds = draws.integers(0, 2, (2, NUM_ACTIONS)).astype(np.bool_)
    masks = kinds[draws.integers(0, 2, NUM_STEPS)] if has_masks else [None] * NUM_STEPS
    numbers = np.zeros(NUM_STEPS, np.float32)
    return Episodes(
        tickets=tuple(
            Ticket(0, Stream.TRAINING_EPISODE, e, EnvironmentSpec("none"), 0, 0, workflow=e % 2)
            for e in range(len(LENGTHS))
        ),
        lengths=LENGTHS,
        observations=observations.astype(np.uint8 if is_binary else np.float32),
        actions=np.zeros(NUM_STEPS, np.int16),
        forbidden=pack_forbidden(masks),
        log_probs=numbers,
        rewards=numbers,
        compromised=np.zeros(NUM_STEPS, np.uint8),
        terminated=np.zeros(len(LENGTHS), np.bool_),
        started=np.zeros(len(LENGTHS)),
        seconds=np.zeros(len(LENGTHS), np.float32),
        worker=np.zeros(len(LENGTHS), np.int32),
    )


def observation_by_observation(batch: Episodes) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The input of every observation, and what its mask ruled out: nothing for an episode's final one."""
    inputs, forbidden = [], []
    for episode, (steps, ticket) in enumerate(zip(batch.step_slices(), batch.tickets, strict=True)):
        seen = batch.observations[steps.start + episode : steps.stop + episode + 1]
        inputs += [np.concatenate([row, context_of(ticket)]) for row in seen]
        forbidden += [*unpack_forbidden(batch.forbidden[steps], NUM_ACTIONS), np.zeros(NUM_ACTIONS, np.bool_)]
    return np.array(inputs, np.float32), np.array(forbidden)


@pytest.mark.parametrize("has_masks", [False, True])
@pytest.mark.parametrize("is_binary", [False, True])
def test_every_observation_has_its_input_and_its_mask(is_binary: bool, has_masks: bool) -> None:
    batch = episodes(is_binary=is_binary, has_masks=has_masks)
    distinct = distinct_inputs(batch, NUM_ACTIONS)
    inputs, forbidden = observation_by_observation(batch)
    np.testing.assert_array_equal(distinct.inputs[distinct.rows], inputs)
    if distinct.forbidden is not None:
        np.testing.assert_array_equal(distinct.forbidden[distinct.rows], forbidden)
    assert (distinct.forbidden is not None) == has_masks == forbidden.any()


@pytest.mark.parametrize("has_masks", [False, True])
def test_inputs_of_bits_are_all_different(has_masks: bool) -> None:
    """8 observations of 2 orders, with 2 masks and, once an episode, with none."""
    batch = episodes(is_binary=True, has_masks=has_masks)
    distinct = distinct_inputs(batch, NUM_ACTIONS)
    rows = np.concatenate(observation_by_observation(batch), axis=1)
    assert len(distinct.inputs) == len(np.unique(rows, axis=0)) < len(rows) / 2
    assert len(distinct.inputs) > 16 if has_masks else len(distinct.inputs) == 16


def test_long_inputs_are_told_apart_wherever_they_differ() -> None:
    """In one of 130 bits, the first, the last or between; the key of such an input takes several words."""
    batch = episodes(is_binary=True, has_masks=False)
    kinds = np.concatenate([np.zeros((1, 130), np.uint8), np.eye(130, dtype=np.uint8)])
    draws = np.random.default_rng(0).integers(0, len(kinds), len(batch.observations))
    long = dataclasses.replace(batch, observations=kinds[draws])
    distinct = distinct_inputs(long, NUM_ACTIONS)
    inputs, _ = observation_by_observation(long)
    np.testing.assert_array_equal(distinct.inputs[distinct.rows], inputs)
    assert len(distinct.inputs) == len(np.unique(inputs, axis=0)) < len(inputs)


def test_masks_that_allow_everything_change_nothing() -> None:
    """Neither the inputs nor their order, so that not a bit of what is learnt changes."""
    batch = episodes(is_binary=True, has_masks=False)
    allowing = dataclasses.replace(batch, forbidden=np.zeros((NUM_STEPS, 2), np.uint8))
    plain, masked = distinct_inputs(batch, NUM_ACTIONS), distinct_inputs(allowing, NUM_ACTIONS)
    np.testing.assert_array_equal(plain.inputs, masked.inputs)
    np.testing.assert_array_equal(plain.rows, masked.rows)
    assert masked.forbidden is not None
    assert not masked.forbidden.any()
