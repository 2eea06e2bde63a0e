"""Any Gymnasium environment: the same bits whoever plays, batches sized by arithmetic, and does it learn?"""

from __future__ import annotations

import json
import re
import statistics
import tomllib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from program import call

from workflow_rl.checkpoint import load_checkpoint
from workflow_rl.collectors import Collector, ExecutorCollector, SequentialCollector, SynchronousCollector
from workflow_rl.environment_training import EnvironmentReport, EnvironmentTraining
from workflow_rl.environments import gymnasium_environment
from workflow_rl.episode import Episodes, Ticket
from workflow_rl.errors import SettingError
from workflow_rl.policy import load_policy, policy_digest
from workflow_rl.rollout import make_environment
from workflow_rl.run_directory import RunDirectory
from workflow_rl.run_log import read_learning_log
from workflow_rl.settings import EnvironmentSettings, EnvironmentTrainSettings

EXAMPLES = Path(__file__).parent.parent / "examples"

SMALL: dict[str, Any] = {
    "total_steps": 600,
    "steps_per_update": 150,
    "evaluation_episodes": 3,
    "hidden_size": 8,
    "epochs": 2,
    "minibatch_size": 50,
}
"""A run of some updates, within a second."""

COLLECTORS: dict[str, Callable[[], Collector]] = {
    "sequential": SequentialCollector,
    "executor-1": partial(ExecutorCollector, 1),
    "executor-3": partial(ExecutorCollector, 3),
    "synchronous-3": partial(SynchronousCollector, 3),
}


TUNING = "knobs:Tuning"

ENVIRONMENTS: dict[str, dict[str, Any]] = {
    "several numbers": {"env": TUNING},
    "decimals": {"env": "Pendulum-v1"},
    "numbers": {"env": "CartPole-v1"},
    "one of 16": {"env": "FrozenLake-v1", "env_kwargs": '{"is_slippery": false, "map_name": "4x4"}'},
    "class": {"env": "gymnasium.envs.classic_control.cartpole:CartPoleEnv"},
}


def settings(**changes: Any) -> EnvironmentTrainSettings:
    return EnvironmentTrainSettings.from_flat({**SMALL, **changes})


class DiaryCollector(SequentialCollector):
    """The sequential collector, with a diary of what it was asked and what it played."""

    def __init__(self) -> None:
        super().__init__()
        self.submitted: list[Ticket] = []
        self.batches: list[Episodes] = []

    def submit(self, tickets: Sequence[Ticket]) -> None:
        self.submitted += tickets
        super().submit(tickets)

    def collect(self, batch: int) -> Episodes:
        self.batches.append(super().collect(batch))
        return self.batches[-1]


def train(chosen: EnvironmentTrainSettings, collector: Collector) -> tuple[list[EnvironmentReport], str]:
    """The reports of a run and the digest of its weights."""
    with collector:
        training = EnvironmentTraining(chosen, collector)
        return list(training.run()), policy_digest(training.learner.policy)


@pytest.mark.parametrize("lag", [0, 1, 2])
def test_the_weights_are_the_same_to_the_last_bit_whoever_plays(lag: int) -> None:
    digests = {name: train(settings(lag=lag), make())[1] for name, make in COLLECTORS.items()}
    assert len(set(digests.values())) == 1, digests


@pytest.mark.parametrize("environment", [TUNING, "Pendulum-v1"])
def test_other_actions_and_normalised_runs_are_the_same_to_the_last_bit_too(environment: str) -> None:
    chosen = settings(env=environment, normalize_observations=True, normalize_rewards=True)
    digests = {name: train(chosen, make())[1] for name, make in COLLECTORS.items()}
    assert len(set(digests.values())) == 1, digests


@pytest.mark.parametrize("environment", ["CartPole-v1", TUNING, "Pendulum-v1"])
def test_the_learner_judges_actions_as_the_workers_did(environment: str) -> None:
    diary = DiaryCollector()
    training = EnvironmentTraining(settings(env=environment, lag=0, hidden_size=64), diary)
    list(training.run())
    training.evaluate()  # greedily, by the policy as it is now
    policy, batch = training.learner.policy, diary.batches[-1]
    seen = np.delete(batch.observations, np.cumsum(batch.lengths + 1) - 1, axis=0).astype(np.float32)
    is_decimal = batch.actions.dtype == np.float32
    actions = batch.actions if is_decimal else batch.actions.astype(np.int64)
    with torch.no_grad():
        log_probs, _ = policy.judge_actions(
            torch.from_numpy(seen), torch.arange(len(seen)), torch.from_numpy(actions)
        )
    np.testing.assert_allclose(log_probs, batch.log_probs, rtol=0, atol=2e-5)


