"""Whether a training still gets better: the environment's reward under a constraint, update by update.

One batch is too noisy to tell, so means over the last ten batches are compared with the best such mean so
far. A mean is better if it keeps to the order better, as far as the threshold asks for; or keeps to it as
well, and earns more. So reward earned by violating the order is never what later updates have to beat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean

SPAN = 10
"""Updates whose batches make one mean."""

_AS_WELL = 0.01
"""Compliances that differ by less are taken for equal: some standard errors of a mean of ten batches."""


@dataclass
class Plateau:
    """What decides whether a training still gets better; numbers only, so that JSON holds it exactly.

    Attributes:
        rewards: mean environment reward of each of the last batches, `SPAN` at most.
        compliances: of the same batches, as far as there was a fix to judge; others are 0.
        best_reward: of the best mean so far; `None` before the first.
        best_compliance: likewise, no more than the threshold.
        updates_since_best: updates without a better mean.
    """

    rewards: list[float] = field(default_factory=list)
    compliances: list[float] = field(default_factory=list)
    best_reward: float | None = None
    best_compliance: float = 0.0
    updates_since_best: int = 0

    def count(self, reward: float, compliance: float | None, threshold: float) -> None:
        """Take in one more update.

        Args:
            reward: mean return of its batch in the environment's own reward.
            compliance: of its batch, 0..1; `None` without a fix to judge.
            threshold: more compliance than this makes nothing better.
        """
        self.rewards = _last([*self.rewards, reward])
        self.compliances = _last([*self.compliances, 0.0 if compliance is None else compliance])
        if len(self.rewards) < SPAN:
            return
        self.updates_since_best += 1
        mean_reward, mean_compliance = fmean(self.rewards), min(fmean(self.compliances), threshold)
        if self._is_better(mean_reward, mean_compliance):
            self.best_reward = mean_reward
            self.best_compliance = max(self.best_compliance, mean_compliance)
            self.updates_since_best = 0

    def _is_better(self, reward: float, compliance: float) -> bool:
        if self.best_reward is None or compliance > self.best_compliance + _AS_WELL:
            return True
        return compliance >= self.best_compliance - _AS_WELL and reward > self.best_reward


def _last(values: Sequence[float]) -> list[float]:
    return list(values[-SPAN:])
