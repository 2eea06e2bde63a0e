"""Scores a policy on fresh seeded episodes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workflow_rl.alignment import Fix, compliance_of, compliance_with_each, judge_episodes
from workflow_rl.collectors import Collector
from workflow_rl.episode import EnvironmentSpec, Episodes, Snapshot, Ticket
from workflow_rl.equivalent_orders import OrderClasses
from workflow_rl.errors import SettingError
from workflow_rl.seeding import Stream
from workflow_rl.settings import RunSettings
from workflow_rl.workflow import Workflow

NORMAL_95 = 1.96
"""Standard errors to either side of a mean that make a 95 % interval."""

HORIZONS = (30, 50, 100)
"""Episode lengths that the challenge scores."""

FIRST_FRESH_EPISODE = 1_000_000_000
"""No run scores its orders on so many evaluation episodes: from here on none has chosen anything."""


@dataclass(frozen=True)
class Score:
    """What a policy earned over a set of episodes.

    Attributes:
        episodes: how many.
        reward: mean return in the simulator's own reward.
        reward_standard_error: of that mean.
        compliance: by the true state, see `alignment.compliance_of`; `None` without a fix to judge.
        compliance_standard_error: from the spread between episodes; `None` like the compliance.
        observed_compliance: by what blue's observation showed, with its standard error.
    """

    episodes: int
    reward: float
    reward_standard_error: float
    compliance: float | None
    compliance_standard_error: float | None
    observed_compliance: float | None
    observed_compliance_standard_error: float | None


@dataclass(frozen=True)
class KeptOrder:
    """An order that a policy keeps to as well as is demanded, whichever it was told.

    Attributes:
        workflow: the order, the one of the lowest index of those that no rule tells apart.
        compliance: with it, by the true state.
        observed_compliance: by what blue's observation showed; `None` without a fix to judge.
    """

    workflow: Workflow
    compliance: float
    observed_compliance: float | None


@dataclass(frozen=True)
class EnvironmentScore:
    """What a policy earned over a set of episodes of any environment.

    Attributes:
        episodes: how many.
        mean_return: undiscounted, in the environment's own reward.
        standard_error: of that mean.
        mean_length: in steps.
    """

    episodes: int
    mean_return: float
    standard_error: float
    mean_length: float


def check_sample(episodes: int, seed: int) -> None:
    """See that so many evaluation episodes of a seed can be played and give a standard error.

    Raises:
        SettingError: a value is not allowed.
    """
    if episodes < 2:
        raise SettingError(f"--episodes must be at least 2, got {episodes}")
    RunSettings(seed=seed)  # has the bounds of every seed


def evaluation_tickets(
    environment: EnvironmentSpec,
    snapshot: Snapshot,
    *,
    run_seed: int,
    episodes: Iterable[int],
    batch: int,
    workflow: Workflow | None,
    greedy: bool = False,
    mask: str | None = None,
) -> list[Ticket]:
    """Tickets for evaluation episodes, which share no random numbers with training."""
    return [
        Ticket(
            run_seed=run_seed,
            stream=Stream.EVALUATION_EPISODE,
            episode=episode,
            environment=environment,
            version=snapshot.version,
            batch=batch,
            workflow=None if workflow is None else workflow.index,
            greedy=greedy,
            mask=mask,
        )
        for episode in episodes
    ]


def score(episodes: Episodes, workflow: Workflow, definition: str, *, horizon: int | None = None) -> Score:
    """Score played episodes.

    Args:
        episodes: at least two.
        workflow: the order they are judged by.
        definition: of compliance, see `alignment.judge_fixes`.
        horizon: count only the first steps. The policy is not told the horizon, so the first 30 steps of a
            longer episode are an episode of 30 steps.
    """
    returns = np.array([episodes.rewards[s][:horizon].sum(dtype=np.float64) for s in episodes.step_slices()])
    judged = judge_episodes(episodes, [workflow] * len(episodes), definition, horizon=horizon)
    return Score(
        episodes=len(returns),
        reward=float(returns.mean()),
        reward_standard_error=_standard_error(returns),
        compliance=compliance_of(judged.true, definition),
        compliance_standard_error=_compliance_standard_error(judged.true, definition),
        observed_compliance=compliance_of(judged.observed, definition),
        observed_compliance_standard_error=_compliance_standard_error(judged.observed, definition),
    )


def kept_orders(
    episodes: Episodes, classes: OrderClasses, definition: str, *, threshold: float
) -> tuple[KeptOrder, ...]:
    """The orders that a policy keeps to in played episodes: one rule is often kept by keeping to another.

    Args:
        episodes: of one policy, told any order.
        classes: which orders no rule tells apart; one of each is judged by.
        definition: of compliance, see `alignment.judge_fixes`.
        threshold: the least compliance that is demanded.

    Returns:
        By index.
    """
    workflows = [Workflow.from_index(int(index)) for index in classes.representatives()]
    judged = compliance_with_each(episodes, workflows, definition)
    return tuple(
        KeptOrder(workflow, compliance.true, compliance.observed)
        for workflow, compliance in zip(workflows, judged, strict=True)
        if compliance.true is not None and compliance.true >= threshold
    )


def score_environment(episodes: Episodes) -> EnvironmentScore:
    """Score played episodes, at least two, of any environment."""
    returns = episodes.returns()
    return EnvironmentScore(
        episodes=len(returns),
        mean_return=float(returns.mean()),
        standard_error=_standard_error(returns),
        mean_length=float(episodes.lengths.mean()),
    )


def _standard_error(values: NDArray[np.float64]) -> float:
    """Of the mean of independent values (E,)."""
    return float(values.std(ddof=1) / np.sqrt(len(values)))


def _compliance_standard_error(judged: Sequence[NDArray[np.int8]], definition: str) -> float | None:
    """Standard error of `compliance_of`: of a mean of the episodes' rates, or of a pooled rate."""
    if definition == "any-session":
        rates = np.array([compliance_of([j], definition) for j in judged], np.float64)
        return _standard_error(rates)
    return _ratio_standard_error(judged)


def _ratio_standard_error(judged: Sequence[NDArray[np.int8]]) -> float | None:
    """Standard error of (compliant fixes) / (judged fixes), a ratio of sums (Cochran 1977, section 6.4)."""
    compliant = np.array([np.count_nonzero(j == Fix.COMPLIANT) for j in judged], np.float64)
    fixes = compliant + [np.count_nonzero(j == Fix.VIOLATING) for j in judged]
    if not fixes.any():
        return None
    residuals = compliant - compliant.sum() / fixes.sum() * fixes
    return float(np.sqrt(len(fixes) / (len(fixes) - 1) * np.square(residuals).sum()) / fixes.sum())


def evaluate_policy(collector: Collector, snapshot: Snapshot, tickets: list[Ticket]) -> Episodes:
    """Play evaluation tickets, all of one batch."""
    collector.publish(snapshot)
    collector.submit(tickets)
    return collector.collect(tickets[0].batch)
