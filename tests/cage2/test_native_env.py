"""The native simulator behind Gymnasium's interfaces."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from workflow_rl.cage2.env import Cage2Env
from workflow_rl.cage2.observation import observe
from workflow_rl.cage2.scenario import HOST_NAMES, NUM_HOSTS, RED_AGENTS, action_index
from workflow_rl.cage2.state import GameSettings, new_states, reset
from workflow_rl.cage2.step import step
from workflow_rl.cage2.vector_env import Cage2VectorEnv
from workflow_rl.errors import SettingError

ALL_SETTINGS = [
    {},
    {"red_agent": "RedMeanderAgent", "max_steps": 30, "scan_memory": True},
    {"rules": "leaderboard", "observation": "corrected", "decoy_memory": True},
    {"red_agent": "SleepAgent", "max_steps": 2, "scan_memory": True, "decoy_memory": True},
    {"red_agent": "all-three", "recency_memory": True, "action_set": "next-decoy"},
]


def play(env, seed, actions):
    """Observations and rewards of an episode."""
    observations, rewards = [env.reset(seed=seed)[0]], []
    for action in actions:
        observation, reward, _, _, _ = env.step(action)
        observations.append(observation)
        rewards.append(reward)
    return np.array(observations), rewards


@pytest.mark.parametrize("settings", ALL_SETTINGS)
def test_gymnasium_accepts_it(settings):
    check_env(Cage2Env(**settings), skip_render_check=True)


@pytest.mark.parametrize("scans", [False, True])
@pytest.mark.parametrize("decoys", [False, True])
def test_observation_length(scans, decoys):
    env = Cage2Env(scan_memory=scans, decoy_memory=decoys)
    observation, info = env.reset(seed=1)
    assert observation.shape == env.observation_space.shape == (52 + 26 * scans + 104 * decoys,)
    assert observation.dtype == np.int8
    assert not observation.any()
    assert info == {}


def test_the_horizon_truncates_and_then_a_reset_is_needed():
    env = Cage2Env(max_steps=3)
    with pytest.raises(ResetNeeded):
        env.step(0)
    env.reset(seed=0)
    assert [env.step(0)[2:4] for _ in range(3)] == [(False, False), (False, False), (False, True)]
    with pytest.raises(ResetNeeded):
        env.step(0)


@pytest.mark.parametrize("action", [-1, 145, 1.0, "Sleep", None, np.float64(3)])
def test_impossible_actions_are_refused(action):
    env = Cage2Env()
    env.reset(seed=0)
    with pytest.raises(InvalidAction, match=r"0\.\.144"):
        env.step(action)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"red_agent": "B_line"},
            "red_agent must be one of B_lineAgent, RedMeanderAgent, SleepAgent, mixture, all-three, "
            "got 'B_line'",
        ),
        ({"rules": "2.0"}, "rules must be one of 2.1, leaderboard, got '2.0'"),
        ({"observation": "true"}, "observation must be one of official, corrected, got 'true'"),
        ({"max_steps": 0}, "max_steps must be at least 1, got 0"),
    ],
)
def test_bad_settings_are_named(settings, message):
    for build in (Cage2Env, Cage2VectorEnv):
        with pytest.raises(SettingError) as error:
            build(**settings)
        assert str(error.value) == message


@pytest.mark.parametrize("red_agent", RED_AGENTS[:2])
def test_the_seed_decides_the_episode(red_agent):
    actions = np.random.default_rng(0).integers(145, size=100).tolist()
    env = Cage2Env(red_agent)
    first, rewards = play(env, 11, actions)
    play(env, 12, actions)
    again, rewards_again = play(env, 11, actions)
    np.testing.assert_array_equal(first, again)
    assert rewards == rewards_again
    assert any((play(env, seed, actions)[0] != first).any() for seed in range(12, 20))


def test_decoys_stand_until_the_host_is_restored():
    env = Cage2Env()
    env.reset(seed=0)
    for kind in ("DecoyTomcat", "DecoyApache", "DecoySmss"):  # the last one runs on Windows only
        env.step(action_index(kind, "Op_Host1"))
    assert dict(zip(HOST_NAMES, env.decoys(), strict=True)) == dict.fromkeys(HOST_NAMES, ()) | {
        "Op_Host1": ("DecoyApache", "DecoyTomcat")
    }
    env.step(action_index("Restore", "Op_Host1"))
    assert env.decoys() == ((),) * NUM_HOSTS


def test_an_episode_without_a_seed_follows_from_the_last_one():
    first, second = Cage2Env(), Cage2Env()
    for env in (first, second):
        env.reset(seed=5)
    actions = [0] * 20
    following = play(first, None, actions)
    np.testing.assert_array_equal(following[0], play(second, None, actions)[0])
    assert any((play(first, None, actions)[0] != following[0]).any() for _ in range(8))


def test_red_access_and_last_actions_tell_the_truth():
    env = Cage2Env("B_lineAgent")
    env.reset(seed=3)
    assert env.last_actions() is None
    assert env.red_access().tolist() == [2 * (name == "User0") for name in HOST_NAMES]
    told = [env.step(action_index("Monitor")) and env.last_actions() for _ in range(4)]
    target = told[1][1].removeprefix("DiscoverNetworkServices ")
    assert [red for _, red in told] == [
        "DiscoverRemoteSystems User",
        f"DiscoverNetworkServices {target}",
        f"ExploitRemoteService {target}",
        told[3][1],
    ]
    assert told[0][0] == "Monitor"
    assert env.red_access().shape == (NUM_HOSTS,)
    assert env.red_access().dtype == np.int8


def test_memories_show_scans_and_decoys_until_restore():
    env = Cage2Env("RedMeanderAgent", scan_memory=True, decoy_memory=True)
    bits, _ = env.reset(seed=0)
    decoy = action_index("DecoyTomcat", "Op_Host1")
    host = HOST_NAMES.index("Op_Host1")
    bits = env.step(decoy)[0]
    assert bits[78 + 8 * host : 78 + 8 * host + 8].tolist() == [0, 0, 0, 0, 0, 0, 1, 0]
    assert bits[78:].sum() == 1
    scanned = []
    for _ in range(4):
        bits = env.step(0)[0]
        scanned.append(int(np.flatnonzero(bits[0:52:4])[0]))
        assert np.flatnonzero(bits[52:78:2]).tolist() == sorted(scanned)
        assert np.flatnonzero(bits[53:78:2]).tolist() == [scanned[-1]]
    bits = env.step(action_index("Restore", "Op_Host1"))[0]
    assert not bits[78:].any()


def test_the_memory_of_recency_fades():
    """Against B_line, whose first scan of a host is its second step and first exploit its third."""
    env = Cage2Env(recency_memory=True)
    env.reset(seed=0)
    seen = []
    for action in [0, 0, 0, action_index("Restore", "Op_Host1"), *[0] * 17]:
        bits = env.step(action)[0]
        seen.append((bits[:52], bits[52:].reshape(3, NUM_HOSTS, 4)))
    target = int(np.flatnonzero(seen[1][0][0::4])[0])
    restored = HOST_NAMES.index("Op_Host1")
    for age in range(1, 18):
        expected = [int(age <= limit) for limit in (2, 4, 8, 16)]
        assert seen[3 + age - 1][1][2, restored].tolist() == expected
    assert seen[1][1][0, target].tolist() == [1, 1, 1, 1]
    assert seen[3][1][0, target].tolist() == [0, 1, 1, 1]
    assert not seen[0][1].any()


@pytest.mark.parametrize("settings", ALL_SETTINGS)
@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_the_vector_environment_is_many_single_ones(settings, mode):
    num_envs, generator = 5, np.random.default_rng(1)
    settings = {"max_steps": 7} | settings
    vector = Cage2VectorEnv(num_envs, mode, **settings)
    single = SyncVectorEnv([lambda: Cage2Env(**settings)] * num_envs, autoreset_mode=mode)
    assert vector.observation_space == single.observation_space
    assert vector.action_space == single.action_space
    assert vector.metadata["autoreset_mode"] is mode
    np.testing.assert_array_equal(vector.reset(seed=9)[0], single.reset(seed=9)[0])
    for _ in range(230 if settings["max_steps"] == 100 else 70):
        actions = generator.integers(vector.single_action_space.n, size=num_envs)
        mine, theirs = vector.step(actions), single.step(actions)
        for ours, expected in zip(mine[:4], theirs[:4], strict=True):
            np.testing.assert_array_equal(ours, expected)
            assert ours.dtype == expected.dtype
        assert mine[4].keys() == theirs[4].keys()
        if "final_obs" in mine[4]:
            np.testing.assert_array_equal(mine[4]["_final_obs"], theirs[4]["_final_obs"])
            np.testing.assert_array_equal(np.stack(mine[4]["final_obs"]), np.stack(theirs[4]["final_obs"]))


def test_without_autoreset_the_caller_resets():
    vector = Cage2VectorEnv(3, AutoresetMode.DISABLED, max_steps=2)
    with pytest.raises(ResetNeeded):
        vector.step(np.zeros(3, np.int64))
    vector.reset(seed=[1, 2, 3])
    vector.step(np.zeros(3, np.int64))
    assert vector.step(np.zeros(3, np.int64))[3].all()
    with pytest.raises(ResetNeeded):
        vector.step(np.zeros(3, np.int64))
    before = vector.red_access()
    vector.reset(options={"reset_mask": np.array([True, False, True])})
    np.testing.assert_array_equal(vector.red_access()[1], before[1])
    with pytest.raises(ResetNeeded):
        vector.step(np.zeros(3, np.int64))


def test_bad_input_to_the_vector_environment():
    vector = Cage2VectorEnv(2)
    vector.reset(seed=0)
    for actions in (np.zeros(3, np.int64), np.zeros(2), np.array([0, 145]), np.array([-1, 0])):
        with pytest.raises(InvalidAction):
            vector.step(actions)
    with pytest.raises(SettingError, match="expected 2 seeds"):
        vector.reset(seed=[1])
    with pytest.raises(SettingError, match="reset_mask"):
        vector.reset(options={"reset_mask": [True, False]})
    with pytest.raises(SettingError, match="num_envs"):
        Cage2VectorEnv(0)
    with pytest.raises(SettingError, match="autoreset_mode must be one of NextStep, SameStep, Disabled"):
        Cage2VectorEnv(1, "never")


def test_rows_of_the_vector_environment_are_the_callers():
    vector = Cage2VectorEnv(2)
    first, _ = vector.reset(seed=0)
    second = vector.step(np.zeros(2, np.int64))[0]
    second[:] = 1
    assert not first.any()
    assert not vector.step(np.zeros(2, np.int64))[0].all()


@pytest.mark.parametrize("red_agent", RED_AGENTS[:2])
def test_the_kernel_plays_what_the_environments_play(red_agent):
    actions = np.random.default_rng(4).integers(145, size=100)
    observations, rewards = play(Cage2Env(red_agent), 21, actions)
    vector = Cage2VectorEnv(3, red_agent=red_agent)
    vector.reset(seed=20)
    states, bits = new_states(GameSettings(red_agent), 1), np.zeros(52, np.int8)
    reset(states[0], np.uint64(21))
    for t, action in enumerate(actions):
        assert step(states[0], action) == rewards[t]
        observe(states[0], bits)
        np.testing.assert_array_equal(bits, observations[t + 1])
        np.testing.assert_array_equal(vector.step(np.full(3, action))[0][1], bits)


def test_it_is_an_environment_gymnasium_can_make():
    gymnasium.register("Cage2Test-v0", entry_point=Cage2Env, vector_entry_point=Cage2VectorEnv)
    env = gymnasium.make("Cage2Test-v0", red_agent="SleepAgent", max_steps=5)
    assert env.reset(seed=1)[0].shape == (52,)
    envs = gymnasium.make_vec(
        "Cage2Test-v0", num_envs=4, vectorization_mode="vector_entry_point", max_steps=5
    )
    assert envs.reset(seed=1)[0].shape == (4, 52)


def test_states_for_compiled_code_have_the_environments_settings():
    env = Cage2Env("RedMeanderAgent", max_steps=30, rules="leaderboard", scan_memory=True)
    state = env.new_states(2)[1]
    assert (state["red_agent"], state["max_steps"], state["is_leaderboard"]) == (1, 30, True)
    assert (state["has_scan_memory"], state["has_decoy_memory"], state["is_corrected"]) == (
        True,
        False,
        False,
    )
