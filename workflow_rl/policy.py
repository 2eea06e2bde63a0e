"""The actor and the critic that the learner trains, and the policy files that a run leaves behind.

Torch begins here: workers evaluate a snapshot of the actor with `inference` and never import this module.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from workflow_rl.distributions import judge_choice, judge_decimals, judge_numbers
from workflow_rl.episode import NetworkShape, Snapshot
from workflow_rl.errors import PolicyFileError

_ACTOR_OUTPUT_GAIN = 0.01
"""A nearly uniform policy at the start (Andrychowicz et al. 2021, section 3.2)."""

_LOGIT_OF_FORBIDDEN = torch.finfo(torch.float32).min
"""Gives probability 0 and no gradient (Huang and Ontanon 2022, "A closer look at invalid action masking in
policy gradient algorithms"). Minus infinity would too, but its share of the entropy is no number."""

_METADATA_KEY = "workflow_rl"

_CRITIC = "critic."
"""What the names of the critic's tensors begin with."""

_DAMAGE = (
    OSError,
    safetensors.SafetensorError,
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
    RuntimeError,
)
"""What safetensors, json and torch raise on a file that holds something else than they are told to expect."""


def _network(num_inputs: int, hidden_size: int, num_outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(num_inputs, hidden_size),
        nn.Tanh(),
        nn.Linear(hidden_size, hidden_size),
        nn.Tanh(),
        nn.Linear(hidden_size, num_outputs),
    )


def _initialise(network: nn.Sequential, output_gain: float, generator: torch.Generator) -> None:
    """Orthogonal weights, gain 5/3 before tanh; zero biases."""
    layers = [layer for layer in network if isinstance(layer, nn.Linear)]
    for layer in layers:
        gain = output_gain if layer is layers[-1] else nn.init.calculate_gain("tanh")
        nn.init.orthogonal_(layer.weight, gain, generator=generator)
        nn.init.zeros_(layer.bias)


@contextmanager
def _one_thread() -> Iterator[None]:
    """The last bits of a QR decomposition depend on the number of threads; initial weights must not."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class ActorCritic(nn.Module):
    """Two separate networks with two hidden layers of tanh units each.

    Args:
        shape: inputs (observation, then context), hidden units and actions.
        seed: of the initial weights.
        normalizes_observations: whether observations are shifted and scaled first, by `set_normalization`.
    """

    observation_mean: Tensor
    observation_scale: Tensor

    def __init__(self, shape: NetworkShape, seed: int = 0, *, normalizes_observations: bool = False) -> None:
        super().__init__()
        self.normalizes_observations = normalizes_observations
        if normalizes_observations:
            self.register_buffer("observation_mean", torch.zeros(shape.num_observations))
            self.register_buffer("observation_scale", torch.ones(shape.num_observations))
        self.shape = shape
        num_inputs = shape.num_observations + shape.num_context
        self.actor = _network(num_inputs, shape.hidden_size, shape.num_actions)
        self.critic = _network(num_inputs, shape.hidden_size, 1)
        generator = torch.Generator().manual_seed(seed)
        with _one_thread():
            _initialise(self.actor, _ACTOR_OUTPUT_GAIN, generator)
            _initialise(self.critic, 1.0, generator)
        if shape.is_gaussian:
            self.log_deviations = nn.Parameter(torch.zeros(shape.num_actions))

    def logits(self, inputs: Tensor, columns: Tensor | None = None) -> Tensor:
        """The actor's outputs, see `NetworkShape`.

        Args:
            inputs: (B, O + context) float32; or (B, C), if the others are zero.
            columns: which inputs these are, (C,) int64; not with normalised observations.

        Returns:
            (B, A) float32.
        """
        return self._outputs(self.actor, inputs, columns)

    def judge_actions(
        self,
        inputs: Tensor,
        rows: Tensor,
        actions: Tensor,
        forbidden: Tensor | None = None,
        columns: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """How probable actions are, and how undecided the policy is where they were chosen.

        Args:
            inputs: (D, O + context) or (D, C) float32, see `logits`.
            rows: the input of each step, (N,) int64.
            actions: (N,) or (N, branches) int64, or (N, A) float32, by the kind of action.
            forbidden: actions that could not be chosen, (D, A) bool; never for decimal numbers.
            columns: see `logits`.

        Returns:
            Log-probabilities (or densities) of the actions and entropies, in nats, each (N,) float32.
        """
        outputs = self.logits(inputs, columns)
        if forbidden is not None:
            outputs = outputs.masked_fill(forbidden, _LOGIT_OF_FORBIDDEN)
        if self.shape.is_gaussian:
            return judge_decimals(outputs, self.log_deviations, rows, actions)
        if self.shape.branches:
            return judge_numbers(outputs, self.shape.branches, rows, actions)
        return judge_choice(outputs, rows, actions)

    def values(self, inputs: Tensor, columns: Tensor | None = None) -> Tensor:
        """Expected scaled return, (B,) float32; arguments as of `logits`."""
        return self._outputs(self.critic, inputs, columns).squeeze(-1)

    def _outputs(self, network: nn.Sequential, inputs: Tensor, columns: Tensor | None) -> Tensor:
        result: Tensor
        if columns is None:
            result = network(self._normalized(inputs))
        else:
            first = cast(nn.Linear, network[0])
            result = network[1:](nn.functional.linear(inputs, first.weight[:, columns], first.bias))
        return result

    def set_normalization(self, mean: NDArray[np.float64], deviation: NDArray[np.float64]) -> None:
        """From now on subtract the mean (O,) of an observation and divide by its deviation (O,)."""
        self.observation_mean.copy_(torch.from_numpy(mean))
        self.observation_scale.copy_(torch.from_numpy(1.0 / deviation))

    def _normalized(self, inputs: Tensor) -> Tensor:
        if not self.normalizes_observations:
            return inputs
        num_observations = self.shape.num_observations
        observations = (inputs[:, :num_observations] - self.observation_mean) * self.observation_scale
        return torch.cat([observations, inputs[:, num_observations:]], 1)

    def snapshot(self, version: int) -> Snapshot:
        """The actor's weights for the workers, copied; what normalises observations is folded into them."""
        parameters = []
        for layer in self.actor:
            if isinstance(layer, nn.Linear):
                weights, biases = layer.weight.detach().T.cpu().numpy(), layer.bias.detach().cpu().numpy()
                if self.normalizes_observations and layer is self.actor[0]:
                    weights, biases = self._fold_normalization(weights, biases)
                parameters += [weights.ravel(), biases]
        if self.shape.is_gaussian:
            parameters.append(self.log_deviations.detach().cpu().numpy())
        return Snapshot(version, self.shape, np.concatenate(parameters))

    def _fold_normalization(
        self, weights: NDArray[np.float32], biases: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Weights [input, output] and biases that do to a raw observation what these do to a normalised one.

        (x - mean) * scale @ weights + biases = x @ (scale * weights) + (biases - mean @ (scale * weights))
        """
        mean, scale = (
            buffer.cpu().numpy().astype(np.float64)
            for buffer in (self.observation_mean, self.observation_scale)
        )
        scaled = weights.astype(np.float64)
        scaled[: len(scale)] *= scale[:, None]
        shifted = biases - mean @ scaled[: len(mean)]
        return scaled.astype(np.float32), shifted.astype(np.float32)


def policy_digest(policy: nn.Module) -> str:
    """SHA-256 of all weights, hexadecimal: equal if and only if the weights are equal to the last bit."""
    digest = hashlib.sha256()
    for name, tensor in sorted(policy.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def policy_to_bytes(policy: ActorCritic, metadata: Mapping[str, Any], *, has_critic: bool = True) -> bytes:
    """A policy as a safetensors file.

    Args:
        policy: what to store.
        metadata: JSON values that say what the policy is for; read back by `load_policy`.
        has_critic: whether to store the critic too, which is for training only.
    """
    header = {**metadata, "shape": asdict(policy.shape)}
    tensors = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in policy.state_dict().items()
        if has_critic or not name.startswith(_CRITIC)
    }
    return safetensors.torch.save(tensors, {_METADATA_KEY: json.dumps(header)})


def load_policy(path: Path) -> tuple[ActorCritic, dict[str, Any]]:
    """Read a policy file.

    Returns:
        The policy, and the metadata it was stored with. If it was stored without its critic, that knows
        nothing.

    Raises:
        PolicyFileError: the file is missing, damaged, or not one of ours.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})[_METADATA_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
        policy = ActorCritic(
            NetworkShape.from_json(header.pop("shape")), normalizes_observations="observation_mean" in tensors
        )
        _load(policy, tensors)
    except FileNotFoundError as error:
        raise PolicyFileError(f"there is no policy file {path}") from error
    except _DAMAGE as error:
        reason = str(error).splitlines()[0]
        raise PolicyFileError(f"{path} is damaged or not a policy of this package ({reason})") from error
    return policy, header


def _load(policy: ActorCritic, tensors: Mapping[str, Tensor]) -> None:
    """Set all weights, or all but the critic's if there are none of it."""
    has_critic = any(name.startswith(_CRITIC) for name in tensors)
    untrained = {} if has_critic else {n: t for n, t in policy.state_dict().items() if n.startswith(_CRITIC)}
    policy.load_state_dict({**untrained, **tensors})
