"""A report shows what run directories hold, finished or not, on a page that a browser shows."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from headless_browser import opened
from program import call

from workflow_rl.report.answer import read_confirmations
from workflow_rl.report.curves import beginnings, progress, smoothed, trainings
from workflow_rl.report.figure import evaluations
from workflow_rl.report.page import page
from workflow_rl.report.runs import Run, read_runs
from workflow_rl.report.sections import sections
from workflow_rl.report.timeline import read_timeline
from workflow_rl.run_directory import RunDirectory
from workflow_rl.run_log import VALIDATION_LOG, LearningRow, RankingRow, SearchRow, TrainingRow, ValidationRow

TINY = (
    "--episodes-per-update=5",
    "--max-episodes-per-workflow=20",
    "--halvings=0",
    "--evaluation-episodes=2",
    "--max-steps=4",
    "--hidden-size=8",
    "--collector=sequential",
)
Command = Callable[..., int | str]


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that holds a whole search over orders, and its trace."""
    place = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        options = ("--total-episodes=60", "--run-dir=searched", "--trace=trace.json")
        assert call("train", *options, *TINY) == 0
    return place


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """`call` from an empty directory."""
    monkeypatch.chdir(tmp_path)
    return call


@pytest.fixture
def trained(finished_run: Path, command: Command) -> Path:
    """A copy of the finished run, and of its trace."""
    shutil.copytree(finished_run, ".", dirs_exist_ok=True)
    return Path("searched")


