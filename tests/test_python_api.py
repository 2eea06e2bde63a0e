"""The package as a library: what `import workflow_rl as wrl` offers, and what other libraries do with it."""

from __future__ import annotations

import doctest
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import gymnasium
import numpy as np
import pytest

import workflow_rl as wrl
from workflow_rl import python_api
from workflow_rl.alignment import FIXED_TYPE, shown_types
from workflow_rl.compliance_mask import ALLOWED
from workflow_rl.errors import RunDirectoryError, SettingError
from workflow_rl.rollout import Environment
from workflow_rl.seeding import Stream, environment_seed, episode_key

TINY = {
    "total_episodes": 10,
    "episodes_per_update": 5,
    "evaluation_episodes": 2,
    "max_steps": 4,
    "hidden_size": 8,
    "collector": "sequential",
}
"""A whole run of `train` within a fraction of a second."""

TINY_ENV = {"total_steps": 600, "steps_per_update": 300, "evaluation_episodes": 2, "collector": "sequential"}


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def cartpole(tmp_path_factory: pytest.TempPathFactory) -> wrl.Run:
    return wrl.train_env("CartPole-v1", run_dir=tmp_path_factory.mktemp("cartpole") / "run", **TINY_ENV)


def test_importing_the_package_loads_no_learner() -> None:
    program = "import sys, workflow_rl as wrl; dir(wrl); assert not {'torch', 'ray'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_names_are_functions_even_after_their_modules_are_loaded() -> None:
    """A module of the package by one of these names would take its place as soon as it is imported."""
    for name in wrl.__all__:
        assert getattr(wrl, name) is getattr(python_api, name)
    with pytest.raises(AttributeError, match="no attribute 'fly'"):
        _ = wrl.fly


@pytest.mark.parametrize("name", ["train", "train_env", "evaluate", "load_policy"])
def test_examples_in_docstrings(name: str) -> None:
    (example,) = doctest.DocTestFinder(recurse=False).find(getattr(wrl, name), name)
    result = doctest.DocTestRunner().run(example)
    assert result.attempted >= 3
    assert not result.failed


def test_a_training_is_the_commands(capfd: pytest.CaptureFixture[str]) -> None:
    run = wrl.train(run_dir="run", seed=3, **TINY)
    assert capfd.readouterr() == ("", "")
    again = wrl.train(run_dir=Path("again"), seed=3, progress=True, **TINY)
    assert "done: 10 episodes" in capfd.readouterr().out
    assert run.summary["is_complete"]
    assert run.summary["weights_sha256"] == again.summary["weights_sha256"]
    assert [row.total_episodes for row in run.updates()] == [5, 10]
    (best,) = [row for row in run.ranking() if row.workflow == run.summary["best_workflow"]]
    assert best.policy == run.summary["best_policy"]
    assert Path(run) == Path("run")


def test_a_search_and_a_defender_are_runs_too() -> None:
    settings = {name: value for name, value in TINY.items() if name != "evaluation_episodes"}
    searched = wrl.search(
        run_dir="answer", attackers="B_lineAgent", unbound_episodes=0, confirmed_orders=0, **TINY
    )
    (attacker,) = searched.summary["attackers"]
    assert wrl.Run(searched.path / "B_lineAgent").ranking()[0].workflow == attacker["ranking"][0]["workflow"]
    defender = wrl.train_defender(run_dir="defender", validation_episodes=2, **settings)
    assert defender.updates()[-1].episodes >= 10
    assert wrl.load_policy(defender).workflow is None


def test_a_run_names_its_own_directory() -> None:
    run = wrl.train_env("CartPole-v1", **TINY_ENV)
    assert run.path.parent == Path("runs")
    assert run.summary["steps"] >= 600


def test_bad_settings_write_nothing(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="unknown setting 'n_wrokers'"):
        wrl.train(n_wrokers=3)
    with pytest.raises(SettingError, match="--total-episodes must be at least 1, got 0"):
        wrl.train(total_episodes=0)
    with pytest.raises(wrl.WorkflowRLError, match="cannot be made"):
        wrl.train_env("CartPole-v99")
    assert not list(tmp_path.iterdir())


