"""The reference environment against plain csle-cyborg, and what it promises on top."""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from numpy.typing import NDArray

import workflow_rl
from workflow_rl.cage2.cyborg import CybORGEnv, import_csle_cyborg
from workflow_rl.cage2.cyborg_scenario import cyborg_scenario
from workflow_rl.cage2.scenario import ACTION_NAMES, HOST_NAMES, NUM_ACTIONS, RED_AGENTS, action_index
from workflow_rl.cage2.tables import DECOY_NAMES
from workflow_rl.errors import SettingError

pytest.importorskip("csle_cyborg", reason="csle-cyborg is not installed")

ATTACKERS = ("B_lineAgent", "RedMeanderAgent")


@pytest.fixture(scope="module")
def environments() -> dict[str, CybORGEnv]:
    """One environment per attacker, shared by the tests: each begins with a reset."""
    return {red_agent: CybORGEnv(red_agent) for red_agent in RED_AGENTS}


class Record(NamedTuple):
    """What an episode showed."""

    observations: NDArray[np.int8]  # (T, 52)
    rewards: list[float]


def random_actions(seed: int, num_steps: int = 100) -> list[int]:
    return np.random.default_rng(seed).integers(NUM_ACTIONS, size=num_steps).tolist()


def play(env: CybORGEnv, actions: Iterable[int], seed: int | None = None) -> Record:
    env.reset(seed=seed)
    steps = [env.step(action) for action in actions]
    return Record(np.array([step[0] for step in steps]), [step[1] for step in steps])


def assert_same(left: Record, right: Record) -> None:
    np.testing.assert_array_equal(left.observations, right.observations)
    assert left.rewards == right.rewards


def assert_different(left: Record, right: Record) -> None:
    assert left.rewards != right.rewards or not np.array_equal(left.observations, right.observations)


# Gymnasium's contract


def test_gymnasium_accepts_the_environment():
    check_env(CybORGEnv(max_steps=10), skip_render_check=True)


def test_truncated_at_the_horizon_and_never_terminated():
    env = CybORGEnv(max_steps=3)
    for seed in range(2):
        env.reset(seed=seed)
        assert [env.step(0)[2:4] for _ in range(3)] == [(False, False), (False, False), (False, True)]
        with pytest.raises(gymnasium.error.ResetNeeded):
            env.step(0)


def test_step_before_the_first_reset_raises():
    with pytest.raises(gymnasium.error.ResetNeeded, match="call reset"):
        CybORGEnv().step(0)


@pytest.mark.parametrize("action", [-1, NUM_ACTIONS, 1.5])
def test_action_out_of_range_raises(environments, action):
    env = environments["SleepAgent"]
    env.reset(seed=0)
    with pytest.raises(gymnasium.error.InvalidAction, match=rf"0\.\.144, got {action}"):
        env.step(action)


def test_settings_that_are_not_allowed():
    with pytest.raises(SettingError, match="RedMeanderAgent, SleepAgent, mixture, all-three, got 'RedAgent'"):
        CybORGEnv("RedAgent")
    with pytest.raises(SettingError, match="max_steps must be at least 1, got 0"):
        CybORGEnv(max_steps=0)


# Reproducibility


@pytest.mark.parametrize("red_agent", ATTACKERS)
def test_an_episode_is_its_seed_and_its_actions(environments, red_agent):
    used, fresh = environments[red_agent], CybORGEnv(red_agent)
    first = play(used, random_actions(0), seed=11)
    other = play(used, random_actions(0), seed=12)
    assert_same(play(used, random_actions(0), seed=11), first)
    assert_same(play(fresh, random_actions(0), seed=11), first)
    assert_different(first, other)


def test_episodes_without_a_seed_follow_from_the_last_seed(environments):
    env = environments["B_lineAgent"]
    runs = []
    for _ in range(2):
        env.reset(seed=5)
        runs.append([play(env, random_actions(1, 30)) for _ in range(2)])
    assert_same(runs[0][0], runs[1][0])
    assert_same(runs[0][1], runs[1][1])
    assert_different(runs[0][0], runs[0][1])