def content(html: str) -> dict[str, Any]:
    """The charts of a page by name."""
    found = re.search(r'id="specifications">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    return dict(json.loads(found[1]))


def values(specification: dict[str, Any]) -> list[dict[str, Any]]:
    """All rows of data in a chart."""
    return [row for rows in specification["datasets"].values() for row in rows]


# What is read


def test_a_run_is_read_as_it_was_written(trained: Path, finished_run: Path) -> None:
    (run,) = read_runs([trained])
    assert (run.label, run.command, run.is_complete, run.num_episodes) == ("searched", "train", True, 60)
    assert len(run.training) == 12
    assert len(run.search) == 3
    assert run.trace == finished_run / "trace.json"


def test_an_unfinished_run_shows_what_is_there(trained: Path) -> None:
    for name in ("summary.json", "ranking.csv", "search_log.csv"):
        (trained / name).unlink()
    log = trained / "training_log.csv"
    log.write_text(log.read_text()[:-7])  # a row that is just being written
    (run,) = read_runs([trained])
    assert not run.is_complete
    assert len(run.training) == 11
    html = page("Report", list(sections([run])))
    assert "unfinished" in html
    assert {"reward", "compliance", "throughput", "time"} <= set(content(html))
    log.unlink()
    assert "No update has been made yet" in page("Report", list(sections(read_runs([trained]))))


def test_a_search_of_all_attackers_is_read_as_its_runs(trained: Path) -> None:
    answer = Path("answer")
    (answer / "B_lineAgent").parent.mkdir()
    trained.rename(answer / "B_lineAgent")
    settings = json.loads((answer / "B_lineAgent/config.json").read_text())
    (answer / "config.json").write_text(json.dumps({**settings, "attackers": "B_lineAgent"}))
    assert [run.label for run in read_runs([answer])] == ["B_lineAgent"]


def test_runs_of_one_name_are_told_apart_by_their_directories(trained: Path) -> None:
    for place in ("first", "second"):
        Path(place).mkdir()
        (Path(place) / "run").symlink_to(trained.resolve(), target_is_directory=True)
    Path("third/run").mkdir(parents=True)
    for file in ("config.json", "training_log.csv"):
        Path("third/run", file).write_bytes((trained / file).read_bytes())
    runs = read_runs([Path("third/run"), trained])
    assert [run.label for run in runs] == ["run", "searched"]


def test_a_run_that_has_only_begun(
    trained: Path, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = Path("begun")
    begun.mkdir()
    (begun / "config.json").write_bytes((trained / "config.json").read_bytes())
    assert command("report", begun) == 0
    assert "begun/report.html: no charts yet; open it in a browser" in capsys.readouterr().out
    assert "No update has been made yet" in (begun / "report.html").read_text()


# What is worked out of it


def test_smoothing_by_hand() -> None:
    values = [1.0, None, 3.0, 5.0, 7.0, 100.0, 9.0]
    points = smoothed(range(7), values, num_updates=7)
    assert [point.x for point in points] == [0, 2, 3, 4, 5, 6]
    assert points[0].mean == 1.0  # nothing before it, so it stands alone
    assert points[2].mean == pytest.approx(np.mean([1, 3, 5, 7, 100]))
    half = 1.96 * np.std([1, 3, 5, 7, 100], ddof=1) / np.sqrt(5)
    assert points[2].upper - points[2].mean == pytest.approx(half)
    assert points[2].mean - points[2].lower == pytest.approx(half)


def test_a_long_log_becomes_few_points_and_keeps_its_end() -> None:
    points = smoothed(range(100_000), [float(i) for i in range(100_000)], num_updates=100_000)
    assert len(points) <= 401
    assert points[-1].x == points[-1].mean == 99_999


def training_row(order: str, episodes: int) -> TrainingRow:
    row = TrainingRow(**{field.name: 0 for field in fields(TrainingRow)})  # type: ignore[arg-type]
    return replace(row, workflow_order=order, episodes=episodes)


def test_a_training_ends_with_another_order_or_a_new_count() -> None:
    rows = [training_row(*row) for row in (("a", 5), ("a", 10), ("b", 5), ("b", 5), ("b", 10))]
    assert [len(part) for part in trainings(rows)] == [2, 1, 2]
    assert list(trainings([])) == []


def search_row(iteration: int, order: str, reward: float, *, kept: bool) -> SearchRow:
    row = SearchRow(**{field.name: None for field in fields(SearchRow)})  # type: ignore[arg-type]
    return replace(row, iteration=iteration, workflow=order, evaluated_reward=reward, met_threshold=kept)


def ranking_row(order: str, reward: float, status: str, alike: str = "") -> RankingRow:
    row = RankingRow(**{field.name: None for field in fields(RankingRow)})  # type: ignore[arg-type]
    return replace(row, workflow=order, reward=reward, status=status, equivalent_orders=alike)


def test_progress_of_a_search_by_hand() -> None:
    """What a missed order earned counts for nothing, and an order counts with what it had come to by then."""
    trials = [
        search_row(0, "missed", -1, kept=False),
        search_row(1, "best", -30, kept=True),
        search_row(2, "served", -12, kept=True),
        search_row(3, "best", -9, kept=True),
        search_row(4, "best", -11, kept=True),
    ]
    ranking = [
        ranking_row("best", -10, "kept"),
        ranking_row("served", -10, "served"),
        ranking_row("missed", -1, "missed"),
    ]
    course = progress(trials, ranking)
    assert [point.best for point in course] == [None, -30, -12, -9, -9]
    assert [point.regret for point in course] == [None, 20, 2, 0, 0]
    assert [point.regret for point in progress(trials, [])] == [None] * 5


def test_beginnings_are_told_apart_by_the_validations_that_end_them() -> None:
    learnt = [LearningRow(0, episodes, 0, 0.0, 0.0, 0.0, 0.0, 0) for episodes in range(10, 90, 10)]
    validated = [
        ValidationRow(0, at, number, 0.0, 0.0, 0.0, False) for at, number in ((20, 0), (40, 1), (70, 0))
    ]
    parts = [[row.episodes for row in part] for part in beginnings(learnt, validated)]
    assert parts == [[10, 20], [30, 40], [50, 60, 70], [80]]
    assert list(beginnings(learnt, [])) == [tuple(learnt)]


def test_a_timeline_is_a_window_of_the_trace(trained: Path) -> None:
    slices = read_timeline(Path("trace.json"))
    assert {piece.row for piece in slices} == {"learner", "worker 1"}
    assert {"episode", "waits", "updates"} <= {piece.kind for piece in slices}
    assert min(piece.start for piece in slices) == 0
    assert all(piece.end >= piece.start for piece in slices)
    whole = Path("trace.json").read_text()
    Path("trace.json").write_text(whole[: len(whole) // 2])  # as a run leaves it that goes on
    assert 0 < len(read_timeline(Path("trace.json"))) < len(slices)


# What is shown


def test_the_charts_hold_the_figures_of_the_logs(trained: Path) -> None:
    (run,) = read_runs([trained])
    charts = content(page("Report", list(sections([run]))))
    marks = [row for row in values(charts["search-searched"]) if "status" in row]
    assert [row["mean"] for row in marks] == [row.evaluated_reward for row in run.search]
    ranked = values(charts["ranking-searched"])
    assert [row["reward"] for row in ranked] == [row.reward for row in run.ranking]
    cells = {(row["type"], row["position"]): row["reward"] for row in values(charts["positions-searched"])}
    assert len(cells) == 25
    assert cells["user", 1] == pytest.approx(mean_with_user_first(run))
    seconds = {row["part"]: row["seconds"] for row in values(charts["time"])}
    assert sum(seconds.values()) == pytest.approx(run.summary["wall_seconds"])


def test_to_what_the_best_policy_keeps_is_said_if_its_order_was_kept_to(trained: Path) -> None:
    (run,) = read_runs([trained])
    best, *others = (replace(row, policy_of=row.workflow) for row in run.ranking)
    summary = {**run.summary, "best_workflow": best.workflow}

    def shown(status: str) -> str:
        ranking = (replace(best, status=status), *others)
        return page("Report", list(sections([replace(run, ranking=ranking, summary=summary)])))

    assert f"<td>1 of the {len(run.ranking)} orders that differ</td>" in shown("kept")
    assert ">policy keeps to<" not in shown("missed")


def test_policies_are_marked_where_their_training_had_got_to(trained: Path) -> None:
    (run,) = read_runs([trained])
    assert [row["x"] for row in evaluations(run)] == [20, 40, 60]
    universal = replace(run, settings={**run.settings, "universal": True})  # which counts all orders together
    assert [row["x"] for row in evaluations(universal)] == [20, 20, 20]


def test_a_search_that_kept_to_nothing_has_no_regret_to_show(trained: Path) -> None:
    (run,) = read_runs([trained])
    missed = replace(run, search=tuple(replace(row, met_threshold=False) for row in run.search))
    charts = content(page("Report", list(sections([missed]))))
    assert "regret-searched" not in charts
    assert len(charts["search-searched"]["layer"]) == 2, "no line of the best so far, which browsers warn of"


def test_a_policy_that_no_order_binds_is_judged_by_one(trained: Path) -> None:
    (run,) = read_runs([trained])
    unbound = replace(run, settings={**run.settings, "alignment": "none"})
    best = run.summary["best_workflow"].replace(",", ",<wbr>")
    assert f"<td>{best}</td>" in page("Report", list(sections([run])))
    assert f"<td>none; judged by {best}</td>" in page("Report", list(sections([unbound])))


def mean_with_user_first(run: Run) -> float:
    rewards = [
        row.reward
        for row in run.ranking
        for order in f"{row.workflow};{row.equivalent_orders}".split(";")
        if order.startswith("user,")
    ]
    assert len(rewards) == 24
    return float(np.mean(rewards))


def test_runs_beside_each_other(trained: Path, command: Command) -> None:
    other = ("--total-episodes=40", "--seed=1", "--run-dir=other")
    assert command("train", *other, *TINY) == 0
    assert command("report", trained, "other") == 0
    html = Path("report.html").read_text()
    assert "<h1>Report of searched, other</h1>" in html
    charts = content(html)
    assert {row["run"] for row in values(charts["reward"])} == {"searched", "other"}
    assert {"ranking-searched", "ranking-other"} <= set(charts)
    marked = re.findall(r'<tr class="marked"><th scope="row">(\w+)', html)
    assert {"seed", "total_episodes", "run_dir", "trace"} == set(marked)


def test_a_run_of_any_environment(command: Command) -> None:
    settings = ("--env=CartPole-v1", "--total-steps=300", "--steps-per-update=60", "--run-dir=cart")
    assert command("train-env", *settings, "--hidden-size=8", "--collector=sequential") == 0
    charts = content(page("Report", list(sections(read_runs([Path("cart")])))))
    assert {"return", "length", "throughput", "time"} == set(charts)


def test_what_no_run_has_is_not_shown(command: Command) -> None:
    """No order and no compliance, and no course of a length that is always the same."""
    played = ("--env=workflow_rl/Cage2-v0", '--env-kwargs={"max_steps": 5}', "--run-dir=cage")
    options = ("--total-steps=100", "--steps-per-update=25", "--hidden-size=8", "--collector=sequential")
    assert command("train-env", *played, *options) == 0
    html = page("Report", list(sections(read_runs([Path("cage")]))))
    assert {"return", "throughput", "time"} == set(content(html))
    assert '<th scope="row">retries</th><td>0</td>' in html
    assert "compliance" not in html[: html.index("<h2>Learning")]


def test_the_leaderboard_beside_an_evaluation(trained: Path) -> None:
    assert "--protocol cage2 --json" in page("Report", list(sections(read_runs([trained]))))
    cells = [
        {"red_agent": red, "horizon": horizon, "mean": -horizon / 10}
        for red in ("B_lineAgent", "RedMeanderAgent", "SleepAgent")
        for horizon in (30, 50, 100)
    ]
    scores = {"environment": {"kwargs": {"rules": "leaderboard"}}, "cells": cells, "total": -54.0}
    (trained / "scores.json").write_text(json.dumps({**scores, "total_half_width_95": 0.5}))
    html = page("Report", list(sections(read_runs([trained]))))
    rows = values(content(html)["leaderboard"])
    assert {"name": "searched (scores.json), rules leaderboard", "total": -54.0}.items() <= rows[0].items()
    assert "<td>-3.00</td><td>-3.47</td>" in html


def test_what_a_search_of_all_attackers_ended_with(trained: Path) -> None:
    score = {"reward": -20.0, "reward_standard_error": 1.0, "compliance": 0.96}
    confirmed = {"workflow": "user,...", "score": score, "kept_orders": ["user,...", "op_host,..."]}
    attacker = {"red_agent": "B_lineAgent", "confirmations": [confirmed], "ranking": [{}] * 6}
    answer = {"attackers": [{**attacker, "unbound": [-15.0, 0.5]}, {**attacker, "unbound": None}]}
    (trained / "answer.json").write_text(json.dumps(answer))
    found = read_confirmations([trained])
    assert [(row.workflow, row.reward) for row in found] == [
        ("user,...", -20),
        (None, -15),
        ("user,...", -20),
    ]
    html = page("Report", list(sections(read_runs([trained]), found)))
    assert (
        "<td>user,<wbr>...</td><td>-20.0 ± 2.0</td><td>96.0 %</td><td>2 of the 6 orders that differ<" in html
    )
    assert "<td>no order</td><td>-15.0 ± 1.0</td><td>-</td><td>-</td>" in html


def test_validations_of_a_defender(trained: Path) -> None:
    rows = [
        ValidationRow(20, 100, 0, 60.0, -90.0, 2.0, True),
        ValidationRow(20, 200, 1, 120.0, -60.0, 1.0, True),
    ]
    with RunDirectory.resume(trained) as directory:
        for row in rows:
            directory.append_row(VALIDATION_LOG, asdict(row))
    shown = values(content(page("Report", list(sections(read_runs([trained])))))["validation"])
    assert [(row["minutes"], row["total"]) for row in shown if "run" in row] == [(1, -90), (2, -60)]
    assert [row["total"] for row in shown if "run" not in row] == [-89.68]  # the only one by rules 2.1


def test_the_page_needs_nothing_else(
    trained: Path, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("report", trained) == 0
    assert "searched/report.html: 10 charts, also in searched/report-figures" in capsys.readouterr().out
    html = (trained / "report.html").read_text()
    markup = re.sub(r"(<script[^>]*>).*?</script>", r"\1", html, flags=re.DOTALL)
    assert not re.search(r"<(script|link|img)[^>]*\s(src|href)=[\"'](?!data:)", markup)
    assert "default-src 'none'" in html
    assert len(html) < 2_000_000
    pictures = sorted((trained / "report-figures").iterdir())
    assert {picture.stem for picture in pictures} == set(content(html))
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in pictures)


# Bad input


def test_bad_input_is_one_line(
    trained: Path, command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    before = sorted(path.name for path in tmp_path.iterdir())
    capsys.readouterr()
    for arguments, complaint in (
        (["nowhere"], "nowhere is no directory"),
        (["empty"], "empty holds no run"),
        ([trained, trained], "is named twice"),
        ([trained, "--output=nowhere/report.html"], "--output nowhere/report.html cannot be written"),
    ):
        assert command("report", *arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert complaint in line
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("training_log.csv", "\n", "\nnot,a,row\n"),
        ("search_log.csv", "iteration", "attempt"),
        ("ranking.csv", "rank", "place"),
        ("summary.json", "{", "{{"),
        ("config.json", "seed", "sead"),
    ],
)
def test_damage_is_one_line(
    trained: Path, command: Command, capsys: pytest.CaptureFixture[str], name: str, old: str, new: str
) -> None:
    file = trained / name
    file.write_text(file.read_text().replace(old, new, 1))
    capsys.readouterr()
    assert command("report", trained) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert name in line
    assert not (trained / "report.html").exists()


# In a browser


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (360, "dark")])
def test_every_chart_is_drawn(trained: Path, command: Command, width: int, scheme: str) -> None:
    from selenium.webdriver.support.wait import WebDriverWait

    assert command("report", trained) == 0
    file = trained / "report.html"
    with opened(file.resolve(), width=width, scheme=scheme) as browser:
        WebDriverWait(browser, 20).until(lambda b: b.execute_script("return document.body.dataset.drawn"))
        drawn = browser.execute_script(
            "return [...document.querySelectorAll('.chart')].map((place) => "
            "[place.dataset.figure, place.querySelector('canvas, svg')?.getBoundingClientRect().width ?? 0,"
            " Math.max(place.parentElement.clientWidth, parseInt(place.style.minWidth))])"
        )
        assert {name for name, _, _ in drawn} == set(content(file.read_text()))
        assert all(0.7 * place < chart_width <= place for _, chart_width, place in drawn), drawn
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        assert browser.get_log("browser") == []
