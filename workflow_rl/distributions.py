"""How the learner judges actions: log-probability and entropy, by the kind of action.

The counterpart in torch of what `inference` draws from. The policy is evaluated once for each distinct input;
`rows` (N,) int64 says which of D inputs belongs to which of N steps. Log-probabilities, or densities, and
entropies are in nats and (N,) float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_HALF_LOG_2_PI = 0.5 * math.log(2 * math.pi)


def judge_choice(logits: Tensor, rows: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
    """One of A: logits (D, A) float32, actions (N,) int64 -> log-probabilities and entropies."""
    log_all = logits.log_softmax(-1)
    entropies = -(log_all.exp() * log_all).sum(-1)
    entropy = entropies.index_select(0, rows)
    return _chosen(log_all, rows, actions), entropy


def judge_numbers(
    logits: Tensor, branches: Sequence[int], rows: Tensor, actions: Tensor
) -> tuple[Tensor, Tensor]:
    """Several independent choices: logits (D, sum of branches), actions (N, branches) int64; their sums."""
    parts = [
        judge_choice(part, rows, actions[:, i])
        for i, part in enumerate(torch.split(logits, list(branches), -1))
    ]
    log_probs, entropies = zip(*parts, strict=True)
    return torch.stack(log_probs).sum(0), torch.stack(entropies).sum(0)


def judge_decimals(
    means: Tensor, log_deviations: Tensor, rows: Tensor, actions: Tensor
) -> tuple[Tensor, Tensor]:
    """Independent normal numbers: means (D, A), log-deviations (A,), actions (N, A) float32; their sums."""
    normal = (actions - means.index_select(0, rows)) * torch.exp(-log_deviations)
    log_densities = (-0.5 * normal.square() - log_deviations - _HALF_LOG_2_PI).sum(-1)
    entropy = (log_deviations + 0.5 + _HALF_LOG_2_PI).sum()
    return log_densities, entropy.expand(len(rows))


def _chosen(log_all: Tensor, rows: Tensor, actions: Tensor) -> Tensor:
    """Log-probability of each step's action: (D, A), (N,), (N,) -> (N,).

    Selected from the flattened table, for which the sum of gradients is sequential and so deterministic.
    """
    return log_all.view(-1).index_select(0, rows * log_all.shape[1] + actions)