def test_a_directory_without_a_run() -> None:
    with pytest.raises(RunDirectoryError, match=r"no summary\.json"):
        _ = wrl.Run("nowhere").summary
    with pytest.raises(RunDirectoryError, match="holds no run"):
        wrl.Run("nowhere").updates()
    with pytest.raises(RunDirectoryError, match="holds no run"):
        wrl.resume("nowhere")


def _interrupt_once_there_are_updates(log: Path) -> None:
    while not (log.exists() and log.read_text().count("\n") > 1):
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupted_run_goes_on() -> None:
    settings = {**TINY_ENV, "total_steps": 8_000, "seed": 5}
    whole = wrl.train_env("CartPole-v1", run_dir="whole", **settings)
    log = Path("stopped/learning_log.csv")
    thread = threading.Thread(target=_interrupt_once_there_are_updates, args=[log])
    thread.start()
    with pytest.raises(KeyboardInterrupt, match="stopped was interrupted"):
        wrl.train_env("CartPole-v1", run_dir="stopped", **settings)
    thread.join()
    with pytest.raises(SettingError, match=r"seed may not change in a run .* may: .*n_workers"):
        wrl.resume("stopped", seed=6)
    assert wrl.resume("stopped").summary["weights_sha256"] == whole.summary["weights_sha256"]
    with pytest.raises(RunDirectoryError, match="is complete"):
        wrl.resume("stopped")


def test_a_thread_can_train() -> None:
    runs: list[wrl.Run] = []
    thread = threading.Thread(target=lambda: runs.append(wrl.train(run_dir="run", **TINY)))
    thread.start()
    thread.join()
    assert runs[0].summary["is_complete"]


def test_keyword_arguments_of_an_environment_are_a_mapping() -> None:
    run = wrl.train_env("FrozenLake-v1", env_kwargs={"map_name": "8x8"}, **{**TINY_ENV, "total_steps": 100})
    assert wrl.load_policy(run).observation_space == gymnasium.spaces.Discrete(64)


def _return_of(policy: wrl.Policy, environment: Environment, key: np.uint64) -> float:
    observation, _ = environment.reset(seed=int(environment_seed(key)))
    total, is_over = 0.0, False
    while not is_over:
        action, _ = policy.predict(observation, deterministic=True)
        observation, reward, terminated, truncated, _ = environment.step(action)
        total += float(reward)
        is_over = terminated or truncated
    return total


def test_predict_plays_what_the_collectors_play(cartpole: wrl.Run) -> None:
    policy = wrl.load_policy(cartpole)
    keys = [episode_key(7, Stream.EVALUATION_EPISODE, episode) for episode in range(5)]
    with policy.make_environment() as environment:
        returns = [_return_of(policy, environment, key) for key in keys]
    assert np.mean(returns) == wrl.evaluate(cartpole, episodes=5, seed=7, n_workers=1)["mean_return"]


def test_sampled_actions_follow_the_seed(cartpole: wrl.Run) -> None:
    observations = np.zeros((200, 4), np.float32)
    first, state = wrl.load_policy(cartpole, seed=1).predict(observations, state="as it was")
    assert state == "as it was"
    assert (first == wrl.load_policy(cartpole, seed=1).predict(observations)[0]).all()
    assert (first != wrl.load_policy(cartpole, seed=2).predict(observations)[0]).any()
    assert set(first) == {0, 1}, "nearly untrained, so both are about as probable"


def test_one_of_a_batch_is_as_if_alone(cartpole: wrl.Run) -> None:
    policy = wrl.load_policy(cartpole)
    observations = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    batched, _ = policy.predict(observations, deterministic=True)
    alone = [policy.predict(observation, deterministic=True)[0] for observation in observations]
    assert batched.dtype == np.int64
    assert batched.tolist() == alone
    assert policy.predict(observations[:0])[0].shape == (0,)


def test_what_is_no_observation_is_refused(cartpole: wrl.Run) -> None:
    policy = wrl.load_policy(cartpole)
    for wrong in (np.zeros(5), np.zeros((3, 5)), 0.0, np.zeros((2, 3, 4))):
        with pytest.raises(SettingError, match=r"of shape \(4,\), or a batch, got shape"):
            policy.predict(wrong)


