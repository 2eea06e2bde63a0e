"""A replay shows the episode that an evaluation plays, as it was, on a page that a browser shows."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from headless_browser import opened
from program import call

from workflow_rl.alignment import PERMANENT_FOOTHOLD
from workflow_rl.cage2.env import Cage2Env
from workflow_rl.cage2.scenario import ACTION_NAMES, HOST_NAMES, HOST_TYPES
from workflow_rl.collectors import SequentialCollector
from workflow_rl.environments import with_attacker
from workflow_rl.episode import EnvironmentSpec, Episodes
from workflow_rl.evaluation import evaluate_policy, evaluation_tickets, score
from workflow_rl.policy import ActorCritic, load_policy, policy_to_bytes
from workflow_rl.replay.job import ReplayPlan, play
from workflow_rl.replay.page import RecordedEpisode, page, write_page
from workflow_rl.rollout import shape_for
from workflow_rl.seeding import Stream, environment_seed, episode_key
from workflow_rl.stored_policy import StoredPolicy, read_policy
from workflow_rl.workflow import HostType, Workflow

WORKFLOW = Workflow.parse("op_server,enterprise,user,op_host,defender")
STEPS = 60
SIMULATORS = ["native", *(["cyborg"] if importlib.util.find_spec("csle_cyborg") else [])]


@pytest.fixture
def policy_file(tmp_path: Path) -> Path:
    """A policy that learnt nothing: it does a bit of everything, so that everything happens."""
    environment = EnvironmentSpec.of("workflow_rl/Cage2-v0", {})
    policy = ActorCritic(shape_for(environment, hidden_size=8, has_workflow=True), seed=1)
    metadata = {
        "environment": {"id": environment.id, "kwargs": {}},
        "workflow": str(WORKFLOW),
        "compliance": "reachable",
    }
    file = tmp_path / "policy.safetensors"
    file.write_bytes(policy_to_bytes(policy, metadata))
    return file


def recorded(policy_file: Path, **plan: Any) -> tuple[StoredPolicy, RecordedEpisode]:
    stored = read_policy(policy_file, simulator=plan.pop("simulator", None))
    return stored, play(stored, ReplayPlan(max_steps=STEPS, **plan))


def evaluated(stored: StoredPolicy, red_agent: str, seed: int, num_episodes: int) -> Episodes:
    """What `workflow-rl evaluate` plays against one attacker."""
    snapshot = stored.policy.snapshot(0)
    tickets = evaluation_tickets(
        with_attacker(stored.environment, red_agent, STEPS),
        snapshot,
        run_seed=seed,
        episodes=range(num_episodes),
        batch=0,
        workflow=WORKFLOW,
    )
    with SequentialCollector() as collector:
        return evaluate_policy(collector, snapshot, tickets)


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_the_episode_is_the_one_that_an_evaluation_plays(policy_file: Path, simulator: str) -> None:
    plan = {"red_agent": "RedMeanderAgent", "seed": 5, "episode": 2, "simulator": simulator}
    stored, replay = recorded(policy_file, **plan)
    episodes = evaluated(stored, "RedMeanderAgent", seed=5, num_episodes=3)
    steps = episodes.step_slices()[2]
    assert [f.blue_action for f in replay.frames[1:]] == [ACTION_NAMES[a] for a in episodes.actions[steps]]
    np.testing.assert_allclose([f.reward for f in replay.frames[1:]], episodes.rewards[steps], atol=1e-5)
    assert replay.frames[-1].total_reward == pytest.approx(episodes.rewards[steps].sum(), abs=1e-4)


def test_compliance_at_the_end_is_the_score(policy_file: Path) -> None:
    """Judged by an evaluation of two episodes that are both the same one."""
    stored, replay = recorded(policy_file)
    episodes = evaluated(stored, "B_lineAgent", seed=0, num_episodes=1)
    result = score(Episodes.concatenate([episodes, episodes]), WORKFLOW, "reachable")
    last = replay.frames[-1]
    assert last.true is not None
    assert last.observed is not None
    assert (last.true.compliance, last.observed.compliance) == (result.compliance, result.observed_compliance)
    assert 0 < last.true.compliance < 1


def test_frames_hold_the_true_state(policy_file: Path) -> None:
    """Against the simulator itself, given the same seed and blue's actions by name."""
    _, replay = recorded(policy_file, seed=3)
    environment = Cage2Env("B_lineAgent", max_steps=STEPS)
    key = episode_key(3, Stream.EVALUATION_EPISODE, 0)
    observation, _ = environment.reset(seed=int(environment_seed(key)))
    for frame in replay.frames:
        if frame.step > 0:
            observation = environment.step(ACTION_NAMES.index(str(frame.blue_action)))[0]
            assert environment.last_actions() == (frame.blue_action, frame.red_action)
        assert frame.red_access == tuple(environment.red_access())
        assert frame.decoys == environment.decoys()
        bits = observation.reshape(-1, 4)
        assert frame.activity == tuple(bits[:, 0] + 2 * bits[:, 1])
        assert frame.belief == tuple(bits[:, 2] + 2 * bits[:, 3])
    assert len(replay.frames) == STEPS + 1
    assert {hold for frame in replay.frames for hold in frame.red_access} == {0, 1, 2}


