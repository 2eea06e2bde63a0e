"""What orders are worth: trainings scored on the way, side by side, in a table that goes on where it was."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import workflow_rl
from workflow_rl.bench.learning import Learning, learn_order
from workflow_rl.bench.milestones import Milestone, score_on_the_way
from workflow_rl.bench.runs import Runs, parse_settings
from workflow_rl.bench.score_table import ScoreTable, Trained, Worth
from workflow_rl.bench.side_by_side import side_by_side
from workflow_rl.errors import SettingError
from workflow_rl.settings import TrainSettings
from workflow_rl.workflow import all_workflows

SCRIPT = Path(workflow_rl.__file__).parents[1] / "benchmarks" / "ground_truth.py"
ORDER = "user,op_server,op_host,enterprise,defender"
SIZE: dict[str, Any] = {"episodes_per_update": 5, "max_steps": 10, "evaluation_episodes": 4, "seed": 3}


def scored(milestones: tuple[int, ...], **values: Any) -> list[Milestone]:
    return list(score_on_the_way(TrainSettings.from_flat({**SIZE, **values}), milestones))


def test_a_milestone_is_the_end_of_a_shorter_training() -> None:
    values = {"workflow": ORDER, "max_steps": 30, "learning_rate": 0.03}
    whole = scored((10, 20), total_episodes=30, **values)
    assert [milestone.episodes for milestone in whole] == [10, 20, 30]
    for milestone in whole:
        assert scored((), total_episodes=milestone.episodes, **values) == [milestone]
    assert len({milestone.score.reward for milestone in whole}) > 1


@pytest.mark.parametrize("alignment", ["violation", "mask-lagrangian"])
def test_the_score_is_that_of_the_command(alignment: str) -> None:
    values = {"total_episodes": 20, "workflow": ORDER, "alignment": alignment}
    (end,) = scored((), **values)
    learnt = learn_order({**SIZE, **values})
    assert (end.score.reward, end.score.compliance) == (learnt.score, learnt.compliance)
    assert end.score.reward_standard_error == learnt.score_standard_error


def test_a_universal_training_is_scored_on_each_order() -> None:
    milestones = scored((5,), total_episodes=10, universal=True)
    assert [milestone.episodes for milestone in milestones] == [5] * 120 + [10] * 120
    assert [milestone.workflow for milestone in milestones[:120]] == list(all_workflows())


def test_the_stop_rule_holds() -> None:
    values = {"total_episodes": 500, "episodes_per_update": 1, "compliance_threshold": 0.0, "workflow": ORDER}
    (end,) = scored((), stop_rule="threshold", **values)
    assert end.episodes < 100


def test_work_is_done_side_by_side_and_not_begun_late() -> None:
    assert sorted(side_by_side(math.sqrt, [1.0, 4.0, 9.0], processes=2)) == [
        (1.0, 1.0),
        (4.0, 2.0),
        (9.0, 3.0),
    ]
    done = [item for item, _ in side_by_side(time.sleep, [0.2] * 50, processes=1, seconds=1.0)]
    assert 1 <= len(done) < 10


def learnt(settings: Any) -> Learning:
    return Learning((1,), (2.0,), float(settings["x"]), None, 1.0)


def test_runs_come_in_the_order_of_their_settings_and_are_not_repeated(tmp_path: Path) -> None:
    file = tmp_path / "runs.json"
    settings = [{"x": x} for x in (3, 1, 2)]
    assert [run.score for run in Runs(file).learn(learnt, settings[:2], Learning)] == [3.0, 1.0]

    def fails(settings: Any) -> Learning:
        raise AssertionError(f"{settings} was done before")

    assert [run.score for run in Runs(file).learn(fails, settings[:2], Learning)] == [3.0, 1.0]
    assert [run.score for run in Runs(file).learn(learnt, settings, Learning)] == [3.0, 1.0, 2.0]
    file.write_text("[")
    with pytest.raises(SettingError, match=r"--runs .*runs\.json cannot be read"):
        Runs(file)


def test_settings_are_read_as_json_where_they_can_be() -> None:
    assert parse_settings(["seed=3", "alignment=mask", "universal=true", "learning_rate=1e-3"]) == {
        "seed": 3,
        "alignment": "mask",
        "universal": True,
        "learning_rate": 0.001,
    }


TRAINED = Trained("B_lineAgent", "order", "violation", 0, ORDER, 100)


def test_a_table_holds_what_was_added(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    rows = {TRAINED: Worth(-12.5, 0.25, None, 1.0)}
    ScoreTable(file).add(rows)
    assert ScoreTable(file).rows == rows
    more = {Trained("B_lineAgent", "order", "violation", 0, ORDER, 50): Worth(-30.0, 1.0, 0.5, 0.5)}
    ScoreTable(file).add(more)
    assert list(ScoreTable(file).rows) == [*more, *rows]


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n"])
def test_another_file_is_no_table(tmp_path: Path, content: str) -> None:
    file = tmp_path / "table.csv"
    file.write_text("red_agent\n" + content)
    if content:
        with pytest.raises(SettingError, match="no table of scores"):
            ScoreTable(file)
    else:
        assert ScoreTable(file).rows == {}


def ground_truth(table: Path, *arguments: str) -> str:
    command = [sys.executable, str(SCRIPT), "--quick", f"--table={table}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.benchmarks
def test_ground_truth_goes_on_where_it_was(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    size = (f"--order={ORDER}", "--processes=2")
    assert "holds 1 of 1 trainings" in ground_truth(table, *size, "--red-agent=B_lineAgent")
    before = ScoreTable(table).rows
    assert [trained.episodes for trained in before] == [2, 6]
    assert "holds 2 of 2 trainings" in ground_truth(table, *size)
    assert {t: worth for t, worth in ScoreTable(table).rows.items() if t in before} == before
    ground_truth(table, "--universal", "--red-agent=mixture")
    universal = [trained for trained in ScoreTable(table).rows if trained.training == "universal"]
    assert len({trained.order for trained in universal}) == 120


@pytest.mark.benchmarks
def test_stop_rules_are_compared(tmp_path: Path) -> None:
    script = SCRIPT.with_name("stop_rules.py")
    file = tmp_path / "report.json"
    command = [sys.executable, str(script), "--quick", "--order=balanced", f"--json={file}"]
    subprocess.run(command, capture_output=True, check=True)
    report = json.loads(file.read_text())
    trained = {(row["red_agent"], row["stop_rule"]): row["training_episodes"] for row in report["trainings"]}
    assert len(trained) == 2 * 3
    assert trained["B_lineAgent", "budget"] == 12
    assert [rule["trainings"] for rule in report["rules"]] == [2, 2, 2]
