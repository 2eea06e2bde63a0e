"""Benchmarks stay alive, say what they measured on, and refuse bad input. No test depends on a time."""

from __future__ import annotations

import dataclasses
import json
import runpy
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import workflow_rl
from workflow_rl.bench.conditions import busy_warning
from workflow_rl.bench.latency import Waits
from workflow_rl.bench.learning import Learning
from workflow_rl.bench.runs import Runs
from workflow_rl.bench.simulator import ROUNDS
from workflow_rl.bench.timing import Figure, Sample, Spread, Workload, measure, ratio
from workflow_rl.errors import SettingError
from workflow_rl.machine import commit_of, describe_machine
from workflow_rl.rollout import make_environment

CHECKOUT = Path(workflow_rl.__file__).parents[1]


def program(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)


def bench_simulator(*arguments: str) -> subprocess.CompletedProcess[str]:
    return program("-c", "from workflow_rl.cli import main; main()", "bench", "simulator", *arguments)


def report_of(script: str, file: Path) -> dict[str, Any]:
    done = program(f"benchmarks/{script}", "--quick", "--json", str(file))
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert json.loads(file.read_text()) == report
    assert report["machine"]["usable_cores"] >= 1
    assert report["conditions"]["command"].startswith("python")
    return report


def script(name: str) -> dict[str, Any]:
    """The names that a script in benchmarks/ defines."""
    return runpy.run_path(str(CHECKOUT / "benchmarks" / name))


def report_from_here(name: str, *arguments: str) -> dict[str, Any]:
    """The report of a script that starts no workers, made in this process, which has loaded torch already."""
    done = CliRunner().invoke(script(name)["main"], ["--quick", *arguments], catch_exceptions=False)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.mark.benchmarks
def test_simulator_report_holds_every_figure(tmp_path):
    done = bench_simulator("--quick", "--json", str(tmp_path / "report.json"))
    assert done.returncode == 0, done.stderr
    assert "csle-cyborg" in done.stdout
    report = json.loads((tmp_path / "report.json").read_text())
    names = [figure["name"].split(",")[0] for figure in report["figures"]]
    assert names == ["compiled loop", "with policy", "Gymnasium env", "vector env of 1000", "csle-cyborg"]
    for figure in report["figures"]:
        spread = figure["steps_per_second"]
        assert 0 < spread["minimum"] <= spread["median"] <= spread["maximum"]
    assert report["rounds"] == ROUNDS >= 5
    assert report["times_as_fast_as_reference"]["median"] > 1
    start = report["first_step_warm"]
    assert 0 < start["imported"] <= start["stepped"] <= start["played"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--seconds", "0"), "--seconds"),
        (("--seconds", "nan"), "--seconds"),
        (("--seconds", "-1"), "--seconds"),
        (("--json", "/nowhere/report.json"), "/nowhere/report.json"),
        (("--json", "/"), "/"),
    ],
)
def test_bad_input_is_one_line(arguments, named):
    done = bench_simulator("--quick", *arguments)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert named in done.stderr
    assert done.stdout == ""


@pytest.mark.benchmarks
def test_training_is_measured_against_the_limit(tmp_path):
    report = report_of("training_against_limit.py", tmp_path / "report.json")
    assert len(report["rounds"]) == 2
    assert all(taken["training"]["episodes"] == 4 for taken in report["rounds"])
    assert all(taken["limit"]["steps"] > 0 for taken in report["rounds"])
    assert report["ratio"]["minimum"] > 0


@pytest.mark.benchmarks
def test_collection_is_measured_in_processes_and_threads(tmp_path):
    report = report_of("collection.py", tmp_path / "report.json")
    assert report["collection"].keys() == report["training"].keys() == {"process", "thread"}
    for executor, by_workers in report["collection"].items():
        assert by_workers.keys() == {"1", "2"}
        for figures in by_workers.values():
            assert figures["episodes_per_second"]["minimum"] > 0
            assert figures["rate_over_limit"]["minimum"] > 0
        assert by_workers["2"]["rate_over_2_workers"]["median"] == 1
        assert report["training"][executor]["cpu_microseconds_per_episode"]["together"]["minimum"] > 0


