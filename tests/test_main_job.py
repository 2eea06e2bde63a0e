"""The main job from start to end: same weights whatever collects, whole files, resumed runs."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)
from test_order_training import DiaryCollector

from workflow_rl import commands, train_job
from workflow_rl.display import RunDisplay
from workflow_rl.episode import Snapshot
from workflow_rl.errors import PolicyFileError, RunDirectoryError
from workflow_rl.interruption import Interruption
from workflow_rl.main_job import MainJob
from workflow_rl.order_training import UpdateReport
from workflow_rl.policy import load_policy, policy_digest
from workflow_rl.run_directory import RunDirectory
from workflow_rl.run_log import read_ranking, read_search_log, read_training_log
from workflow_rl.seeding import Stream
from workflow_rl.settings import TrainSettings
from workflow_rl.workflow import Workflow

SMALL: dict[str, Any] = {
    "total_episodes": 60,
    "episodes_per_update": 10,
    "max_episodes_per_workflow": 20,
    "evaluation_episodes": 4,
    "max_steps": 8,
    "stop_rule": "plateau",
    "refining_share": 0.0,
    "halvings": 0,
    "hidden_size": 16,
    "learner_threads": 1,
    "collector": "sequential",
}
"""Three orders of two updates each."""

TIMES = {"collection_seconds", "update_seconds", "episodes_per_second"}
"""Columns that differ from run to run."""


def run(path: Path, **changes: Any) -> dict[str, Any]:
    """A whole run in this process; returns its summary."""
    settings = TrainSettings.from_flat({**SMALL, "run_dir": path, **changes})
    assert commands.start(settings, launched=time.monotonic()) == 0
    return summary_of(path)


def summary_of(path: Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((path / "summary.json").read_text())
    return summary


def without_times(path: Path) -> list[dict[str, str]]:
    """The rows of a training log, without the columns that differ from run to run."""
    rows = csv.DictReader(io.StringIO((path / "training_log.csv").read_text()))
    return [{name: cell for name, cell in row.items() if name not in TIMES} for row in rows]


def as_flags(path: Path, **changes: Any) -> list[str]:
    """The same run for the command line."""
    values = {**SMALL, "run_dir": path, **changes}
    return [f"--{name.replace('_', '-')}={value}" for name, value in values.items()]


COLLECTIONS: dict[str, dict[str, Any]] = {
    "process-1": {"collector": "executor", "executor": "process", "n_workers": 1},
    "process-4": {"collector": "executor", "executor": "process", "n_workers": 4},
    "thread-4": {"collector": "executor", "executor": "thread", "n_workers": 4},
    "synchronous-4": {"collector": "synchronous", "n_workers": 4},
}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """The sequential run at each lag, made when it is first asked for."""
    made: dict[int, Path] = {}

    def at_lag(lag: int) -> Path:
        if lag not in made:
            made[lag] = tmp_path_factory.mktemp("reference") / f"lag{lag}"
            run(made[lag], lag=lag)
        return made[lag]

    return at_lag


# Same weights


@pytest.mark.parametrize("lag", [0, 1, 2])
@pytest.mark.parametrize("collection", COLLECTIONS.values(), ids=COLLECTIONS)
def test_workers_change_nothing(
    tmp_path: Path, reference: Callable[[int], Path], lag: int, collection: dict[str, Any]
) -> None:
    path = tmp_path / "run"
    summary = run(path, lag=lag, **collection)
    assert summary["weights_sha256"] == summary_of(reference(lag))["weights_sha256"]
    assert without_times(path) == without_times(reference(lag))
    assert (path / "search_log.csv").read_bytes() == (reference(lag) / "search_log.csv").read_bytes()


def test_a_process_with_another_hash_seed_changes_nothing(
    tmp_path: Path, reference: Callable[[int], Path]
) -> None:
    flags = as_flags(tmp_path / "run", collector="executor", n_workers=2)
    command = [sys.executable, "-m", "workflow_rl.executor_async_train_workflow_rl", *flags]
    other = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": other}, check=True, capture_output=True)
    assert summary_of(tmp_path / "run")["weights_sha256"] == summary_of(reference(1))["weights_sha256"]


def test_seed_and_lag_change_the_weights(tmp_path: Path, reference: Callable[[int], Path]) -> None:
    digests = {summary_of(reference(lag))["weights_sha256"] for lag in (0, 1)}
    digests.add(run(tmp_path / "other", seed=1)["weights_sha256"])
    assert len(digests) == 3


@pytest.mark.parametrize("collector", ["executor", "synchronous"])
def test_the_reference_simulator_gives_the_same_weights_in_workers(tmp_path: Path, collector: str) -> None:
    small = {"simulator": "cyborg", "total_episodes": 8, "episodes_per_update": 4, "max_steps": 5}
    alone = run(tmp_path / "alone", **small)
    together = run(tmp_path / "together", **small, collector=collector, n_workers=2)
    assert alone["simulator"] == "workflow_rl/CybORG-v0 (rules 2.1)"
    assert alone["weights_sha256"] == together["weights_sha256"]


def kill_a_worker() -> None:
    """SIGKILL one of the processes below the fork server."""
    servers = psutil.Process().children()
    worker = next(process for server in servers for process in server.children())
    worker.kill()


class ActingDisplay(RunDisplay):
    """A display during which something happens, once, when so many episodes have been learnt from."""

    at_episodes = 50
    happens: Callable[[], None]

    def show_update(self, report: UpdateReport) -> None:
        super().show_update(report)
        if report.total_episodes == self.at_episodes:
            type(self).happens()


def when_learnt(monkeypatch: pytest.MonkeyPatch, episodes: int, happens: Callable[[], None]) -> None:
    """Let something happen in runs of this process."""
    members = {"at_episodes": episodes, "happens": staticmethod(happens)}
    monkeypatch.setattr(train_job, "RunDisplay", type("Acting", (ActingDisplay,), members))


def test_a_killed_worker_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The reference simulator is slow enough for every worker to be playing the next batch at that moment.
    slow = {"simulator": "cyborg", "total_episodes": 40, "max_steps": 20, "lag": 1}
    undisturbed = run(tmp_path / "undisturbed", **slow)
    when_learnt(monkeypatch, 20, kill_a_worker)
    summary = run(tmp_path / "run", **slow, collector="executor", n_workers=2)
    assert summary["retries"] > 0
    retries = [json.loads(line) for line in (tmp_path / "run" / "retries.jsonl").read_text().splitlines()]
    assert len(retries) == summary["retries"] == sum(summary["retries_by_cause"].values())
    assert set(summary["retries_by_cause"]) <= {"died", "bystander"}
    assert {retry["cause"] for retry in retries} == set(summary["retries_by_cause"])
    assert summary["weights_sha256"] == undisturbed["weights_sha256"]


# What a run leaves


def test_a_run_leaves_the_files_it_promises(reference: Callable[[int], Path]) -> None:
    path = reference(1)
    files = {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}
    events = {file for file in files if file.startswith("tensorboard/events.")}
    policies = {file for file in files if file.startswith("policies/") and file.endswith(".safetensors")}
    checkpoints = {file for file in files if file.startswith("checkpoints/")}
    learners = {file for file in files if file.startswith("learners/")}
    assert len(events) == 1
    assert len(policies) == 3
    assert len(checkpoints) == 2
    assert len(learners) == 3
    assert files - events - policies - checkpoints - learners == {
        "config.json",
        "lock",
        "sittings.json",
        "summary.json",
        "training_log.csv",
        "search_log.csv",
        "ranking.csv",
    }


def test_the_logs_have_the_columns_they_promise(reference: Callable[[int], Path]) -> None:
    training, *_ = (reference(1) / "training_log.csv").read_text().splitlines()
    search, *_ = (reference(1) / "search_log.csv").read_text().splitlines()
    assert training == (
        "workflow_id,workflow_order,update,episodes,total_episodes,env_reward,alignment_reward,total_reward,"
        "compliance,fixes_per_episode,collection_seconds,update_seconds,episodes_per_second,policy_lag,"
        "observed_compliance,alignment_weight"
    )
    assert search == (
        "iteration,workflow,ucb,mean,std,evaluated_reward,evaluated_reward_standard_error,compliance,"
        "episodes,met_threshold,observed_compliance,continues,begins_with,policy"
    )


def test_the_summary_says_what_it_promises(reference: Callable[[int], Path]) -> None:
    summary = summary_of(reference(1))
    promised = {
        "episodes",
        "wall_seconds",
        "cold_episodes_per_second",
        "warm_episodes_per_second",
        "collection_seconds",
        "update_seconds",
        "best_workflow",
        "best_reward",
        "best_compliance",
        "weights_sha256",
    }
    assert promised <= set(summary)
    assert summary["is_complete"] is True
    assert summary["episodes"] == 60
    assert summary["evaluation_episodes"] == 12
    assert summary["wall_seconds"] > summary["collection_seconds"] + summary["update_seconds"]
    assert summary["cold_episodes_per_second"] > 0
    assert summary["warm_episodes_per_second"] > 0


def test_the_config_holds_every_setting_as_it_was_resolved(reference: Callable[[int], Path]) -> None:
    config = json.loads((reference(1) / "config.json").read_text())
    assert TrainSettings.from_flat({**config, "run_dir": reference(1)}) == TrainSettings.from_flat(
        {**SMALL, "run_dir": reference(1)}
    )
    assert set(config) == set(TrainSettings().to_flat())


def test_the_logs_add_up(reference: Callable[[int], Path]) -> None:
    training, search = read_training_log(reference(1)), read_search_log(reference(1))
    assert [row.total_episodes for row in training] == [10, 20, 30, 40, 50, 60]
    assert [(row.update, row.episodes) for row in training] == [(1, 10), (2, 20)] * 3
    assert [row.policy_lag for row in training] == [0, 1] * 3
    assert [row.iteration for row in search] == [0, 1, 2]
    assert [row.episodes for row in search] == [20, 20, 20]
    assert [row.workflow for row in search] == [row.workflow_order for row in training[::2]]
    for row in training:
        assert Workflow.parse(row.workflow_order).index == row.workflow_id
        assert row.total_reward == row.env_reward + row.alignment_reward


def test_the_summary_agrees_with_the_logs(reference: Callable[[int], Path]) -> None:
    summary = summary_of(reference(1))
    training, search = read_training_log(reference(1)), read_search_log(reference(1))
    best = next(row for row in search if row.workflow == summary["best_workflow"])
    assert summary["best_reward"] == best.evaluated_reward
    assert summary["best_compliance"] == best.compliance
    assert summary["best_observed_compliance"] == best.observed_compliance
    assert summary["best_met_threshold"] is best.met_threshold
    assert math.isclose(summary["update_seconds"], sum(row.update_seconds for row in training))
    assert math.isclose(summary["collection_seconds"], sum(row.collection_seconds for row in training))


def test_policies_are_stored_with_what_they_are_for(reference: Callable[[int], Path]) -> None:
    for entry, row in zip(summary_of(reference(1))["policies"], read_search_log(reference(1)), strict=True):
        policy, metadata = load_policy(reference(1) / entry["file"])
        assert policy_digest(policy) == entry["sha256"]
        assert metadata["workflow"] == entry["workflow"] == row.workflow
        assert metadata["environment"]["id"] == "workflow_rl/Cage2-v0"
        assert metadata["evaluation"]["reward"] == row.evaluated_reward


def test_the_ranking_names_the_policy_that_serves_an_order(tmp_path: Path) -> None:
    """Whoever fixes anything keeps to every order as well as nothing demands."""
    summary = run(tmp_path / "run", compliance_threshold=0.0)
    best, *others = read_ranking(tmp_path / "run")
    assert (best.workflow, best.policy, best.status) == (
        summary["best_workflow"],
        summary["best_policy"],
        "kept",
    )
    assert len(others) == 5
    for row in others:
        assert (row.status, row.rank, row.chance_to_be_best) == ("served", 1, 1.0)
        assert (row.policy_of, row.policy, row.reward) == (best.workflow, best.policy, best.reward)
    assert best.compliance == summary["best_compliance"]
    assert len({row.compliance for row in (best, *others)}) > 1
    assert sum(row.episodes for row in (best, *others)) == 60


def test_tensorboard_holds_the_training_log(reference: Callable[[int], Path]) -> None:
    events = EventAccumulator(str(reference(1) / "tensorboard"))
    events.Reload()
    scalars = [(event.step, event.value) for event in events.Scalars("reward/environment")]
    rows = read_training_log(reference(1))
    assert scalars == [(row.total_episodes, np.float32(row.env_reward)) for row in rows]
    assert {"ppo/approximate_kl", "compliance/rate"} <= set(events.Tags()["scalars"])


def test_a_budget_need_not_be_a_multiple_of_the_batch(tmp_path: Path) -> None:
    summary = run(tmp_path / "run", total_episodes=47, max_episodes_per_workflow=25)
    assert summary["episodes"] == 47
    totals = [row.total_episodes for row in read_training_log(tmp_path / "run")]
    assert totals == [10, 20, 25, 35, 45, 47]


@pytest.mark.parametrize("lag", [0, 2])
def test_episodes_add_up_when_orders_end_early(tmp_path: Path, lag: int) -> None:
    ending = {"stop_rule": "threshold", "compliance_threshold": 0.0, "max_episodes_per_workflow": 100}
    summary = run(tmp_path / "run", lag=lag, **ending)
    training, search = read_training_log(tmp_path / "run"), read_search_log(tmp_path / "run")
    assert len(search) > 1, "no order ended early"
    assert sum(row.episodes for row in search) == training[-1].total_episodes == summary["episodes"] == 60


def test_one_order_takes_the_whole_budget(tmp_path: Path) -> None:
    order = "user,op_server,defender,op_host,enterprise"
    run(tmp_path / "run", workflow=order, total_episodes=50)
    (row,) = read_search_log(tmp_path / "run")
    assert (row.workflow, row.episodes) == (order, 50)
    assert (row.ucb, row.mean, row.std) == (None, None, None)
    assert {row.workflow_order for row in read_training_log(tmp_path / "run")} == {order}


# One policy for all orders

UNIVERSAL = {"universal": True, "alignment": "mask", "evaluation_episodes": 2, "total_episodes": 40}


@pytest.fixture(scope="module")
def universal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("universal") / "run"
    run(path, **UNIVERSAL)
    return path


def test_a_universal_run_trains_one_policy_and_evaluates_every_order(universal: Path) -> None:
    training, search = read_training_log(universal), read_search_log(universal)
    assert [row.total_episodes for row in training] == [10, 20, 30, 40]
    assert {(row.workflow_id, row.workflow_order) for row in training} == {(None, "all")}
    assert [Workflow.parse(row.workflow).index for row in search] == list(range(120))
    assert {row.episodes for row in search} == {40}
    assert {row.observed_compliance for row in search} <= {1.0, None}, "evaluation is masked like training"
    summary = summary_of(universal)
    assert summary["evaluation_episodes"] == 240
    assert summary["best_workflow"] in {row.workflow for row in search}
    assert [policy["workflow"] for policy in summary["policies"]] == ["all"]
    assert summary["best_policy"] == summary["policies"][0]["file"]
    _, metadata = load_policy(universal / summary["best_policy"])
    assert (metadata["workflow"], metadata["mask"]) == ("all", "reachable")


def test_orders_that_no_rule_tells_apart_share_the_episodes_of_a_universal_run(tmp_path: Path) -> None:
    run(tmp_path / "run", **{**UNIVERSAL, "alignment": "violation"})
    ranking = read_ranking(tmp_path / "run")
    assert [row.episodes for row in ranking] == [40] * 6


@pytest.mark.parametrize("collection", COLLECTIONS.values(), ids=COLLECTIONS)
def test_workers_change_nothing_in_a_universal_masked_run(
    tmp_path: Path, universal: Path, collection: dict[str, Any]
) -> None:
    run(tmp_path / "run", **UNIVERSAL, **collection)
    assert summary_of(tmp_path / "run")["weights_sha256"] == summary_of(universal)["weights_sha256"]
    assert without_times(tmp_path / "run") == without_times(universal)
    assert (tmp_path / "run" / "search_log.csv").read_bytes() == (universal / "search_log.csv").read_bytes()


def test_a_universal_run_goes_on_where_it_stopped(
    tmp_path: Path, universal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run"
    with monkeypatch.context() as patch:
        when_learnt(patch, 20, lambda: signal.raise_signal(signal.SIGINT))
        settings = TrainSettings.from_flat({**SMALL, **UNIVERSAL, "run_dir": path})
        assert commands.start(settings, launched=time.monotonic()) == 130
    assert [file.name for file in (path / "policies").iterdir()] == ["interrupted-universal.safetensors"]
    assert commands.resume(path, {}, [], launched=time.monotonic()) == 0
    assert summary_of(path)["weights_sha256"] == summary_of(universal)["weights_sha256"]
    assert (path / "search_log.csv").read_bytes() == (universal / "search_log.csv").read_bytes()


# The search


class KeepingCollector(DiaryCollector):
    """Keeps all snapshots too."""

    def __init__(self) -> None:
        super().__init__()
        self.snapshots: dict[int, Snapshot] = {}

    def publish(self, snapshot: Snapshot) -> None:
        self.snapshots[snapshot.version] = snapshot
        super().publish(snapshot)


def watched_run(path: Path, **changes: Any) -> KeepingCollector:
    """A whole run; returns the collector that has seen it all."""
    settings = TrainSettings.from_flat({**SMALL, **changes, "run_dir": path})
    display = RunDisplay(settings, time.monotonic(), Console(file=io.StringIO()))
    with KeepingCollector() as collector, RunDirectory.create(path) as directory:
        MainJob(settings, directory, collector, display, Interruption(), time.monotonic()).run()
    return collector


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, KeepingCollector]:
    """A run of five orders, and the collector that has seen it all."""
    path = tmp_path_factory.mktemp("watched") / "run"
    return path, watched_run(path, total_episodes=100)


def first_versions(collector: KeepingCollector) -> list[int]:
    """The version that each order began with."""
    training = [ticket for ticket in collector.submitted if ticket.stream == Stream.TRAINING_EPISODE]
    orders = itertools.groupby(training, key=lambda ticket: ticket.workflow)
    return [next(tickets).version for _, tickets in orders]


def test_orders_begin_with_fresh_weights_twice_and_then_with_what_earned_most(
    watched: tuple[Path, KeepingCollector],
) -> None:
    path, collector = watched
    files = sorted((path / "policies").iterdir())
    rows = read_search_log(path)
    for trial, version in enumerate(first_versions(collector)):
        begins_with = collector.snapshots[version].parameters.tobytes()
        earlier = [load_policy(file)[0].snapshot(0).parameters.tobytes() for file in files[:trial]]
        if trial < 2:
            assert begins_with not in earlier
        else:
            best = max(range(trial), key=lambda i: rows[i].evaluated_reward)
            assert earlier.index(begins_with) == best


def test_every_version_is_published_once_in_a_run(watched: tuple[Path, KeepingCollector]) -> None:
    published = watched[1].published
    assert published == list(range(len(published)))


def test_policies_are_evaluated_on_fresh_episodes(watched: tuple[Path, KeepingCollector]) -> None:
    path, collector = watched
    evaluation = [ticket for ticket in collector.submitted if ticket.stream == Stream.EVALUATION_EPISODE]
    assert [ticket.episode for ticket in evaluation] == list(range(20))
    assert [ticket.workflow for ticket in evaluation[::4]] == [
        Workflow.parse(row.workflow).index for row in read_search_log(path)
    ]


def test_the_logged_score_is_that_of_the_stored_policy(watched: tuple[Path, KeepingCollector]) -> None:
    path, collector = watched
    evaluation = [ticket for ticket in collector.submitted if ticket.stream == Stream.EVALUATION_EPISODE]
    files = sorted((path / "policies").iterdir())
    for trial, row in enumerate(read_search_log(path)):
        tickets = evaluation[4 * trial : 4 * trial + 4]
        with DiaryCollector() as player:
            player.publish(load_policy(files[trial])[0].snapshot(tickets[0].version))
            player.submit(tickets)
            returns = player.collect(tickets[0].batch).returns()
        assert row.evaluated_reward == returns.mean()
        assert math.isclose(row.evaluated_reward_standard_error, returns.std(ddof=1) / 2)


# Interrupted and resumed

KILLED = """
import os, signal, sys
from workflow_rl import cli, train_job
from workflow_rl.display import RunDisplay