def test_several_numbers_are_learnt() -> None:
    """Chance earns 5 * (1/2 + 1/3); all there is to earn is 10."""
    chosen = settings(env=TUNING, total_steps=8000, steps_per_update=500, learning_rate=1e-2, hidden_size=16)
    with SequentialCollector() as collector:
        training = EnvironmentTraining(chosen, collector)
        returns = [report.mean_return for report in training.run()]
        assert returns[0] == pytest.approx(5 * (1 / 2 + 1 / 3), abs=1.2)
        assert training.evaluate().mean_return > 9


@pytest.mark.parametrize("changes", [{"seed": 1}, {"lag": 0}, {"steps_per_update": 100}], ids=str)
def test_what_is_not_the_collector_shows_in_the_weights(changes: dict[str, int]) -> None:
    assert train(settings(**changes), SequentialCollector())[1] != train(settings(), SequentialCollector())[1]


@pytest.mark.parametrize("lag", [0, 1, 2])
def test_batches_are_sized_by_the_batch_learnt_from_last(lag: int) -> None:
    diary = DiaryCollector()
    train(settings(lag=lag), diary)
    sizes = [len(batch) for batch in diary.batches]
    assert sizes[: lag + 1] == [8] * (lag + 1)
    means = [batch.num_steps / len(batch) for batch in diary.batches]
    assert sizes[lag + 1 :] == [round(150 / mean) for mean in means[: len(sizes) - lag - 1]]
    assert len(sizes) > lag + 2


@pytest.mark.parametrize("lag", [0, 1, 2])
def test_all_episodes_are_learnt_from_and_none_is_asked_for_once_the_steps_are_spent(lag: int) -> None:
    diary = DiaryCollector()
    reports, _ = train(settings(lag=lag), diary)
    learnt = [ticket for batch in diary.batches for ticket in batch.tickets]
    assert learnt == diary.submitted
    assert [ticket.episode for ticket in learnt] == list(range(len(learnt)))
    assert {t.batch: t.version for t in learnt} == {b: max(0, b - lag) for b in range(len(diary.batches))}
    assert reports[-1].steps == sum(batch.num_steps for batch in diary.batches)
    assert reports[-1].episodes == len(learnt)
    assert reports[-1 - lag].steps >= 600 > reports[-2 - lag].steps
    assert [report.policy_lag for report in reports] == [min(u, lag) for u in range(len(reports))]


def test_reports_are_of_the_batch() -> None:
    diary = DiaryCollector()
    reports, _ = train(settings(), diary)
    for report, batch in zip(reports, diary.batches, strict=True):
        assert report.mean_return == batch.returns().mean()
        assert report.mean_length == batch.lengths.mean()


def test_an_interruption_ends_training_after_the_update_in_progress() -> None:
    with SequentialCollector() as collector:
        assert len(list(EnvironmentTraining(settings(), collector, lambda: True).run())) == 1


def test_a_time_limit_is_no_termination() -> None:
    """CartPole cannot fall within 5 steps, and falls within 500 when nothing is learnt yet."""
    for limit, terminated in ((5, False), (500, True)):
        diary = DiaryCollector()
        kwargs = json.dumps({"max_episode_steps": limit})
        train(settings(env_kwargs=kwargs, total_steps=10), diary)
        assert set(diary.batches[0].terminated) == {terminated}


@pytest.mark.parametrize("changes", ENVIRONMENTS.values(), ids=ENVIRONMENTS)
def test_environments_are_found_and_played(changes: dict[str, Any]) -> None:
    reports, _ = train(settings(total_steps=10, **changes), SequentialCollector())
    assert np.isfinite(reports[-1].statistics.policy_loss)