def test_others_who_draw_from_the_global_generator_change_nothing(environments):
    env, other = environments["B_lineAgent"], environments["RedMeanderAgent"]
    actions = random_actions(2)
    alone = play(env, actions, seed=3)
    env.reset(seed=3)
    other.reset(seed=4)
    steps = []
    for action in actions:
        steps.append(env.step(action))
        other.step(action)
        random.seed(action)
    assert_same(Record(np.array([step[0] for step in steps]), [step[1] for step in steps]), alone)


def test_the_global_generator_is_left_as_it_was():
    random.seed(1)
    undisturbed = [random.random() for _ in range(4)]
    random.seed(1)
    drawn = [random.random()]
    env = CybORGEnv()
    drawn.append(random.random())
    env.reset(seed=9)
    drawn.append(random.random())
    env.step(0)
    drawn.append(random.random())
    assert drawn == undisturbed


def run_python(code: str, **variables: str) -> str:
    """The output of `code` in a new interpreter that finds this package."""
    checkout = str(Path(workflow_rl.__file__).parents[1])
    paths = [variables.pop("PYTHONPATH", ""), checkout, os.environ.get("PYTHONPATH", "")]
    environment = os.environ | variables | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    completed = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert completed.returncode == 0, completed.stderr
    return completed.stdout.strip()


def test_other_processes_play_the_same_episode(environments):
    code = """if True:
        import numpy as np
        from workflow_rl.cage2.cyborg import CybORGEnv
        env = CybORGEnv("RedMeanderAgent")
        observation, _ = env.reset(seed=21)
        text = ""
        for action in np.random.default_rng(6).integers(145, size=60):
            observation, reward, *_ = env.step(action)
            text += "".join(map(str, observation)) + f" {reward} "
        print(text)
    """
    here = play(environments["RedMeanderAgent"], random_actions(6, 60), seed=21)
    expected = " ".join(
        "".join(map(str, observation)) + f" {reward}"
        for observation, reward in zip(here.observations, here.rewards, strict=True)
    )
    assert [run_python(code, PYTHONHASHSEED=hash_seed) for hash_seed in ("1", "2")] == 2 * [expected]


# The same as plain csle-cyborg


def plain_stack(red_agent: str):
    """csle-cyborg as its own evaluation builds it, under ChallengeWrapper."""
    import_csle_cyborg()
    from csle_cyborg import agents
    from csle_cyborg.agents.wrappers.challenge_wrapper import ChallengeWrapper
    from csle_cyborg.main import Main

    simulator = Main(cyborg_scenario(), "sim", agents={"Red": getattr(agents, red_agent)})
    return ChallengeWrapper(env=simulator, agent_name="Blue")


def play_plain(stack, actions: Iterable[int], seed: int) -> Record:
    random.seed(seed)
    stack.reset()
    steps = [stack.step(action) for action in actions]
    return Record(np.array([step[0] for step in steps]), [step[1] for step in steps])


def first_seen_compromised(observation: NDArray[np.int8]) -> int:
    """Restore the first host that the observation shows compromised, else sleep."""
    compromised = np.flatnonzero(observation.reshape(13, 4)[:, 2:].any(axis=1))
    return action_index("Restore", HOST_NAMES[compromised[0]]) if compromised.size else 0


def scripted_actions(env: CybORGEnv, seed: int) -> list[int]:
    """The actions of a defender that keeps the network clean, so that red acts in other states."""
    actions: list[int] = []
    observation, _ = env.reset(seed=seed)
    for _ in range(100):
        actions.append(first_seen_compromised(observation))
        observation = env.step(actions[-1])[0]
    return actions


