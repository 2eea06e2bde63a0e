"""How the learner judges actions, against torch's own distributions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, Normal

from workflow_rl.distributions import judge_choice, judge_decimals, judge_numbers

NUM_INPUTS, NUM_STEPS = 5, 12
BRANCHES = (2, 4, 3)


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def rows() -> Tensor:
    """The input of each step; some belong to several steps, one to none."""
    return torch.arange(NUM_STEPS) % (NUM_INPUTS - 1)


def whole_numbers(below: int) -> Tensor:
    return torch.randint(below, (NUM_STEPS,), generator=torch.Generator().manual_seed(below))


def test_one_of_several() -> None:
    logits, actions = normal(NUM_INPUTS, 7), whole_numbers(7)
    log_probs, entropies = judge_choice(logits, rows(), actions)
    expected = Categorical(logits=logits[rows()])
    torch.testing.assert_close(log_probs, expected.log_prob(actions))
    torch.testing.assert_close(entropies, expected.entropy())


def test_several_numbers() -> None:
    logits = normal(NUM_INPUTS, sum(BRANCHES))
    actions = torch.stack([whole_numbers(branch) for branch in BRANCHES], 1)
    log_probs, entropies = judge_numbers(logits, BRANCHES, rows(), actions)
    parts = [Categorical(logits=part) for part in logits[rows()].split(BRANCHES, 1)]
    torch.testing.assert_close(log_probs, sum(part.log_prob(actions[:, i]) for i, part in enumerate(parts)))
    torch.testing.assert_close(entropies, sum(part.entropy() for part in parts))


def test_decimal_numbers() -> None:
    means, log_deviations, actions = normal(NUM_INPUTS, 3), normal(3), normal(NUM_STEPS, 3)
    log_densities, entropies = judge_decimals(means, log_deviations, rows(), actions)
    expected = Independent(Normal(means[rows()], log_deviations.exp()), 1)
    torch.testing.assert_close(log_densities, expected.log_prob(actions))
    torch.testing.assert_close(entropies, expected.entropy())