def test_keyword_arguments_reach_the_constructor() -> None:
    spec = gymnasium_environment(
        EnvironmentSettings(env="FrozenLake-v1", env_kwargs='{"desc": ["SF", "FG"], "is_slippery": false}')
    )
    with make_environment(spec) as environment:
        assert environment.observation_space == gymnasium.spaces.Discrete(4)
    assert hash(spec) == hash(
        gymnasium_environment(EnvironmentSettings(env=spec.id, env_kwargs=json.dumps(dict(spec.kwargs))))
    )


BAD: dict[str, tuple[dict[str, str], str]] = {
    "unknown": ({"env": "NoSuchGame-v1"}, "--env NoSuchGame-v1 cannot be made: NameNotFound"),
    "no module": ({"env": "no_such_module:Game"}, "cannot be made: ModuleNotFoundError"),
    "argument": ({"env_kwargs": '{"height": 3}'}, "--env CartPole-v1 cannot be made: TypeError"),
    "no JSON": ({"env_kwargs": "{height: 3}"}, "--env-kwargs is no JSON"),
    "no object": ({"env_kwargs": "[1]"}, "--env-kwargs must be a JSON object"),
    "nested": ({"env_kwargs": '{"a": {"b": 1}}'}, "must not hold objects within the object"),
}


@pytest.mark.parametrize(("changes", "complaint"), BAD.values(), ids=BAD)
def test_what_cannot_be_played_is_refused_in_one_line(changes: dict[str, str], complaint: str) -> None:
    with SequentialCollector() as collector, pytest.raises(SettingError, match=re.escape(complaint)):
        EnvironmentTraining(settings(**changes), collector)


def test_the_command_leaves_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "small.json"
    config.write_text(json.dumps(SMALL))
    run = tmp_path / "run"
    assert call("train-env", "--config", config, "--collector=sequential", "--run-dir", run) == 0
    reports, digest = train(settings(), SequentialCollector())
    summary = json.loads((run / "summary.json").read_text())
    assert summary["weights_sha256"] == digest
    assert summary["steps"] == reports[-1].steps
    assert summary["is_complete"]
    rows = read_learning_log(run)
    assert [row.mean_return for row in rows] == [report.mean_return for report in reports]
    assert [(row.update, row.steps) for row in rows] == [(report.update, report.steps) for report in reports]
    policy, metadata = load_policy(run / summary["policy"])
    assert policy_digest(policy) == digest
    assert metadata["environment"] == {"id": "CartPole-v1", "kwargs": {}}
    assert metadata["evaluation"]["mean_return"] == summary["evaluation_return"]
    stored = json.loads((run / "config.json").read_text())
    assert EnvironmentTrainSettings.from_flat(stored) == settings(collector="sequential", run_dir=str(run))
    assert f"results in {run}" in capsys.readouterr().out


def test_a_training_that_diverges_ends_and_leaves_the_state_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, run = tmp_path / "small.json", tmp_path / "run"
    config.write_text(json.dumps({**SMALL, "learning_rate": 1e6, "lag": 2, "checkpoint_seconds": 0}))
    assert call("train-env", "--config", config, "--collector=sequential", "--run-dir", run) == 1
    assert re.match(r"error: update \d+ made weights that are no numbers", capsys.readouterr().err)
    assert not (run / "summary.json").exists()
    checkpoint = load_checkpoint(RunDirectory(run), pytest.fail)
    assert checkpoint is not None
    assert all(np.isfinite(array).all() for array in checkpoint.arrays.values())


def test_an_episode_that_is_played_again_is_told_of(tmp_path: Path) -> None:
    kwargs = {"fault": "exits", "marker": str(tmp_path / "marker")}
    (tmp_path / "marker").mkdir()
    values = {**SMALL, "env": "awkward_environments:Faulty-v0", "env_kwargs": json.dumps(kwargs)}
    config = tmp_path / "small.json"
    config.write_text(json.dumps(values))
    run = tmp_path / "run"
    assert call("train-env", "--config", config, "--n-workers=2", "--run-dir", run) == 0
    summary = json.loads((run / "summary.json").read_text())
    retries = [json.loads(line) for line in (run / "retries.jsonl").read_text().splitlines()]
    assert summary["retries"] == len(retries) == sum(summary["retries_by_cause"].values()) > 0
    assert summary["retries_by_cause"]["died"] == 1
    _, undisturbed = train(EnvironmentTrainSettings.from_flat(values), SequentialCollector())
    assert summary["weights_sha256"] == undisturbed


