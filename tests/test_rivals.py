"""The comparison with other trainers: what it runs, what comes of it, what becomes of a system that dies."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import json
import statistics
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import workflow_rl
from workflow_rl.cage2.env import Cage2Env
from workflow_rl.cage2.scenario import NUM_ACTIONS
from workflow_rl.evaluation import FIRST_FRESH_EPISODE
from workflow_rl.seeding import Stream, environment_seed, episode_key

CHECKOUT = Path(workflow_rl.__file__).parents[1]
RIVALS = CHECKOUT / "benchmarks" / "rivals"
SCRIPTS = sorted(RIVALS.glob("*.py"))
REQUIREMENTS = sorted((RIVALS / "requirements").glob("*.txt"))


@pytest.fixture(scope="module")
def load() -> Iterator[Any]:
    """Imports a module of the comparison, whose folder is on the import path when its scripts run."""
    own = {script.stem for script in SCRIPTS}
    sys.path.insert(0, str(RIVALS))
    yield importlib.import_module
    sys.path.remove(str(RIVALS))
    for name in own:
        sys.modules.pop(name, None)


def program(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(RIVALS / script), *arguments], cwd=CHECKOUT, capture_output=True, text=True
    )


def compare(*arguments: str) -> dict[str, Any]:
    done = program("compare.py", "--quick", *arguments)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def check_row(row: dict[str, Any]) -> None:
    assert row["failure"] is None
    for figure in ("episodes_per_second", "cpu_microseconds_per_step", "first_batch_seconds", "pss_bytes"):
        assert 0 < row[figure]["minimum"] <= row[figure]["median"] <= row[figure]["maximum"]
    (run,) = row["runs"]
    assert run["steps"] >= 2 * 60  # two updates at least
    assert run["num_processes"] >= 3  # a learner and two workers


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_every_script_compiles(script):
    compile(script.read_text(), str(script), "exec")


@pytest.mark.benchmarks
def test_this_project_has_a_row(tmp_path):
    file = tmp_path / "report.json"
    report = compare("--systems", "workflow-rl", "--json", str(file))
    assert report["regime"] == "light"
    assert report["task"]["n_workers"] == 2
    (row,) = report["rows"]
    check_row(row)
    done = program("table.py", str(file), str(file))
    assert done.returncode == 0, done.stderr
    heading, rule, line = done.stdout.splitlines()
    assert f"| {row['system']} {row['version']} | {row['episodes_per_second']['median']:.3g} |" in line
    assert heading.count("|") == rule.count("|") == line.count("|")


@pytest.mark.rivals
def test_a_rival_has_a_row():
    (row,) = compare("--systems", "stable-baselines3")["rows"]
    check_row(row)


@pytest.mark.rivals
def test_sac_discrete_learns_beside_this_project_and_is_repeatable(tmp_path):
    def trainings(*arguments: str) -> list[dict[str, Any]]:
        done = program("sac_discrete.py", "--quick", "--red-agent", "B_lineAgent", *arguments)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["trainings"]

    runs = ("--episodes", "1", "--runs", str(tmp_path / "runs.json"))
    ours, theirs = trainings(*runs)
    assert (ours["system"], theirs["system"]) == ("workflow-rl PPO", "TorchRL SAC-discrete")
    assert ours["cpu_seconds"] > 0
    assert theirs["cpu_seconds"] > 0
    assert trainings(*runs) == [ours, theirs]  # kept, CPU seconds and all
    again = [{**training, "cpu_seconds": 0.0} for training in trainings("--episodes", "1")]
    assert again == [{**training, "cpu_seconds": 0.0} for training in (ours, theirs)]


def test_all_who_learn_are_scored_on_the_same_fresh_episodes(load):
    task = load("learning_task").LearningTask("B_lineAgent", 0, 1, max_steps=30, evaluation_episodes=40)

    def restores(observations):
        return np.full(len(observations), NUM_ACTIONS - 1)

    score = task.score(restores)
    returns = []
    for episode in range(FIRST_FRESH_EPISODE, FIRST_FRESH_EPISODE + 40):
        environment = Cage2Env(red_agent="B_lineAgent", max_steps=30)
        environment.reset(seed=int(environment_seed(episode_key(0, Stream.EVALUATION_EPISODE, episode))))
        returns.append(sum(environment.step(NUM_ACTIONS - 1)[1] for _ in range(30)))
    assert score.reward == pytest.approx(statistics.fmean(returns))
    assert score.standard_error == pytest.approx(statistics.stdev(returns) / 40**0.5)
    assert score.standard_error > 0


def test_a_learner_sees_every_step_of_its_episodes(load):
    task = load("learning_task").LearningTask("RedMeanderAgent", 0, 1, max_steps=7)
    steps = list(task.play(Stream.TRAINING_EPISODE, range(3), lambda seen: np.arange(len(seen))))
    assert len(steps) == 7
    for step, following in itertools.pairwise(steps):
        assert np.array_equal(step.next_observations, following.observations)
    assert all(step.actions.tolist() == [0, 1, 2] for step in steps)


def test_every_system_has_its_script_and_its_pins(load):
    systems = load("systems").SYSTEMS.values()
    pinned = load("python_environments").pinned_version
    assert {RIVALS / system.script[0] for system in systems} <= set(SCRIPTS)
    assert {system.requirements_file for system in systems} == {None, *REQUIREMENTS}
    for system in systems:
        if system.requirements_file is not None:
            for distribution in (system.distribution, "torch", "numba", "csle-cyborg", "gymnasium"):
                assert pinned(system.requirements_file, distribution)


def test_the_task_crosses_the_command_line(load, monkeypatch):
    work = load("compare").WORKS["heavy"](50)
    assert work.ideal == pytest.approx(50 / 0.56)
    monkeypatch.setattr(sys, "argv", ["train.py", work.task.to_json()])
    assert load("task").Task.from_command_line() == work.task


def test_rivals_are_given_decimal_numbers(load):
    environment = load("task").make_environment(load("compare").WORKS["light"](2).task)
    observation, _ = environment.reset(seed=0)
    assert environment.observation_space.contains(observation)
    assert set(observation.tolist()) == {0.0, 1.0}


def run_program(load: Any, code: str, *, seconds: float = 0.0) -> Any:
    """Watch a program that imports what a system does."""
    preamble = f"import sys, time; sys.path.insert(0, {str(RIVALS)!r}); from task import report_update\n"
    variables = load("python_environments").variables(None, Path("unused"))
    command = [sys.executable, "-c", preamble + textwrap.dedent(code)]
    return load("measurement").run_system(command, variables, 100, seconds)


@pytest.mark.benchmarks
def test_only_what_follows_two_batches_counts(load):
    run = run_program(
        load,
        """
        for steps in range(100, 100_000, 100):
            time.sleep(0.5 if steps == 200 else 0.01)
            print("something else")
            report_update(steps)
        """,
        seconds=0.2,
    )
    assert run.steps >= 200
    assert run.steps % 100 == 0
    assert run.wall_seconds >= 0.2
    assert run.steps / run.wall_seconds > 100 / 0.1  # half a second for the second batch is not in it
    assert run.num_processes == 1


@pytest.mark.benchmarks
def test_a_system_that_ends_says_how(load):
    died = load("measurement").Died
    with pytest.raises(died, match="ended with exit code 3: no memory left"):
        run_program(load, "print('no memory left', file=sys.stderr); sys.exit(3)")


@pytest.mark.benchmarks
def test_a_system_that_is_stuck_is_ended_with_its_processes(load, monkeypatch):
    measurement = load("measurement")
    monkeypatch.setattr(measurement, "_PATIENCE_SECONDS", 1.0)
    monkeypatch.setattr(measurement, "_END_SECONDS", 0.2)
    started = time.monotonic()
    with pytest.raises(measurement.Died, match="no update for 1 s"):
        run_program(
            load,
            """
            import signal, subprocess
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            subprocess.run([sys.executable, "-c", "import time; time.sleep(600)"])
            """,
        )
    assert time.monotonic() - started < 60  # and `_leaves_no_process` finds none


@pytest.mark.benchmarks
def test_nothing_is_left_of_a_system_whose_learner_died(load, tmp_path):
    file = tmp_path / "process"
    with pytest.raises(load("measurement").Died, match="exit code 1"):
        run_program(
            load,
            f"""
            import pathlib, subprocess
            orphan = subprocess.Popen(["sleep", "600"])
            pathlib.Path({str(file)!r}).write_text(str(orphan.pid))
            sys.exit(1)
            """,
        )
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(int(file.read_text())).wait(5)  # raises if it lives on


def report_on_a_run(load: Any, steps: int, failure: str | None) -> dict[str, Any]:
    """A report on one run of 100 seconds, or of none if no steps were made."""
    run = load("measurement").Run(5.0, steps, 100.0, cpu_seconds=1.0, num_processes=3, pss_bytes=10**9)
    head = load("compare").head(load("systems").SYSTEMS["rllib"])
    row = load("rows").row(head, [run] if steps else [], failure, episode_steps=100, ideal=10.0)
    task = {"n_workers": 2, "episode_steps": 100}
    return {"regime": "light", "task": task, "ideal_episodes_per_second": 10.0, "rows": [row]}


def test_rounds_on_the_same_work_are_taken_together(load):
    reports = [report_on_a_run(load, steps, None) for steps in (20_000, 50_000, 30_000)]
    *_, line = load("table").lines(reports)
    assert "| 3 (2 to 5) | 0.30 |" in line


def test_a_system_that_died_has_a_row_all_the_same(load):
    table = load("table")
    *_, line = table.lines([report_on_a_run(load, 0, "no update for 240 s")])
    assert "| no update for 240 s |" in line
    reports = [report_on_a_run(load, 20_000, None), report_on_a_run(load, 0, "no update for 240 s")]
    *_, line = table.lines(reports)
    assert "| 2; then no update for 240 s |" in line


def test_what_cannot_be_installed_is_one_line(load, tmp_path):
    environments = load("python_environments")
    (tmp_path / "cache").write_text("a file where environments would be kept")
    with pytest.raises(environments.InstallationError, match=r"cache") as caught:
        environments.make_python(REQUIREMENTS[0], tmp_path / "cache")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(("--systems", "workflow-rl,rlib"), "rlib"), (("--n-workers", "3"), "--n-workers")],
)
def test_bad_input_is_one_line(arguments, named):
    done = program("compare.py", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert named in done.stderr
