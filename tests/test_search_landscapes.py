"""Searches replayed where the best order is known: the landscapes themselves, and what regret means."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import workflow_rl
from workflow_rl.bench.score_table import ScoreTable, Trained, Worth
from workflow_rl.bench.search_landscapes import (
    FULL,
    LANDSCAPES,
    Landscape,
    learnt_slowly,
    measured_landscape,
    regrets,
)
from workflow_rl.equivalent_orders import OrderClasses
from workflow_rl.errors import SettingError
from workflow_rl.settings import AlignmentSettings, SearchSettings
from workflow_rl.workflow import all_workflows

CHECKOUT = Path(workflow_rl.__file__).parents[1]
ALL = OrderClasses.all_different()
WORKFLOWS = all_workflows()


@pytest.mark.parametrize("name", LANDSCAPES)
def test_a_landscape_is_that_of_its_seed_and_equal_for_equivalent_orders(name: str) -> None:
    one, same, other = (LANDSCAPES[name](np.random.default_rng(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.rewards, same.rewards)
    assert not np.array_equal(one.rewards, other.rewards)
    # The root of a singular covariance has a little noise of its own.
    np.testing.assert_allclose(one.rewards, one.rewards[:, one.classes.representative], atol=1e-3)
    assert one.rewards[-1].std() > 1


def test_learning_curves_end_at_the_reward_and_rise_until_then() -> None:
    landscape = learnt_slowly(np.full(120, -60.0), np.full(120, 2.0), ALL)
    np.testing.assert_array_equal(landscape.rewards[-1], -60.0)
    assert (np.diff(landscape.rewards, axis=0) > 0).all()
    assert landscape.rewards[landscape.level(2), 0] == pytest.approx(-62.0)
    assert [landscape.level(episodes) for episodes in (0, 1, FULL, 5 * FULL)] == [0, 0, FULL - 1, FULL - 1]


def exact(rewards: np.ndarray, compliances: np.ndarray) -> Landscape:
    """A landscape without noise, learnt at once."""
    return Landscape(np.array([1]), rewards[None], compliances[None], np.zeros((1, 120)), ALL)


def test_regret_is_what_the_best_order_so_far_lacks() -> None:
    settings = SearchSettings(search_strategy="round-robin", halvings=0, max_episodes_per_workflow=10)
    rewards = np.where(np.arange(120) == 2, -50.0, -60.0 - np.arange(120))
    found = regrets(exact(rewards, np.ones(120)), settings, np.array([9, 10, 29, 30, 1000]), seed=0)
    assert found.tolist() == [129.0, 10.0, 10.0, 0.0, 0.0]


def test_an_order_that_misses_the_threshold_is_no_find() -> None:
    settings = SearchSettings(search_strategy="round-robin", halvings=0, max_episodes_per_workflow=1)
    rewards, compliances = -60.0 - np.arange(120.0), np.where(np.arange(120) < 5, 0.9, 1.0)
    found = regrets(exact(rewards, compliances), settings, np.array([5, 6]), seed=0)
    assert found.tolist() == [114.0, 0.0], "the best order that meets it is the sixth"


def table_of(path: Path, orders: list[int], **changes: Any) -> ScoreTable:
    """Rows against B_line after 100 and 200 episodes, by order and seed."""
    table = ScoreTable(path / "table.csv")
    rows = {
        Trained("B_lineAgent", "order", "violation", seed, str(WORKFLOWS[index]), episodes): Worth(
            -60.0 - index - seed + episodes / 100, 0.5, 0.9 + episodes / 4000, None
        )
        for index in orders
        for seed in (0, 2)
        for episodes in (100, 200)
    }
    table.add((replace(row, **changes), worth) for row, worth in rows.items())
    return table


def test_a_measured_landscape_is_that_of_its_table(tmp_path: Path) -> None:
    alignment = AlignmentSettings(alignment="violation")
    classes = OrderClasses.in_training("B_lineAgent", alignment)
    table = table_of(tmp_path, classes.representatives().tolist())
    landscape = measured_landscape(ScoreTable(tmp_path / "table.csv"), "B_lineAgent", alignment)
    assert landscape.episodes.tolist() == [100, 200]
    np.testing.assert_allclose(landscape.rewards[1], -59.0 - classes.representative)
    np.testing.assert_allclose(landscape.compliances[0], 0.925)
    np.testing.assert_allclose(landscape.standard_errors, 0.5 * np.sqrt(5))
    assert landscape.best_reward(0.95) == -59.0
    with pytest.raises(SettingError, match="no rows for RedMeanderAgent"):
        measured_landscape(table, "RedMeanderAgent", alignment)


def test_a_table_that_lacks_an_order_is_refused(tmp_path: Path) -> None:
    table = table_of(tmp_path, [0, 1])
    with pytest.raises(SettingError, match=r"no row for defender,.* after 100 episodes"):
        measured_landscape(table, "B_lineAgent", AlignmentSettings(alignment="violation"))


@pytest.mark.benchmarks
def test_the_benchmark_compares_strategies() -> None:
    arguments = ["--quick", "--landscape", "plateaus", "--strategy", "gp-ucb:1"]
    done = subprocess.run(
        [sys.executable, "benchmarks/search_regret.py", *arguments],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    figures = json.loads(done.stdout)["landscapes"]["plateaus"]["strategies"]
    assert set(figures) == {"random", "gp-ucb:1"}
    assert len(figures["gp-ucb:1"]["better_than_random"]["p_value"]) == 1
    assert all(regret >= 0 for regret in figures["random"]["mean_regret"])
