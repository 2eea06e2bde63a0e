"""Proximal policy optimisation over whole episodes.

With batches played by the current policy this is PPO (Schulman et al. 2017, equation 7). With batches played
by an older one (lag > 0) the objective is decoupled (Hilton, Cobbe, Schulman 2022, "Batch size-invariance for
policy optimization", equation 5): the clip is around the *proximal* policy, the one at the start of the
update, and the older *behaviour* policy enters as a truncated importance weight only.

Values are computed here, with the critic at the start of the update, rather than by the workers with an older
one: they are fresher, and a worker evaluates half as much.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from workflow_rl.episode import Episodes
from workflow_rl.errors import LearnerError, SettingError
from workflow_rl.gae import generalized_advantages
from workflow_rl.network_inputs import distinct_inputs
from workflow_rl.policy import ActorCritic
from workflow_rl.seeding import Stream, generator
from workflow_rl.settings import PPOSettings

_ADAM_EPSILON = 1e-5  # openai/baselines' value, detail 3 of "The 37 implementation details of PPO" (2022)
_SMALL = 1e-8


@dataclass(frozen=True)
class UpdateStatistics:
    """What one update did; means over its gradient steps unless said otherwise.

    Attributes:
        policy_loss: clipped surrogate objective, negated.
        value_loss: Huber loss of the scaled return.
        entropy: of the policy, in nats.
        approximate_kl: mean of ratio - 1 - log ratio (Schulman 2020, "Approximating KL divergence", k3).
        clip_fraction: share of steps whose ratio left the clipping range.
        explained_variance: 1 - Var(return - value) / Var(return), before the update.
        gradient_norm: before clipping.
        importance_weight_mean: proximal over behaviour probability, before truncation, mean over the batch.
        importance_weight_max: the largest of them.
    """

    policy_loss: float
    value_loss: float
    entropy: float
    approximate_kl: float
    clip_fraction: float
    explained_variance: float
    gradient_norm: float
    importance_weight_mean: float
    importance_weight_max: float


@dataclass(frozen=True, eq=False)
class _Samples:
    """Steps as the learner sees them: N steps, D distinct network inputs."""

    inputs: Tensor  # (D, O + context) float32, or (D, C) with columns
    columns: Tensor | None  # (C,) int64, the inputs that are not zero throughout; None for all
    forbidden: Tensor | None  # (D, A) bool, actions ruled out by masks; None if there were none
    rows: Tensor  # (N,) int64, each step's input
    actions: Tensor  # (N,) int64; see `ActorCritic.judge_actions` for other kinds of action
    advantages: Tensor  # (N,) float32
    returns: Tensor  # (N,) float32
    proximal_log_probs: Tensor  # (N,) float32, what the ratio is clipped around
    weights: Tensor  # (N,) float32, truncated importance weights

    def at(self, steps: Tensor) -> _Samples:
        """Some of the steps, with the inputs that they need."""
        needed, rows = torch.unique(self.rows[steps], return_inverse=True)
        return _Samples(
            self.inputs.index_select(0, needed),
            self.columns,
            None if self.forbidden is None else self.forbidden.index_select(0, needed),
            rows,
            self.actions[steps],
            self.advantages[steps],
            self.returns[steps],
            self.proximal_log_probs[steps],
            self.weights[steps],
        )


def torch_device(name: str) -> torch.device:
    """The device of that name.

    Raises:
        SettingError: torch does not know it or cannot use it here.
    """
    try:
        device = torch.device(name)
        torch.empty(1, device=device).cpu()  # nothing comes back from "meta"
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise SettingError(f"--device {name!r} cannot be used: {str(error).splitlines()[0]}") from error
    return device


class PPO:
    """Updates one policy, batch by batch.

    Args:
        policy: trained in place.
        settings: hyper-parameters.
        seed: of the run; with `stream_index` it decides the minibatches.
        stream_index: tells apart the policies of one run.
    """

    def __init__(
        self, policy: ActorCritic, settings: PPOSettings, *, seed: int, stream_index: int = 0
    ) -> None:
        self.device = torch_device(settings.device)
        self.policy = policy.to(self.device)
        self.settings = settings
        self.num_updates = 0
        self._entropy_coefficient = settings.entropy_coefficient
        self._seed = seed
        self._stream_index = stream_index
        self._optimizer = torch.optim.Adam(
            policy.parameters(), settings.learning_rate, eps=_ADAM_EPSILON, fused=True
        )
        torch.set_num_threads(settings.learner_threads)

    def anneal(self, *, learning_rate: float, entropy: float) -> None:
        """Weigh the updates to come: learning rate and entropy bonus, as shares of what the settings say.

        The state does not hold them: whoever restores a learner says it anew.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * learning_rate
        self._entropy_coefficient = self.settings.entropy_coefficient * entropy

    def update(
        self, batch: Episodes, rewards: NDArray[np.float32], *, is_on_policy: bool
    ) -> UpdateStatistics:
        """Improve the policy on one batch.

        Args:
            batch: the episodes.
            rewards: what to maximise, (N,) float32, unscaled: the environment's reward plus the alignment's.
            is_on_policy: whether the batch was played by the policy as it is now.

        Raises:
            EpisodeError: an observation or a reward is not finite; nothing was learnt.
            LearnerError: a gradient is not finite; all weights are lost.
        """
        batch.require_finite()
        samples, weights, explained_variance = self._prepare(batch, rewards, is_on_policy=is_on_policy)
        steps = [self._gradient_step(samples.at(rows)) for rows in self._minibatches(batch.num_steps)]
        self.num_updates += 1
        means = torch.stack(steps).mean(0).tolist()
        policy_loss, value_loss, entropy, approximate_kl, clip_fraction, gradient_norm = means
        if not math.isfinite(gradient_norm):
            raise LearnerError(
                f"update {self.num_updates} made weights that are no numbers, by a gradient that is not "
                "finite: take a smaller --learning-rate, or a smaller --reward-scale"
            )
        return UpdateStatistics(
            policy_loss=policy_loss,
            value_loss=value_loss,
            entropy=entropy,
            approximate_kl=approximate_kl,
            clip_fraction=clip_fraction,
            explained_variance=explained_variance,
            gradient_norm=gradient_norm,
            importance_weight_mean=float(weights.mean()),
            importance_weight_max=float(weights.max()),
        )

    def state(self) -> dict[str, NDArray[Any]]:
        """All that later updates depend on, beside settings: weights, Adam's state, the number of updates."""
        tensors = {f"policy.{name}": tensor for name, tensor in self.policy.state_dict().items()}
        for index, moments in self._optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{name}": tensor for name, tensor in moments.items()}
        arrays = {name: tensor.detach().cpu().numpy().copy() for name, tensor in tensors.items()}
        return {**arrays, "num_updates": np.array(self.num_updates)}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from what `state` returned, to the last bit.

        Raises:
            KeyError, RuntimeError, ValueError: it is the state of another kind of learner.
        """
        weights: dict[str, Tensor] = {}
        moments: dict[int, dict[str, Tensor]] = defaultdict(dict)
        for name, array in state.items():
            part, _, rest = name.partition(".")
            if part == "policy":
                weights[rest] = torch.tensor(array)
            elif part == "adam":
                index, _, moment = rest.partition(".")
                moments[int(index)][moment] = torch.tensor(array)
        self.policy.load_state_dict(weights)
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": dict(moments), "param_groups": groups})
        self.num_updates = int(state["num_updates"])

    @torch.no_grad()
    def _prepare(
        self, batch: Episodes, rewards: NDArray[np.float32], *, is_on_policy: bool
    ) -> tuple[_Samples, Tensor, float]:
        settings = self.settings
        distinct = distinct_inputs(batch, self.policy.shape.num_actions)
        columns = self._used_columns(distinct.inputs)
        inputs = self._tensor(distinct.inputs)
        if columns is not None:
            inputs = inputs.index_select(1, columns)
        forbidden = None if distinct.forbidden is None else self._tensor(distinct.forbidden)
        values = self.policy.values(inputs, columns).cpu().numpy()[distinct.rows]
        has_future = np.logical_not(batch.terminated) & (settings.horizon == "truncation")
        advantages = generalized_advantages(
            rewards * np.float32(settings.reward_scale),
            values,
            batch.lengths,
            has_future,
            settings.discount,
            settings.gae_lambda,
        )
        is_step = batch.is_acted_upon
        returns = advantages + values[is_step]
        if settings.normalize_advantages:
            advantages = (advantages - advantages.mean()) / (advantages.std() + _SMALL)
        rows = self._tensor(distinct.rows[is_step])
        is_decimal = self.policy.shape.is_gaussian
        actions = self._tensor(batch.actions if is_decimal else batch.actions.astype(np.int64))
        behaviour = self._tensor(batch.log_probs)
        if is_on_policy or settings.objective == "coupled":
            proximal = behaviour
        else:
            proximal, _ = self.policy.judge_actions(inputs, rows, actions, forbidden, columns)
        weights = torch.exp(proximal - behaviour)
        samples = _Samples(
            inputs,
            columns,
            forbidden,
            rows,
            actions,
            self._tensor(advantages),
            self._tensor(returns),
            proximal,
            weights.clamp(max=settings.importance_weight_cap),
        )
        return samples, weights, _explained_variance(values[is_step], returns)

    def _used_columns(self, inputs: NDArray[np.float32]) -> Tensor | None:
        """The inputs that are not zero throughout a batch, (C,) int64; `None` if all are to be computed with.

        Half of the memories' bits are never set in a batch. Leaving them out changes sums in their last bits.
        """
        if not self.settings.drop_unused_inputs or self.policy.normalizes_observations:
            return None
        return self._tensor(np.flatnonzero(inputs.any(axis=0)))

    def _tensor(self, array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(array).to(self.device)

    def _minibatches(self, num_steps: int) -> Iterator[Tensor]:
        """Row numbers of each gradient step: every epoch takes all steps once, in a seeded order."""
        draws = generator(self._seed, Stream.MINIBATCHES, self._stream_index, self.num_updates)
        size = self.settings.minibatch_size or num_steps
        num_minibatches = max(1, round(num_steps / size))
        for _ in range(self.settings.epochs):
            for rows in np.array_split(draws.permutation(num_steps), num_minibatches):
                yield self._tensor(rows)

    def _gradient_step(self, samples: _Samples) -> Tensor:
        """One step of Adam; returns the statistics of `UpdateStatistics` that belong to it, (6,) float32."""
        settings = self.settings
        log_probs, entropies = self.policy.judge_actions(
            samples.inputs, samples.rows, samples.actions, samples.forbidden, samples.columns
        )
        entropy = entropies.mean()
        log_ratio = log_probs - samples.proximal_log_probs
        ratio = log_ratio.exp()
        clipped = ratio.clamp(1 - settings.clip_range, 1 + settings.clip_range)
        gain = torch.min(ratio * samples.advantages, clipped * samples.advantages)
        policy_loss = -(samples.weights * gain).mean()
        values = self.policy.values(samples.inputs, samples.columns).index_select(0, samples.rows)
        value_loss = nn.functional.huber_loss(values, samples.returns)
        loss = policy_loss + settings.value_coefficient * value_loss - self._entropy_coefficient * entropy
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.policy.parameters(), settings.max_gradient_norm)
        self._optimizer.step()
        with torch.no_grad():
            kl = (ratio - 1 - log_ratio).mean()
            clip_fraction = (ratio != clipped).float().mean()
            return torch.stack([policy_loss, value_loss, entropy, kl, clip_fraction, norm]).detach().cpu()


def _explained_variance(values: NDArray[np.float32], returns: NDArray[np.float32]) -> float:
    variance = float(np.var(returns))
    return 1.0 - float(np.var(returns - values)) / variance if variance > 0 else float("nan")