@pytest.mark.benchmarks
def test_memory_counts_every_process(tmp_path):
    report = report_of("memory.py", tmp_path / "report.json")
    peak = report["peak_pss_bytes"]
    assert peak["num_workers"] == 2
    assert 0 < peak["largest_worker"] < peak["workers"]
    assert peak["total"] == peak["learner"] + peak["fork_server"] + peak["workers"]


@pytest.mark.benchmarks
def test_waiting_is_measured_against_the_limit_at_every_lag(tmp_path):
    report = report_of("latency.py", tmp_path / "report.json")
    assert report["ideal_episodes_per_second"] == pytest.approx(2 / (5 * 0.0056))
    assert report["lags"].keys() == {"0", "1"}
    for figures in (*report["lags"].values(), report["limit"]):
        assert 0 < figures["share_of_ideal"]["median"] < 1.5
    assert 0 <= report["lags"]["1"]["learner_idle_fraction"]["median"] < 1
    assert report["cold"]["episodes_per_second"] > 0
    assert report["pss_bytes"]["num_workers"] == 2


def play_waits(waits: Waits, *, seed: int) -> tuple[list[float], float]:
    """The rewards of an episode in which the same action is always taken, and the seconds it took."""
    environment = make_environment(waits.environment())
    started = time.monotonic()
    environment.reset(seed=seed)
    rewards = []
    is_over = False
    while not is_over:
        _, reward, _, is_over, _ = environment.step(7)
        rewards.append(float(reward))
    return rewards, time.monotonic() - started


def test_the_waiting_environment_repeats_itself():
    waits = Waits(mean_step=1e-5, num_steps=40)
    rewards, _ = play_waits(waits, seed=3)
    assert len(rewards) == 40
    assert set(rewards) == {0.0, 1.0}
    assert play_waits(waits, seed=3)[0] == rewards
    assert play_waits(waits, seed=4)[0] != rewards


def test_the_waiting_environment_waits_as_long_as_it_says():
    waits = Waits(mean_step=0.002, sigma=0.5, num_steps=50, shortest_reset=0.05, longest_reset=0.07)
    assert waits.mean_episode == pytest.approx(0.16)
    _, seconds = play_waits(waits, seed=0)
    assert seconds > 0.13  # more on a busy machine


@pytest.mark.benchmarks
def test_main_job_is_accounted_for(tmp_path):
    report = report_of("main_job.py", tmp_path / "report.json")
    assert report["summary"]["episodes"] == 20
    assert report["cpu_seconds"]["learner_main_thread"] > 0
    parts = report["learner_main_thread"]
    assert sum(parts["shares"].values()) == pytest.approx(1.0)
    assert all(share >= 0 for share in parts["shares"].values())
    assert parts["seconds"]["update"] > parts["update_seconds"]["backward"] > 0


def test_main_job_looks_for_functions_that_exist():
    code = (
        "import json, runpy; m = runpy.run_path('benchmarks/main_job.py'); "
        "print(json.dumps([*m['PARTS'].values(), [m['_EVALUATE'], m['_RUN']]]))"
    )
    for functions in json.loads(program("-c", code).stdout):
        for file, name in functions:
            source = next(CHECKOUT.glob(f"**/workflow_rl/{file.removeprefix('workflow_rl/')}"))
            assert f"def {name}(" in source.read_text(), f"{file} has no {name}"


def test_variants_are_compared_over_orders():
    report = report_from_here("ablation.py", "horizon=end,entropy_coefficient=0")
    (variant,) = report["variants"]
    assert variant["variant"] == "horizon=end,entropy_coefficient=0"
    assert len({run["order"] for run in variant["runs"]}) == len(variant["runs"]) == 2
    assert variant["reward"] == pytest.approx(sum(run["score"] for run in variant["runs"]) / 2)