def first_in_line(is_compromised: list[bool]) -> str | None:
    types = {
        HOST_TYPES[host] for host, bad in enumerate(is_compromised) if bad and host != PERMANENT_FOOTHOLD
    }
    return next((t.label for t in WORKFLOW.order if t in types), None)


def test_verdicts_follow_from_the_frames(policy_file: Path) -> None:
    """First in line, and every fix, worked out again from what the frames say of the hosts."""
    _, replay = recorded(policy_file, red_agent="RedMeanderAgent", seed=1)
    seen = set()
    for before, frame in zip(replay.frames, replay.frames[1:], strict=False):
        assert frame.true is not None
        assert frame.observed is not None
        assert frame.true.first_type == first_in_line([hold > 0 for hold in frame.red_access])
        assert frame.observed.first_type == first_in_line([belief > 0 for belief in frame.belief])
        kind, _, host = str(frame.blue_action).partition(" ")
        if kind not in ("Remove", "Restore"):
            expected = "none"
        else:
            first = first_in_line([hold > 0 for hold in before.red_access])
            fixed = HostType(HOST_TYPES[HOST_NAMES.index(host)]).label
            expected = "needless" if first is None else "compliant" if fixed == first else "violating"
        assert frame.true.fix == expected
        seen.add(expected)
    assert seen == {"none", "needless", "compliant", "violating"}


def test_the_page_needs_nothing_else_and_is_the_same_each_time(policy_file: Path) -> None:
    _, replay = recorded(policy_file)
    html = page(replay)
    assert html == page(recorded(policy_file)[1])
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", html)
    assert not re.search(r"\s(src|srcset)=", html)
    assert "default-src 'none'" in html
    assert len(html) < 300_000


def test_a_name_cannot_break_out_of_the_page(policy_file: Path) -> None:
    _, replay = recorded(policy_file)
    named = RecordedEpisode(**{**vars(replay), "policy": "</script><script>alert(1)</script>"})
    assert "<script>alert" not in page(named)