@pytest.mark.parametrize("red_agent", RED_AGENTS)
def test_same_bits_and_rewards_as_the_challenges_wrapper(environments, red_agent):
    env, stack = environments[red_agent], plain_stack(red_agent)
    for seed, actions in ((31, random_actions(31)), (32, scripted_actions(env, seed=32))):
        assert_same(play(env, actions, seed), play_plain(stack, actions, seed))


@pytest.mark.fidelity
@pytest.mark.parametrize("red_agent", RED_AGENTS)
def test_same_bits_and_rewards_with_every_action_on_dirty_and_clean_hosts(environments, red_agent):
    env, stack = environments[red_agent], plain_stack(red_agent)
    used: set[int] = set()
    for seed in range(100):
        actions = random_actions(seed)
        used.update(actions)
        assert_same(play(env, actions, seed), play_plain(stack, actions, seed))
    assert used == set(range(NUM_ACTIONS))


def test_actions_have_the_wrappers_order():
    assert [str(action) for action in plain_stack("SleepAgent").possible_actions] == list(ACTION_NAMES)


# Returns on record: 400 episodes of 100 steps with plain csle-cyborg, mean and standard deviation.


def sleep_actions(seed: int) -> list[int]:
    return 100 * [0]


RECORDED_RETURNS = [
    pytest.param("B_lineAgent", sleep_actions, -1134.1, 22.0, id="B_line-sleep"),
    pytest.param("RedMeanderAgent", sleep_actions, -971.6, 64.0, id="Meander-sleep"),
    pytest.param("B_lineAgent", random_actions, -724.7, 354.0, id="B_line-random"),
    pytest.param("RedMeanderAgent", random_actions, -554.9, 292.0, id="Meander-random"),
]


def assert_mean_return(
    env: CybORGEnv, defender: Callable[[int], list[int]], mean: float, deviation: float, num_episodes: int
) -> None:
    """The seeds are fixed, so this passes or fails once and for all; a right simulator fails 1 in 16,000."""
    returns = [sum(play(env, defender(seed), seed).rewards) for seed in range(num_episodes)]
    standard_error = deviation * (1 / num_episodes + 1 / 400) ** 0.5
    assert statistics.mean(returns) == pytest.approx(mean, abs=4 * standard_error)


@pytest.mark.parametrize(("red_agent", "defender", "mean", "deviation"), RECORDED_RETURNS)
def test_returns_are_those_on_record(environments, red_agent, defender, mean, deviation):
    assert_mean_return(environments[red_agent], defender, mean, deviation, num_episodes=8)


@pytest.mark.fidelity
@pytest.mark.parametrize(("red_agent", "defender", "mean", "deviation"), RECORDED_RETURNS)
def test_returns_are_those_on_record_over_many_episodes(environments, red_agent, defender, mean, deviation):
    assert_mean_return(environments[red_agent], defender, mean, deviation, num_episodes=200)


def test_without_an_attacker_only_restores_cost(environments):
    actions = random_actions(7)
    expected = [-1.0 if ACTION_NAMES[action].startswith("Restore") else 0.0 for action in actions]
    assert play(environments["SleepAgent"], actions, seed=0).rewards == expected
    assert -1.0 in expected


# What blue does not see


def true_access(env: CybORGEnv) -> list[int]:
    """Red's access according to the simulator's true-state query."""
    state = env._controller.get_agent_state("True").data
    access = []
    for name in HOST_NAMES:
        users = [s["Username"] for s in state[name].get("Sessions", []) if s["Agent"] == "Red"]
        access.append(2 if {"root", "SYSTEM"} & set(users) else int(bool(users)))
    return access


@pytest.mark.parametrize("red_agent", ATTACKERS)
def test_red_access_is_what_the_true_state_says(environments, red_agent):
    env = environments[red_agent]
    seen = []
    for seed in range(2):
        env.reset(seed=seed)
        seen.append(env.red_access())
        for action in random_actions(seed):
            assert seen[-1].tolist() == true_access(env)
            env.step(action)
            seen.append(env.red_access())
    assert seen[0].dtype == np.int8
    assert set(np.unique(seen)) == {0, 1, 2}