def test_schemes_are_compared_over_orders_and_attackers():
    report = report_from_here("alignment.py", "--scheme=mask")
    cells = {(cell["scheme"], cell["red_agent"]): cell for cell in report["schemes"]}
    assert set(cells) == {("mask", "B_lineAgent"), ("mask", "RedMeanderAgent")}
    for cell in cells.values():
        assert len({run["order"] for run in cell["runs"]}) == cell["trainings"] == 6
        assert cell["reward"] == pytest.approx(sum(run["score"] for run in cell["runs"]) / 6)
    assert {run["observed_compliance"] for run in cells["mask", "B_lineAgent"]["runs"]} <= {1.0, None}


def test_episodes_needed_are_those_until_ten_batches_are_good():
    needed = script("alignment.py")["episodes_needed"]
    amounts = tuple(range(100, 2100, 100))
    returns = (*[-200.0] * 8, *[-50.0] * 12)
    learnt = Learning(amounts, returns, -50.0, 0.97, 1.0, compliances=(None, *[1.0] * 19))
    assert needed(learnt, -100.0) == 1500
    assert needed(learnt, -50.1) == 1800
    assert needed(learnt, 0.0) is None
    assert needed(dataclasses.replace(learnt, compliances=(0.9,) * 20), -100.0) is None


def test_an_unknown_setting_is_no_variant():
    with pytest.raises(SettingError, match="unknown setting 'horizons'"):
        report_from_here("ablation.py", "horizons=end")


def test_an_update_is_measured_with_and_without_repetitions():
    report = report_from_here("update.py")
    for figures in report["attackers"].values():
        assert 0 < figures["distinct_in_a_minibatch"] <= figures["distinct"] < figures["observations"] == 22
        assert figures["milliseconds"]["one_by_one"]["cpu"]["median"] > 0
        assert figures["saving"]["median"] > 0


def test_every_lag_is_learnt_with_both_objectives(tmp_path):
    runs_file = tmp_path / "runs.json"
    report = report_from_here("lag.py", "--runs", str(runs_file))
    for task in report["tasks"].values():
        variants = {(variant["lag"], variant["objective"]) for variant in task["variants"]}
        assert variants == {(0, "decoupled"), (1, "decoupled"), (1, "coupled")}
        assert all(variant["final"]["standard_error"] >= 0 for variant in task["variants"])
    before = runs_file.read_bytes()
    lag = script("lag.py")
    for task, curves in lag["learn_all"](lag["tasks"](quick=True), (0, 1), 2, Runs(runs_file)).items():
        for variant, learnt in curves.items():
            (reported,) = [
                figures
                for figures in report["tasks"][task.name]["variants"]
                if (figures["lag"], figures["objective"]) == (variant.lag, variant.objective)
            ]
            # The CPU time would be another one if it had been trained again.
            assert sum(run.cpu_seconds for run in learnt) == reported["cpu_seconds"]
    assert runs_file.read_bytes() == before


def test_parts_of_the_defenders_recipe_are_left_out(tmp_path):
    names = ("the recipe", "all 145 actions")
    chosen = [word for name in names for word in ("--variant", name)]
    report = report_from_here("defender_ablation.py", *chosen, "--runs", str(tmp_path / "runs.json"))
    assert set(report["variants"]) == set(names)
    for figures in report["variants"].values():
        assert len(figures["totals"]) == 2
        assert figures["mean_total"] == pytest.approx(sum(figures["totals"]) / 2)
        assert sum(figures["mean_cells"]) == pytest.approx(figures["mean_total"])
    assert len({tuple(figures["totals"]) for figures in report["variants"].values()}) == 2


def test_searches_are_compared_by_what_they_deliver(tmp_path):
    runs = ("--runs", str(tmp_path / "runs.json"))
    strategies = [word for name in ("gp-ucb:0", "random:1") for word in ("--strategy", name)]
    report = report_from_here("live_search.py", *strategies, *runs, "--red-agent", "B_lineAgent")
    found = report["attackers"]["B_lineAgent"]
    assert set(found) == {"gp-ucb:0", "random:1"}
    for figures in found.values():
        scores = [search["score"] for search in figures["searches"]]
        assert len(scores) == 2  # one for each seed
        assert figures["mean"] == pytest.approx(sum(scores) / 2)
        assert figures["interval_95"][0] <= min(scores) <= max(scores) <= figures["interval_95"][1]
    # Trainings of 4 episodes and of 8: the cut one leaves room for more orders.
    assert all(search["num_trials"] == 3 for search in found["gp-ucb:0"]["searches"])
    assert all(search["num_trials"] > 3 for search in found["random:1"]["searches"])


