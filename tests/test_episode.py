"""What crosses processes: specs, tickets, shapes and episodes as flat arrays."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflow_rl.episode import (
    EnvironmentSpec,
    Episodes,
    NetworkShape,
    Snapshot,
    Ticket,
    pack_forbidden,
    unpack_forbidden,
)
from workflow_rl.errors import EpisodeError
from workflow_rl.seeding import Stream

SPEC = EnvironmentSpec.of("CartPole-v1", {"render_mode": None})


def ticket(episode: int) -> Ticket:
    return Ticket(7, Stream.TRAINING_EPISODE, episode, SPEC, version=3, batch=2)


def episode(index: int, length: int) -> Episodes:
    """Every number in it tells which episode and step it belongs to."""
    steps = 100 * index + np.arange(length)
    return Episodes(
        tickets=(ticket(index),),
        lengths=np.array([length], np.int32),
        observations=np.tile(100 * index + np.arange(length + 1)[:, np.newaxis], (1, 2)).astype(np.float32),
        actions=steps.astype(np.int16),
        forbidden=np.empty((length, 0), np.uint8),
        log_probs=(-steps).astype(np.float32),
        rewards=(steps + 0.5).astype(np.float32),
        compromised=(steps % 64).astype(np.uint8),
        terminated=np.array([index % 2 == 0]),
        started=np.array([float(index)]),
        seconds=np.array([index / 8], np.float32),
        worker=np.array([index], np.int32),
    )


def test_a_spec_does_not_depend_on_the_order_of_its_arguments() -> None:
    first = EnvironmentSpec.of("X-v0", {"b": 1, "a": "two"})
    second = EnvironmentSpec.of("X-v0", {"a": "two", "b": 1})
    assert first == second
    assert hash(first) == hash(second)
    assert dict(first.kwargs) == {"a": "two", "b": 1}
    assert first != EnvironmentSpec.of("X-v0", {"a": "two", "b": 2})


def test_a_ticket_names_itself_in_errors() -> None:
    assert str(ticket(5)) == "episode 5 (run seed 7, policy version 3)"
    with_workflow = dataclasses.replace(ticket(5), workflow=119)
    assert str(with_workflow) == "episode 5 (run seed 7, workflow 119, policy version 3)"
    assert str(dataclasses.replace(ticket(5), workflow=0)).count("workflow 0") == 1


def test_tickets_and_snapshots_survive_pickling() -> None:
    assert pickle.loads(pickle.dumps(ticket(5))) == ticket(5)
    shape = NetworkShape(2, 1, 3, 4)
    snapshot = Snapshot(9, shape, np.arange(shape.num_parameters, dtype=np.float32))
    copy = pickle.loads(pickle.dumps(snapshot))
    assert (copy.version, copy.shape) == (9, shape)
    np.testing.assert_array_equal(copy.parameters, snapshot.parameters)


def test_tickets_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ticket(5).episode = 6  # type: ignore[misc]


def test_layer_sizes_and_number_of_parameters() -> None:
    shape = NetworkShape(num_observations=52, num_context=25, hidden_size=64, num_actions=145)
    assert shape.layer_sizes == ((77, 64), (64, 64), (64, 145))
    assert shape.num_parameters == 77 * 64 + 64 + 64 * 64 + 64 + 64 * 145 + 145


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6))
@settings(deadline=None)
def test_concatenation_keeps_every_episode_whole_and_in_order(lengths: list[int]) -> None:
    parts = [episode(index, length) for index, length in enumerate(lengths)]
    joined = Episodes.concatenate(parts)
    assert len(joined) == len(lengths)
    assert joined.num_steps == sum(lengths)
    assert [t.episode for t in joined.tickets] == list(range(len(lengths)))
    assert joined.lengths.tolist() == lengths
    end = 0
    for index, (part, steps) in enumerate(zip(parts, joined.step_slices(), strict=True)):
        assert (steps.start, steps.stop) == (end, end + lengths[index])
        end = steps.stop
        for name in ("actions", "log_probs", "rewards", "compromised"):
            np.testing.assert_array_equal(getattr(joined, name)[steps], getattr(part, name))
        rows = slice(steps.start + index, steps.stop + index + 1)
        np.testing.assert_array_equal(joined.observations[rows], part.observations)
        for name in ("terminated", "started", "seconds", "worker"):
            assert getattr(joined, name)[index] == getattr(part, name)[0]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6))
@settings(deadline=None)
def test_returns_are_the_sums_of_each_episodes_rewards(lengths: list[int]) -> None:
    parts = [episode(index, length) for index, length in enumerate(lengths)]
    returns = Episodes.concatenate(parts).returns()
    assert returns.dtype == np.float64
    assert returns.tolist() == [sum(part.rewards.tolist()) for part in parts]


def test_concatenation_does_not_change_types() -> None:
    one = episode(0, 2)
    joined = Episodes.concatenate([one, episode(1, 3)])
    for field in dataclasses.fields(Episodes):
        if field.name != "tickets":
            assert getattr(joined, field.name).dtype == getattr(one, field.name).dtype
    assert Episodes.concatenate([one]) is one


MASK = np.array([1, 0, 1, 1, 0, 1, 1, 1, 1, 0], np.bool_)


def test_masks_are_packed_and_unpacked() -> None:
    packed = pack_forbidden([MASK, None, ~MASK])
    assert (packed.shape, packed.dtype) == ((3, 2), np.uint8)
    np.testing.assert_array_equal(unpack_forbidden(packed, 10), [~MASK, np.zeros(10, np.bool_), MASK])


def test_without_masks_nothing_is_kept() -> None:
    packed = pack_forbidden([None, None])
    assert packed.shape == (2, 0)
    np.testing.assert_array_equal(unpack_forbidden(packed, 10), np.zeros((2, 10), np.bool_))


def test_episodes_without_masks_rule_nothing_out_beside_others() -> None:
    first, last = episode(0, 2), episode(2, 1)
    masked = dataclasses.replace(episode(1, 3), forbidden=pack_forbidden([MASK] * 3))
    joined = Episodes.concatenate([first, masked, last])
    assert unpack_forbidden(joined.forbidden, 10).any(1).tolist() == [False] * 2 + [True] * 3 + [False]
    assert Episodes.concatenate([first, last]).forbidden.shape == (3, 0)


def test_all_but_the_final_observations_are_acted_upon() -> None:
    joined = Episodes.concatenate([episode(0, 2), episode(1, 1)])
    assert joined.is_acted_upon.tolist() == [True, True, False, True, False]


@pytest.mark.parametrize("worst", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("name", "row", "where"),
    [
        ("observations", 4, "an observation that is not finite at step 1 of episode 1 "),
        ("observations", 6, "an observation that is not finite at step 3 of episode 1 "),
        ("rewards", 2, "a reward that is not finite at step 0 of episode 1 "),
        ("rewards", 5, "a reward that is not finite at step 0 of episode 2 "),
    ],
)
def test_what_is_not_finite_is_refused_with_its_episode_and_step(
    name: str, row: int, where: str, worst: float
) -> None:
    """Episodes of 2, 3 and 1 steps; an observation of step t is the one before it."""
    joined = Episodes.concatenate([episode(0, 2), episode(1, 3), episode(2, 1)])
    joined.require_finite()
    values = getattr(joined, name).copy()
    values.reshape(len(values), -1)[row, -1] = worst
    with pytest.raises(EpisodeError, match=f"^CartPole-v1 gave {where}"):
        dataclasses.replace(joined, **{name: values}).require_finite()
