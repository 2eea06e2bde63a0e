"""When a training no longer gets better."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict

from workflow_rl.plateau import SPAN, Plateau


def waits(updates: Iterable[tuple[float, float | None]], threshold: float = 0.95) -> list[int]:
    """Updates without a better mean, after each update of this reward and compliance."""
    plateau = Plateau()
    counted = []
    for reward, compliance in updates:
        plateau.count(reward, compliance, threshold)
        counted.append(plateau.updates_since_best)
    return counted


def test_the_first_mean_is_the_best_so_far() -> None:
    assert waits([(-9.0, 0.0)] * (SPAN + 3)) == [0] * SPAN + [1, 2, 3]


def test_more_reward_is_better() -> None:
    assert waits([(float(update), 1.0) for update in range(40)]) == [0] * 40


def test_a_single_lucky_batch_is_no_bar_for_the_others() -> None:
    """Of single batches the first one would never be beaten."""
    assert waits([(0.0, 1.0)] + [(-10.0 + update / 10, 1.0) for update in range(60)])[-1] == 0


def test_more_compliance_is_better_up_to_the_threshold() -> None:
    falling = [-float(update) for update in range(60)]
    rising = [update / 60 for update in range(60)]
    assert waits(zip(falling, rising, strict=True), threshold=1.0) == [0] * 60
    assert waits(zip(falling, rising, strict=True), threshold=0.5)[-1] > 15


def test_what_was_earned_by_violations_need_not_be_beaten() -> None:
    updates = [(0.0, 0.5)] * 20 + [(-30.0 + update / 10, 0.97) for update in range(60)]
    assert waits(updates)[-1] == 0


def test_what_is_earned_by_violations_is_not_better() -> None:
    assert waits([(-30.0, 0.97)] * 20 + [(0.0, 0.5)] * 20)[-1] == 30


def test_without_reaching_the_threshold_reward_counts_among_equals() -> None:
    assert waits([(-30.0 + update, 0.9 + update % 2 / 500) for update in range(40)]) == [0] * 40


def test_a_batch_without_fixes_keeps_to_nothing() -> None:
    assert waits([(-30.0, 0.97)] * 20 + [(0.0, None)] * 20)[-1] == 30


def test_it_survives_a_checkpoint() -> None:
    plateau = Plateau()
    for update in range(15):
        plateau.count(0.1 * update, 0.3, 0.95)
    assert Plateau(**json.loads(json.dumps(asdict(plateau)))) == plateau