def learnt_at_a_rate(rate: float) -> Learning:
    """A return of `rate` a step, logged after batches of different size."""
    amounts = (100, 150, 300, 1000)
    return Learning(amounts, tuple(rate * amount for amount in amounts), 1000 * rate, None, 1.0)


def test_curves_of_different_batches_meet_on_one_axis():
    lag = script("lag.py")
    amounts, mean, error = lag["curve"]([learnt_at_a_rate(0.1), learnt_at_a_rate(0.3)])
    assert (amounts[0], amounts[-1]) == (100, 1000)
    assert mean[0] == pytest.approx(0.2 * 100)
    assert mean[-1] == pytest.approx(0.2 * (100 + 150 + 300 + 1000) / 4)  # smoothed over the updates before
    assert error == pytest.approx(mean / 2)  # of two values: half their distance
    in_budget = (100 * 100 + 50 * 150 + 150 * 300 + 200 * 1000) / 500
    assert lag["mean_return"](learnt_at_a_rate(1.0), 500) == pytest.approx(in_budget)


def test_a_figure_repeats_itself(tmp_path):
    lag = script("lag.py")
    learnt = {
        task: {
            variant: [learnt_at_a_rate(0.1), learnt_at_a_rate(0.3)] for variant in lag["variants"]((0, 1, 8))
        }
        for task in lag["tasks"](quick=True)
    }
    files = [tmp_path / "a.svg", tmp_path / "b.svg"]
    for file in files:
        lag["draw"](learnt, file)
    assert files[0].read_bytes() == files[1].read_bytes()
    assert all(label in files[0].read_text() for label in ("lag 8", "CartPole-v1, coupled", "training steps"))


def test_workloads_alternate():
    played: list[str] = []

    def play(name: str) -> int:
        played.append(name)
        return 3

    figures = measure(
        [Workload("a", lambda: play("a")), Workload("b", lambda: play("b"))], rounds=2, seconds=0.0
    )
    assert played == ["a", "b"] * 3  # once before the rounds
    assert [sample.steps for sample in figures[0].samples] == [3, 3]


def test_spreads_and_ratios():
    def figure(*cpu_seconds: float) -> Figure:
        return Figure("f", None, 0.0, tuple(Sample(60, 2 * cpu, cpu) for cpu in cpu_seconds))

    assert figure(1.0, 2.0, 3.0).steps_per_second == Spread(15.0, 10.0, 30.0)
    assert figure(1.0, 2.0, 3.0).steps_per_cpu_second == Spread(30.0, 20.0, 60.0)
    assert ratio(figure(1.0, 2.0, 3.0), figure(4.0, 4.0, 6.0)) == Spread(2.0, 2.0, 4.0)


@pytest.mark.parametrize(
    ("before", "after", "is_busy"),
    [(0.2, 1.2, False), (2.0, 1.2, True), (0.2, 3.5, True), (None, None, False)],
)
def test_a_busy_machine_is_named(before, after, is_busy):
    warning = busy_warning(before, after, 1.0, 2)
    assert (warning is not None) == is_busy
    assert warning is None or "\n" not in warning


def test_a_commit_is_known_in_a_checkout_only(tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    assert commit_of(package) is None
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run([*git, "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], cwd=tmp_path, check=True)
    (tmp_path / "a run beside it").touch()
    clean = commit_of(package)
    assert clean is not None
    assert len(clean.sha) == 40
    assert not clean.is_dirty
    (package / "new.py").touch()
    dirty = commit_of(package)
    assert dirty is not None
    assert dirty.is_dirty


def test_the_machine_names_versions():
    machine = describe_machine()
    assert machine.processor
    assert machine.packages["numpy"] is not None
    assert machine.thread_settings.keys() >= {"OMP_NUM_THREADS"}
