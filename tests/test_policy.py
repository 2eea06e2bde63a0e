"""Policies: their first weights, their snapshots, and the files they are kept in."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from workflow_rl.episode import NetworkShape
from workflow_rl.errors import PolicyFileError
from workflow_rl.policy import ActorCritic, load_policy, policy_digest, policy_to_bytes

SHAPE = NetworkShape(num_observations=3, num_context=2, hidden_size=4, num_actions=6)
METADATA = {"workflow": "defender,enterprise,op_server,op_host,user", "episodes": 200, "compliance": None}
WHOLE_FILE = policy_to_bytes(ActorCritic(SHAPE, seed=1), METADATA)


def policy() -> ActorCritic:
    return ActorCritic(SHAPE, seed=1)


def stored(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(PolicyFileError) as caught:
        load_policy(path)
    message = str(caught.value)
    assert str(path) in message
    assert len(message.splitlines()) == 1
    return message


def test_round_trip_keeps_every_bit_and_the_metadata(tmp_path: Path) -> None:
    loaded, metadata = load_policy(stored(tmp_path / "p.safetensors", WHOLE_FILE))
    assert metadata == METADATA
    assert loaded.shape == SHAPE
    assert policy_digest(loaded) == policy_digest(policy())
    assert policy_to_bytes(loaded, metadata) == WHOLE_FILE


def test_a_loaded_policy_can_be_trained_on(tmp_path: Path) -> None:
    loaded, _ = load_policy(stored(tmp_path / "p.safetensors", WHOLE_FILE))
    loaded.logits(torch.ones(1, 5)).sum().backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is not None for parameter in loaded.actor.parameters())


def test_the_digest_sees_a_single_bit_anywhere() -> None:
    changed = policy()
    digests = {policy_digest(changed)}
    for parameter in changed.parameters():
        words = parameter.detach().view(torch.int32)
        words.view(-1)[-1] ^= 1
        digests.add(policy_digest(changed))
    assert len(digests) == 1 + len(list(changed.parameters())) == 13


def test_the_digest_tells_weights_apart_by_where_they_are() -> None:
    """The same numbers in the actor instead of the critic are another policy."""
    swapped = policy()
    with torch.no_grad():
        first, second = swapped.actor[2].weight, swapped.critic[2].weight
        kept = first.clone()
        first.copy_(second)
        second.copy_(kept)
    assert policy_digest(swapped) != policy_digest(policy())
    layer = nn.Linear(2, 2)
    assert policy_digest(nn.ModuleDict({"a": layer})) != policy_digest(nn.ModuleDict({"b": layer}))


def test_same_seed_same_weights() -> None:
    torch.manual_seed(99)
    assert policy_digest(ActorCritic(SHAPE, seed=1)) == policy_digest(policy())
    assert policy_digest(ActorCritic(SHAPE, seed=2)) != policy_digest(policy())


def test_first_weights_are_orthogonal_and_the_policy_nearly_uniform() -> None:
    shape = NetworkShape(num_observations=52, num_context=25, hidden_size=64, num_actions=145)
    fresh = ActorCritic(shape, seed=0)
    for network, output_gain in ((fresh.actor, 0.01), (fresh.critic, 1.0)):
        for layer, gain in ((network[0], 5 / 3), (network[2], 5 / 3), (network[4], output_gain)):
            singular_values = torch.linalg.svdvals(layer.weight.detach())
            np.testing.assert_allclose(singular_values, gain, rtol=1e-5)
            assert not layer.bias.any()
    inputs = torch.from_numpy(np.random.default_rng(0).integers(0, 2, (100, 77)).astype(np.float32))
    probabilities = fresh.logits(inputs).detach().softmax(-1)
    np.testing.assert_allclose(probabilities, 1 / 145, rtol=0.05)


def test_actor_and_critic_share_nothing() -> None:
    network = policy()
    network.values(torch.ones(2, 5)).sum().backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is None for parameter in network.actor.parameters())
    assert network.values(torch.ones(2, 5)).shape == (2,)
    assert network.logits(torch.ones(2, 5)).shape == (2, 6)


def test_snapshot_layout() -> None:
    """For each layer its weights, [input, output] in C order, then its biases; the actor only."""
    network = policy()
    with torch.no_grad():
        for number, parameter in enumerate(network.parameters()):
            parameter.copy_(1000 * number + torch.arange(parameter.numel()).reshape(parameter.shape))
    snapshot = network.snapshot(7)
    assert (snapshot.version, snapshot.shape) == (7, SHAPE)
    assert snapshot.parameters.dtype == np.float32
    assert snapshot.parameters.flags.c_contiguous
    assert snapshot.parameters.shape == (SHAPE.num_parameters,)
    expected = []
    for number, (inputs, outputs) in enumerate([(5, 4), (4, 4), (4, 6)]):
        weights, biases = 2000 * number, 2000 * number + 1000
        expected += [
            weights + outputs_first * inputs + i for i in range(inputs) for outputs_first in range(outputs)
        ]
        expected += [biases + j for j in range(outputs)]
    assert snapshot.parameters.tolist() == expected


def test_a_snapshot_does_not_change_with_the_policy() -> None:
    network = policy()
    snapshot = network.snapshot(0)
    before = snapshot.parameters.copy()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 1
    np.testing.assert_array_equal(snapshot.parameters, before)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "there is no policy file" in refusal(tmp_path / "absent.safetensors")


@given(st.integers(0, len(WHOLE_FILE) - 1))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_truncated_file_is_refused(tmp_path: Path, length: int) -> None:
    refusal(stored(tmp_path / "p.safetensors", WHOLE_FILE[:length]))


@given(st.integers(0, 700), st.integers(0, 7))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_flipped_bit_in_the_header_loads_or_is_refused_in_one_line(
    tmp_path: Path, position: int, bit: int
) -> None:
    """Never an error of another kind."""
    damaged = bytearray(WHOLE_FILE)
    damaged[position] ^= 1 << bit
    path = stored(tmp_path / "p.safetensors", bytes(damaged))
    try:
        load_policy(path)
    except PolicyFileError:
        refusal(path)


@pytest.mark.parametrize(
    "header",
    [
        None,
        {},
        {"other": "format"},
        {"workflow_rl": ""},
        {"workflow_rl": "not json"},
        {"workflow_rl": "5"},
        {"workflow_rl": "null"},
        {"workflow_rl": "[]"},
        {"workflow_rl": "{}"},
        {"workflow_rl": '{"shape": 5}'},
        {"workflow_rl": '{"shape": {"num_observations": 3}}'},
        {"workflow_rl": json.dumps({"shape": dict.fromkeys(NetworkShape.__slots__, "many")})},
        {"workflow_rl": json.dumps({"shape": dict.fromkeys(NetworkShape.__slots__, -1)})},
        {"workflow_rl": json.dumps({"shape": dict.fromkeys(NetworkShape.__slots__, 5)})},
    ],
    ids=str,
)
def test_a_safetensors_file_of_another_kind_is_refused(tmp_path: Path, header: dict[str, str] | None) -> None:
    content = safetensors.torch.save(dict(policy().state_dict()), header)
    assert "damaged or not a policy of this package" in refusal(stored(tmp_path / "p", content))


def test_a_policy_with_other_tensors_is_refused(tmp_path: Path) -> None:
    header = {"workflow_rl": json.dumps({"shape": {n: getattr(SHAPE, n) for n in NetworkShape.__slots__}})}
    for tensors in (
        {},
        dict(nn.Linear(2, 2).state_dict()),
        {name: tensor[..., :-1].clone() for name, tensor in policy().state_dict().items()},
    ):
        refusal(stored(tmp_path / "p", safetensors.torch.save(tensors, header)))


@pytest.mark.parametrize("content", [b"", b"\x00", b"PK\x03\x04" * 20, b"{}" * 50, b"\xff" * 100], ids=repr)
def test_a_file_of_another_format_is_refused(tmp_path: Path, content: bytes) -> None:
    refusal(stored(tmp_path / "p.safetensors", content))


def test_a_directory_is_refused(tmp_path: Path) -> None:
    refusal(tmp_path)