class DeadlyDisplay(RunDisplay):
    def show_update(self, report):
        if report.total_episodes == 30:
            os.kill(os.getpid(), signal.SIGKILL)

train_job.RunDisplay = DeadlyDisplay
cli.train_program()
"""


def assert_like_uninterrupted(path: Path, uninterrupted: Path) -> None:
    assert summary_of(path)["weights_sha256"] == summary_of(uninterrupted)["weights_sha256"]
    assert summary_of(path)["is_complete"] is True
    assert summary_of(path)["episodes"] == 60
    assert without_times(path) == without_times(uninterrupted)
    assert (path / "search_log.csv").read_bytes() == (uninterrupted / "search_log.csv").read_bytes()


def test_a_run_killed_in_its_second_order_goes_on(tmp_path: Path, reference: Callable[[int], Path]) -> None:
    path = tmp_path / "run"
    flags = as_flags(path, collector="executor", executor="process", n_workers=2)
    killed = subprocess.run([sys.executable, "-c", KILLED, *flags], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(read_training_log(path)) == 3, "it was killed in its second order, the update already logged"
    assert not (path / "summary.json").exists()
    changes = {"collector": "sequential"}
    assert commands.resume(path, changes, [], launched=time.monotonic()) == 0
    assert_like_uninterrupted(path, reference(1))


@pytest.mark.parametrize("lag", [0, 1, 2])
@pytest.mark.parametrize("episodes", [10, 40, 60])
def test_an_interrupted_run_writes_everything_and_goes_on_where_it_stopped(
    tmp_path: Path, reference: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch, episodes: int, lag: int
) -> None:
    path = tmp_path / "run"
    with monkeypatch.context() as patch:
        when_learnt(patch, episodes, lambda: signal.raise_signal(signal.SIGINT))
        settings = TrainSettings.from_flat({**SMALL, "lag": lag, "run_dir": path})
        assert commands.start(settings, launched=time.monotonic()) == 130
    log = (path / "training_log.csv").read_text()
    interrupted = summary_of(path)
    assert interrupted["is_complete"] is False
    assert interrupted["episodes"] == episodes == read_training_log(path)[-1].total_episodes
    assert list((path / "policies").glob("interrupted-*")), "the policy in training is kept"
    assert commands.resume(path, {}, [], launched=time.monotonic()) == 0
    assert_like_uninterrupted(path, reference(lag))
    assert (path / "training_log.csv").read_text().startswith(log), "an update was repeated"


def test_ctrl_c_is_python_s_own_again_after_a_run(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    run(tmp_path / "run", total_episodes=10)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_complete_run_is_not_resumed(reference: Callable[[int], Path]) -> None:
    before = (reference(0) / "training_log.csv").read_bytes()
    with pytest.raises(RunDirectoryError, match="is complete"):
        commands.resume(reference(0), {}, [], launched=time.monotonic())
    assert (reference(0) / "training_log.csv").read_bytes() == before


def interrupted_run(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that stopped in its second order."""
    with monkeypatch.context() as patch:
        when_learnt(patch, 30, lambda: signal.raise_signal(signal.SIGINT))
        commands.start(TrainSettings.from_flat({**SMALL, "run_dir": path}), launched=time.monotonic())


def test_a_run_with_a_damaged_policy_is_not_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted_run(tmp_path / "run", monkeypatch)
    for file in (tmp_path / "run" / "policies").glob("000-*"):
        file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(PolicyFileError, match=r"000-.* is damaged"):
        commands.resume(tmp_path / "run", {}, [], launched=time.monotonic())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", "{"),
        ("config.json", "[]"),
    ],
)
def test_a_run_with_a_damaged_file_is_not_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: str
) -> None:
    interrupted_run(tmp_path / "run", monkeypatch)
    (tmp_path / "run" / name).write_text(content)
    with pytest.raises(RunDirectoryError, match=name):
        commands.resume(tmp_path / "run", {}, [], launched=time.monotonic())
