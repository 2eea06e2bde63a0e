"""`workflow-rl search`: all its parts, and that a search that was stopped goes on where it was."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from workflow_rl import commands
from workflow_rl.errors import RunDirectoryError, SettingError
from workflow_rl.run_directory import ANSWER, RunDirectory
from workflow_rl.run_log import RankingRow, read_ranking
from workflow_rl.settings import FullSearchSettings, TrainSettings


def settings(path: Path, **changes: Any) -> FullSearchSettings:
    small = {
        "run_dir": str(path),
        "attackers": "B_lineAgent,mixture",
        "total_episodes": 8,
        "max_episodes_per_workflow": 4,
        "episodes_per_update": 2,
        "max_steps": 10,
        "evaluation_episodes": 2,
        "unbound_episodes": 4,
        "confirmed_orders": 1,
        "confirmation_episodes": 2,
        "collector": "sequential",
        "hidden_size": 8,
    }
    return FullSearchSettings.from_flat({**small, **changes})


def search(path: Path, **changes: Any) -> int:
    return commands.start(settings(path, **changes), launched=time.monotonic())


def answer(path: Path) -> Any:
    return json.loads((path / ANSWER).read_text())["attackers"]


def test_everything_is_answered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert search(tmp_path / "run", confirmed_orders=2) == 0
    assert [found["red_agent"] for found in answer(tmp_path / "run")] == ["B_lineAgent", "mixture"]
    for found in answer(tmp_path / "run"):
        ranking = read_ranking(tmp_path / "run" / found["red_agent"])
        assert [row["workflow"] for row in found["ranking"]] == [row.workflow for row in ranking]
        first, second = found["confirmations"]
        assert first["policy"] != second["policy"]
        first_of: dict[str, RankingRow] = {}
        for row in ranking:
            if row.policy is not None:
                first_of.setdefault(f"{found['red_agent']}/{row.policy}", row)
        assert [*first_of][:2] == [first["policy"], second["policy"]]
        for confirmed in (first, second):
            row = first_of[confirmed["policy"]]
            assert confirmed["workflow"] == row.workflow
            assert (tmp_path / "run" / confirmed["policy"]).is_file()
            assert confirmed["score"]["episodes"] == 2
            is_kept = (confirmed["score"]["compliance"] or 0.0) >= 0.95
            assert is_kept == bool(
                {row.workflow, *row.equivalent_orders.split(";")} & {*confirmed["kept_orders"]}
            )
        reward, standard_error = found["unbound"]
        assert reward < 0 < standard_error
    printed = capsys.readouterr().out
    for text in ("orders against mixture, best first", "-- against mixture"):
        assert printed.count(text) == 1
    assert printed.count("on the reference simulator:") == 4
    assert printed.count("no order:") == 2


def test_what_was_confirmed_is_not_played_again(tmp_path: Path) -> None:
    assert search(tmp_path / "run", attackers="B_lineAgent", confirmed_orders=1) == 0
    directory = RunDirectory(tmp_path / "run")
    (whole,) = answer(directory.path)
    (confirmed,) = directory.read_json("confirmations.json")
    assert [confirmed] == whole["confirmations"]
    marked = {**confirmed, "score": {**confirmed["score"], "reward": 1.0}}
    directory.write_json("confirmations.json", [marked])
    directory.write_json("config.json", {**directory.read_json("config.json"), "confirmed_orders": 2})
    (directory.path / "summary.json").unlink()  # as if it had been killed after the first confirmation
    assert commands.resume(directory.path, {}, launched=time.monotonic()) == 0
    (resumed,) = answer(directory.path)
    first, second = resumed["confirmations"]
    assert first == marked
    assert second["policy"] != first["policy"]


def test_a_search_that_was_stopped_goes_on(tmp_path: Path) -> None:
    assert search(tmp_path / "whole") == 0
    assert search(tmp_path / "stopped", confirmed_orders=0) == 0
    stopped = RunDirectory(tmp_path / "stopped")
    config = stopped.read_json("config.json")
    stopped.write_json("config.json", {**config, "confirmed_orders": 1})
    for name in ("summary.json", "answer.json", "mixture/summary.json"):
        (stopped.path / name).unlink()  # as if it had been killed in the second search
    before = (stopped.path / "B_lineAgent" / "summary.json").stat().st_mtime_ns
    assert commands.resume(stopped.path, {}, launched=time.monotonic()) == 0
    assert (stopped.path / "B_lineAgent" / "summary.json").stat().st_mtime_ns == before
    assert answer(stopped.path) == answer(tmp_path / "whole")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"universal": True}, "--universal"),
        ({"attackers": "B_lineAgent,Nobody"}, "Nobody"),
        ({"rules": "leaderboard"}, "--rules leaderboard needs --simulator native"),
        ({"attackers": "B_lineAgent,B_lineAgent"}, "--attackers"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_anything_is_written(
    tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(SettingError, match=named):
        search(tmp_path / "run", **changes)
    assert not list(tmp_path.iterdir())


def test_runs_of_train_and_search_are_not_taken_for_each_other(tmp_path: Path) -> None:
    assert search(tmp_path / "run", attackers="B_lineAgent", unbound_episodes=0, confirmed_orders=0) == 0
    with pytest.raises(RunDirectoryError, match="use workflow-rl train --resume"):
        commands.resume(tmp_path / "run" / "B_lineAgent", {}, kind=FullSearchSettings, launched=0.0)
    with pytest.raises(RunDirectoryError, match="use workflow-rl search --resume"):
        commands.resume(tmp_path / "run", {}, kind=TrainSettings, launched=0.0)
    assert set(TrainSettings.names()) < set(FullSearchSettings.names())