def test_action_masks_are_kept_to(cartpole: wrl.Run) -> None:
    policy = wrl.load_policy(cartpole)
    only_right = np.array([0, 1])
    assert policy.predict(np.zeros(4), action_masks=only_right)[0] == 1
    actions, _ = policy.predict(np.zeros((50, 4)), action_masks=[only_right] * 50)
    assert (actions == 1).all()
    with pytest.raises(ValueError, match="nothing to choose from"):
        policy.predict(np.zeros(4), action_masks=np.zeros(2))


def test_spaces_of_parts_and_of_decimals() -> None:
    run = wrl.train_env("knobs:Tuning", **{**TINY_ENV, "total_steps": 60, "steps_per_update": 30})
    policy = wrl.load_policy(run)
    environments = gymnasium.vector.SyncVectorEnv([policy.make_environment] * 3)
    observations, _ = environments.reset(seed=0)
    batched, _ = policy.predict(observations, deterministic=True)
    one = {name: part[1] for name, part in observations.items()}
    assert policy.action_space.contains(batched[1])
    assert (policy.predict(one, deterministic=True)[0] == batched[1]).all()
    with pytest.raises(SettingError, match="expected an observation of Dict"):
        policy.predict(0)


def test_a_masked_policy_keeps_to_its_order() -> None:
    run = wrl.train(
        run_dir="run", workflow="user,op_host,op_server,enterprise,defender", alignment="mask", **TINY
    )
    policy = wrl.load_policy(run)
    assert str(policy.workflow) == "user,op_host,op_server,enterprise,defender"
    environments = gymnasium.make_vec("workflow_rl/Cage2-v0", num_envs=50)
    observations, _ = environments.reset(seed=1)
    num_fixes = 0
    for _ in range(60):
        actions, _ = policy.predict(observations)
        for observation, action in zip(observations, actions, strict=True):
            if shown_types(observation) >> 4:  # a user host is shown, and comes first in the order
                assert ALLOWED[4, action]
                num_fixes += FIXED_TYPE[action] == 4
        observations, *_ = environments.step(actions)
    assert num_fixes > 0


def test_a_universal_policy_is_told_an_order_when_it_is_loaded() -> None:
    run = wrl.train(run_dir="run", universal=True, **TINY)
    asked = "user,defender,enterprise,op_server,op_host"
    assert str(wrl.load_policy(run, workflow=asked).workflow) == asked
    assert str(wrl.load_policy(run).workflow) == run.summary["best_workflow"]
    told = [wrl.load_policy(run, workflow=order) for order in (asked, ",".join(reversed(asked.split(","))))]
    observations = np.zeros((300, 52), np.int8)
    first, second = (policy.predict(observations)[0] for policy in told)
    assert (first != second).any()


@pytest.mark.parametrize("mode", ["vector_entry_point", "sync", "async"])
def test_environments_in_numbers(mode: str) -> None:
    environments = gymnasium.make_vec(
        "workflow_rl/Cage2-v0", num_envs=2, vectorization_mode=mode, red_agent="RedMeanderAgent", max_steps=3
    )
    observations, _ = environments.reset(seed=0)
    assert observations.shape == (2, 52)
    for _ in range(3):
        observations, rewards, _, truncated, _ = environments.step(environments.action_space.sample())
    assert rewards.shape == (2,)
    assert truncated.all()
    environments.close()


def test_stable_baselines3_trains_on_them_and_plays_their_policies(cartpole: wrl.Run) -> None:
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_checker import check_env
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.vec_env import DummyVecEnv

    check_env(gymnasium.make("workflow_rl/Cage2-v0").unwrapped)
    environments = DummyVecEnv([lambda: gymnasium.make("workflow_rl/Cage2-v0", max_steps=30)] * 2)
    learner = PPO("MlpPolicy", environments, n_steps=30, batch_size=60, n_epochs=1, device="cpu").learn(60)
    rewards, lengths = evaluate_policy(
        learner, environments, n_eval_episodes=2, return_episode_rewards=True, warn=False
    )
    assert lengths == [30, 30]
    assert max(rewards) < 0

    policy = wrl.load_policy(cartpole)
    _, lengths = evaluate_policy(
        policy,
        DummyVecEnv([policy.make_environment]),
        n_eval_episodes=3,
        return_episode_rewards=True,
        warn=False,
    )
    assert min(lengths) >= 8, "an episode of CartPole cannot be shorter"