def test_the_command_writes_the_page(
    policy_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "attack.html"
    assert call("replay", policy_file, "--output", output, "--max-steps=30") == 0
    assert "30 steps against B_lineAgent, reward -" in capsys.readouterr().out
    recording = re.search(r'id="recording">(.*?)</script>', output.read_text(), re.DOTALL)
    assert recording is not None
    content = json.loads(recording[1])
    assert len(content["frames"]) == 31
    assert content["workflow"] == ["op_server", "enterprise", "user", "op_host", "defender"]


def test_a_run_is_shown_in_its_directory_against_its_own_attacker(
    policy_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for trained_against, attacker in (("RedMeanderAgent", "RedMeanderAgent"), ("mixture", "B_lineAgent")):
        policy, metadata = load_policy(policy_file)
        metadata["environment"]["kwargs"] = {"red_agent": trained_against}
        Path(trained_against).mkdir()
        Path(trained_against, policy_file.name).write_bytes(policy_to_bytes(policy, metadata))
        Path(trained_against, "summary.json").write_text(json.dumps({"best_policy": policy_file.name}))
        assert call("replay", Path(trained_against), "--max-steps=5") == 0
        assert f"{trained_against}/replay.html: 5 steps against {attacker}" in capsys.readouterr().out
        assert f"Episode against {attacker}" in Path(trained_against, "replay.html").read_text()
    assert call("replay", policy_file, "--max-steps=5") == 0
    assert Path("replay.html").exists()


def test_the_reward_stands_beside_the_mean_of_an_evaluation(policy_file: Path) -> None:
    stored, replay = recorded(policy_file, seed=5, red_agent="RedMeanderAgent")
    mean = evaluated(stored, "RedMeanderAgent", seed=5, num_episodes=100).returns().mean()
    assert replay.usual_reward == pytest.approx(mean)
    assert f"mean reward of many episodes: {mean:.1f}" in page(replay)


def test_a_policy_without_an_order_is_shown_too(tmp_path: Path) -> None:
    environment = EnvironmentSpec.of("workflow_rl/Cage2-v0", {"decoy_memory": True})
    policy = ActorCritic(shape_for(environment, hidden_size=8, has_workflow=False))
    metadata = {"environment": {"id": environment.id, "kwargs": dict(environment.kwargs)}}
    file = tmp_path / "policy.safetensors"
    file.write_bytes(policy_to_bytes(policy, metadata))
    _, replay = recorded(file)
    assert replay.workflow is None
    assert replay.actions == "most probable"
    assert replay.frames[-1].true is None
    assert "keeps to no order" in page(replay)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--red-agent=GreenAgent"], "--red-agent must be one of B_lineAgent, RedMeanderAgent"),
        (["--seed=-1"], "--seed must be at least 0"),
        (["--episode=-1"], "--episode must be at least 0 and at most 4294967295, got -1"),
        ([f"--episode={10**20}"], f"--episode must be at least 0 and at most 4294967295, got {10**20}"),
        (["--max-steps=0"], "--max-steps must be at least 1 and at most 4294967295, got 0"),
        (["--simulator=minicage"], "minicage"),
        (["--output=nowhere/replay.html"], "--output nowhere/replay.html cannot be written"),
    ],
)
def test_bad_input_is_one_line(
    policy_file: Path,
    arguments: list[str],
    complaint: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("replay", policy_file, *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert complaint in line
    assert [file.name for file in tmp_path.iterdir()] == [policy_file.name]


def test_only_cage2_can_be_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = EnvironmentSpec("CartPole-v1")
    policy = ActorCritic(shape_for(environment, hidden_size=8, has_workflow=False))
    file = tmp_path / "policy.safetensors"
    file.write_bytes(policy_to_bytes(policy, {"environment": {"id": environment.id, "kwargs": {}}}))
    monkeypatch.chdir(tmp_path)
    assert call("replay", file) == 2
    assert "plays CartPole-v1" in capsys.readouterr().err


# In a browser

SHOWN = """
const isVisible = (node) => getComputedStyle(node).visibility === "visible";
return {
  step: document.getElementById("step").textContent,
  blue: document.getElementById("blue-action").textContent,
  red: document.getElementById("red-action").textContent,
  reward: document.getElementById("reward").textContent,
  total: document.getElementById("total-reward").textContent,
  compliance: document.getElementById("compliance").textContent,
  verdict: document.getElementById("verdict").className,
  first: [...document.querySelectorAll("#workflow li")]
    .filter((item) => getComputedStyle(item.querySelector(".first-true")).display !== "none")
    .map((item) => item.dataset.type),
  firstObserved: [...document.querySelectorAll("#workflow li")]
    .filter((item) => getComputedStyle(item.querySelector(".first-observed")).display !== "none")
    .map((item) => item.dataset.type),
  hosts: Object.fromEntries([...document.querySelectorAll(".host")].map((card) => [card.id.slice(5), {
    hold: card.querySelector(".hold").textContent,
    isHalf: isVisible(card.querySelector(".hold-half")),
    isFull: isVisible(card.querySelector(".hold-full")),
    belief: card.querySelector(".belief").textContent,
    activity: card.querySelector(".activity").textContent,
    decoys: card.querySelector(".decoys").textContent,
    isAimOfBlue: isVisible(card.querySelector(".target-blue")),
    isAimOfRed: isVisible(card.querySelector(".target-red")),
  }])),
  table: [...document.getElementById("hosts").rows].map(
    (row) => [...row.cells].map((cell) => cell.textContent)),
};
"""
BELIEFS = {0: "clean", 1: "?", 2: "user", 3: "root"}
HOLDS = ("nothing", "user", "root")
ACTIVITIES = {0: "", 1: "scan", 3: "exploit"}


def expected_on_page(frame: Any) -> dict[str, Any]:
    """What the page is to show of a recorded step, in the words that the script returns."""
    blue, red = (str(action).partition(" ") for action in (frame.blue_action, frame.red_action))
    compliance = frame.true.compliance
    hosts, table = {}, []
    for index, name in enumerate(HOST_NAMES):
        hold, decoys = frame.red_access[index], frame.decoys[index]
        hosts[name] = {
            "hold": HOLDS[hold],
            "isHalf": hold == 1,
            "isFull": hold == 2,
            "belief": f"blue: {BELIEFS[frame.belief[index]]}",
            "activity": ACTIVITIES[frame.activity[index]],
            "decoys": f"◆ {len(decoys)}" if decoys else "",
            "isAimOfBlue": blue[2] == name,
            "isAimOfRed": red[2] == name,
        }
        words = [HOLDS[hold], BELIEFS[frame.belief[index]], ACTIVITIES[frame.activity[index]]]
        names = ", ".join(decoy.removeprefix("Decoy") for decoy in decoys)
        table.append([name, HOST_TYPES[index].label, *words, names])
    return {
        "step": str(frame.step),
        "reward": f"{frame.reward:.1f}",
        "total": f"{frame.total_reward:.1f}",
        "compliance": "–" if compliance is None else f"{100 * compliance:.0f} %",
        "verdict": f"verdict is-{frame.true.fix}",
        "first": [frame.true.first_type] if frame.true.first_type else [],
        "firstObserved": [frame.observed.first_type] if frame.observed.first_type else [],
        "hosts": hosts,
        "table": table,
    }


def assert_shows(browser: Any, frame: Any) -> None:
    shown = browser.execute_script(SHOWN)
    for side, action in (("blue", frame.blue_action), ("red", frame.red_action)):
        kind, _, target = str(action).partition(" ")
        words = shown.pop(side)
        assert words == "–" if action is None else f"({kind})" in words and target in words
    expected = expected_on_page(frame)
    for number in ("reward", "total"):  # halves may be rounded to either side
        assert float(shown.pop(number)) == pytest.approx(float(expected.pop(number)), abs=0.101)
    assert shown == expected


def page_of(policy_file: Path, tmp_path: Path, **plan: Any) -> tuple[Path, RecordedEpisode]:
    _, replay = recorded(policy_file, **plan)
    file = tmp_path / "replay.html"
    write_page(replay, file)
    return file, replay


@pytest.mark.browser
@pytest.mark.parametrize("simulator", SIMULATORS)
def test_every_step_is_shown_as_it_was(policy_file: Path, tmp_path: Path, simulator: str) -> None:
    file, replay = page_of(policy_file, tmp_path, red_agent="RedMeanderAgent", simulator=simulator)
    with opened(file) as browser:
        for frame in replay.frames:
            assert_shows(browser, frame)
            browser.find_element("id", "forward").click()
        assert_shows(browser, replay.frames[-1])  # there is none after it
        for frame in reversed(replay.frames):
            assert_shows(browser, frame)
            browser.find_element("id", "back").click()
        assert browser.get_log("browser") == []


@pytest.mark.browser
def test_keys_step_jump_and_play(policy_file: Path, tmp_path: Path) -> None:
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.wait import WebDriverWait

    file, replay = page_of(policy_file, tmp_path)
    with opened(file) as browser:

        def press(*keys: str) -> str:
            browser.switch_to.active_element.send_keys(*keys)
            return str(browser.find_element("id", "step").text)

        assert press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_LEFT) == "2"
        assert press(Keys.END) == str(STEPS)
        assert press(Keys.ARROW_RIGHT) == str(STEPS)
        assert press(Keys.HOME) == "0"
        browser.find_element("id", "slider").send_keys(Keys.ARROW_RIGHT)  # one step, not two
        assert browser.find_element("id", "step").text == "1"
        assert browser.find_element("id", "play").text == "Play"
        press(Keys.SPACE)
        assert browser.find_element("id", "play").text == "Pause"
        WebDriverWait(browser, 10).until(lambda b: int(b.find_element("id", "step").text) >= 3)
        stopped_at = int(press(Keys.SPACE))
        assert browser.find_element("id", "play").text == "Play"
        assert_shows(browser, replay.frames[stopped_at])
        assert browser.get_log("browser") == []


@pytest.mark.browser
def test_a_link_leads_to_its_step(policy_file: Path, tmp_path: Path) -> None:
    file, replay = page_of(policy_file, tmp_path)
    with opened(file) as browser:
        browser.get(f"{file.as_uri()}#step=17")
        browser.refresh()
        assert_shows(browser, replay.frames[17])
        assert browser.find_element("id", "link").get_attribute("href").endswith("#step=17")
        browser.execute_script("location.hash = 'step=23'")
        assert_shows(browser, replay.frames[23])
        browser.get(f"{file.as_uri()}#step=99999")
        assert_shows(browser, replay.frames[-1])
        browser.get(f"{file.as_uri()}#nonsense")
        assert_shows(browser, replay.frames[0])
        assert browser.get_log("browser") == []


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_a_phone(policy_file: Path, tmp_path: Path, scheme: str) -> None:
    file, _ = page_of(policy_file, tmp_path)
    with opened(file, width=360, height=780, scheme=scheme) as browser:
        assert browser.execute_script("return document.documentElement.scrollWidth") == 360
        names = browser.find_elements("css selector", ".host .name")
        assert min(name.size["height"] for name in names) >= 9
        colours = browser.execute_script(
            "const style = getComputedStyle(document.body); return [style.color, style.backgroundColor]"
        )
        darkness = [sum(map(int, re.findall(r"\d+", colour)[:3])) < 384 for colour in colours]
        assert darkness == [scheme == "light", scheme == "dark"]