def test_red_starts_with_a_privileged_session_on_user0(environments):
    env = environments["SleepAgent"]
    env.reset(seed=0)
    assert dict(zip(HOST_NAMES, env.red_access(), strict=True)) == dict.fromkeys(HOST_NAMES, 0) | {"User0": 2}


def test_decoys_are_those_that_blue_remembers():
    """What the simulator's processes say is what follows from blue's actions, for every kind of decoy."""
    env = CybORGEnv("RedMeanderAgent", max_steps=300, decoy_memory=True)
    env.reset(seed=0)
    assert env.decoys() == ((),) * len(HOST_NAMES)
    seen = set()
    for action in random_actions(3, num_steps=300):
        observation = env.step(action)[0]
        remembered = observation[-len(DECOY_NAMES) * len(HOST_NAMES) :].reshape(len(HOST_NAMES), -1)
        expected = tuple(tuple(np.array(DECOY_NAMES)[bits == 1].tolist()) for bits in remembered)
        assert env.decoys() == expected
        seen.update(*expected)
    assert seen == set(DECOY_NAMES)


def test_last_actions_name_what_was_done(environments):
    env = environments["B_lineAgent"]
    env.reset(seed=0)
    assert env.last_actions() is None
    steps = []
    for kind in ("Sleep", "Monitor", "DecoyTomcat", "Restore"):
        env.step(action_index(kind, None if kind in ("Sleep", "Monitor") else "Op_Host1"))
        steps.append(env.last_actions())
    target = steps[1][1].split()[1]
    assert target in ("User1", "User2", "User3", "User4")
    assert steps == [
        ("Sleep", "DiscoverRemoteSystems User"),
        ("Monitor", f"DiscoverNetworkServices {target}"),
        ("DecoyTomcat Op_Host1", f"ExploitRemoteService {target}"),
        ("Restore Op_Host1", f"PrivilegeEscalate {target}"),
    ]


def test_last_actions_when_red_sleeps(environments):
    env = environments["SleepAgent"]
    env.reset(seed=0)
    env.step(0)
    assert env.last_actions() == ("Sleep", "Sleep")


# Imports


def test_no_torch_is_loaded():
    code = """if True:
        import sys
        from workflow_rl.cage2.cyborg import CybORGEnv
        assert "csle_cyborg" not in sys.modules
        CybORGEnv()
        print(*({"torch", "stable_baselines3"} & set(sys.modules)))
    """
    assert run_python(code) == ""


def test_a_real_agents_package_that_was_imported_before_is_used(tmp_path):
    # The real package cannot be imported without stable-baselines3, of which it wants one name.
    (tmp_path / "stable_baselines3.py").write_text("class PPO: ...\n")
    code = """if True:
        import csle_cyborg.agents
        package = csle_cyborg.agents
        from workflow_rl.cage2.cyborg import CybORGEnv
        env = CybORGEnv("RedMeanderAgent")
        env.reset(seed=0)
        env.step(0)
        import csle_cyborg
        print(csle_cyborg.agents is package, package.BlueLoadAgent.__name__)
    """
    assert run_python(code, PYTHONPATH=str(tmp_path)) == "True BlueLoadAgent"


def test_missing_extra_is_named():
    code = """if True:
        import sys
        class Blocker:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] == "csle_cyborg":
                    raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        sys.meta_path.insert(0, Blocker())
        from workflow_rl.cage2.cyborg import CybORGEnv
        from workflow_rl.errors import MissingExtraError
        try:
            CybORGEnv()
        except MissingExtraError as error:
            print(error)
    """
    assert run_python(code) == (
        "the reference simulator needs csle-cyborg, which is not installed: pip install 'workflow-rl[cyborg]'"
    )