def test_what_does_not_alter_results_may_change_on_resume(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, run, trace = tmp_path / "small.json", tmp_path / "run", tmp_path / "trace.json"
    config.write_text(json.dumps(SMALL))
    assert call("train-env", "--config", config, "--collector=sequential", "--run-dir", run) == 0
    before = json.loads((run / "summary.json").read_text())
    (run / "summary.json").unlink()
    for file in (run / "checkpoints").iterdir():
        file.unlink()
    capsys.readouterr()
    changes = ("--collector=executor", "--n-workers=1", "--episode-timeout=60", "--executor=process")
    more = ("--checkpoint-seconds=5", "--trace", trace, "--seed=7", "--total-steps=9")
    assert call("train-env", "--resume", run, *changes, *more) == 0
    told = "resuming with the run's own settings; not changed: seed, total_steps\n"
    assert capsys.readouterr().err == told
    after = json.loads((run / "summary.json").read_text())
    assert after["weights_sha256"] == before["weights_sha256"]
    assert any(event["name"].startswith("episode ") for event in json.loads(trace.read_text()))


def test_a_policy_is_scored_while_it_is_trained_without_a_trace_in_its_weights() -> None:
    for lag in (0, 2):
        chosen = settings(lag=lag)
        with SequentialCollector() as collector:
            training = EnvironmentTraining(chosen, collector)
            scores = [training.evaluate() for _ in training.run()]
            assert training.evaluate() == scores[-1] != scores[0]
        assert policy_digest(training.learner.policy) == train(chosen, SequentialCollector())[1]


def test_the_command_draws_a_trace(tmp_path: Path) -> None:
    config, trace = tmp_path / "small.json", tmp_path / "trace.json"
    config.write_text(json.dumps({**SMALL, "collector": "sequential", "run_dir": str(tmp_path / "run")}))
    assert call("train-env", "--config", config, "--trace", trace) == 0
    names = [event["name"] for event in json.loads(trace.read_text())]
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert sum(name.startswith("episode ") for name in names) == summary["episodes"]
    assert sum(name.startswith("update ") for name in names) == summary["updates"]


def test_the_command_refuses_before_it_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    assert call("train-env", "--env=NoSuchGame-v1", "--collector=sequential", "--run-dir", run) == 2
    assert capsys.readouterr().err.startswith("error: --env NoSuchGame-v1 cannot be made")
    assert call("train-env", "--env-kwargs={", "--run-dir", run) == 2
    assert not run.exists()


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.stem)
def test_examples_hold_settings(example: Path) -> None:
    EnvironmentTrainSettings.from_flat(tomllib.loads(example.read_text()))


def test_the_readme_shows_how_to_do_it_from_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its program runs as it stands, but for a smaller budget."""
    monkeypatch.chdir(tmp_path)
    readme = (EXAMPLES.parent / "README.md").read_text()
    (program,) = re.findall(r"```python\n(.*?wrl.train_env.*?)```", readme, re.DOTALL)
    few = program.replace("n_workers=2", "n_workers=2, total_steps=300, evaluation_episodes=2")
    assert few != program
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(few, names)
    assert names["run"].summary["updates"] >= 1
    assert names["policy"].action_space.n == 2


PUBLISHED = {
    "cartpole": (500.0, 100_000),
    "acrobot": (-86.0, 250_000),
    "pendulum": (-200.0, 250_000),
    "lunarlander": (200.0, 1_000_000),
}
"""Mean return that an example reaches over seeds 0 to 2, and the steps within which it has to."""


@pytest.mark.learning
@pytest.mark.parametrize("example", PUBLISHED)
def test_an_example_learns_what_is_published_for_ppo(example: str) -> None:
    if example == "lunarlander":
        pytest.importorskip("Box2D", reason="needs the extra box2d")
    reward, steps = PUBLISHED[example]
    values = tomllib.loads((EXAMPLES / f"{example}.toml").read_text())
    returns = []
    for seed in range(3):
        with ExecutorCollector(2) as collector:
            training = EnvironmentTraining(
                EnvironmentTrainSettings.from_flat({**values, "seed": seed}), collector
            )
            assert [report.steps for report in training.run()][-1] <= steps
            returns.append(training.evaluate().mean_return)
    assert statistics.fmean(returns) >= reward, returns
