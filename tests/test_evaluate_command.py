"""`workflow-rl evaluate` and `baselines`: what they play, say and refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from awkward_environments import specification
from program import TINY, Program
from rich.console import Console

from workflow_rl import evaluation_job
from workflow_rl.policy import ActorCritic, load_policy, policy_to_bytes
from workflow_rl.rollout import shape_for

ORDER = "user,op_server,op_host,enterprise,defender"


# Policies of train


@pytest.fixture
def wide_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation_job, "Console", lambda **given: Console(width=200, **given))


@pytest.mark.usefixtures("wide_output")
def test_evaluate_scores_every_attacker_at_every_horizon(program: Program, tmp_path: Path) -> None:
    assert program("train", *TINY, "--run-dir=run").code == 0
    (policy,) = (tmp_path / "run" / "policies").iterdir()
    outcome = program("evaluate", "run", "--episodes=3", "--collector=sequential")
    assert outcome.code == 0
    rows = [line.split() for line in outcome.out.splitlines() if "±" in line and line.startswith("│")]
    cells = [[word for word in row if word not in "│┃"] for row in rows]
    assert [(row[0], row[1]) for row in cells] == [
        (agent, horizon)
        for agent in ("B_lineAgent", "RedMeanderAgent", "SleepAgent", "mixture")
        for horizon in ("30", "50", "100")
    ]
    rewards = {(row[0], row[1]): float(row[2]) for row in cells}
    assert rewards["B_lineAgent", "100"] < rewards["B_lineAgent", "50"] < rewards["B_lineAgent", "30"] <= 0
    assert "workflow_rl/Cage2-v0 (rules 2.1), 3 episodes each, seed 0" in outcome.out
    assert policy.name in outcome.out


def test_evaluate_by_the_protocol_of_the_challenge(program: Program) -> None:
    assert program("train", *TINY, "--run-dir=run").code == 0
    asked = ("--protocol=cage2", "--rules=leaderboard", "--episodes=2", "--json=scores.json")
    outcome = program("evaluate", "run", *asked, "--collector=sequential")
    assert outcome.code == 0
    assert "workflow_rl/Cage2-v0 (rules leaderboard), 2 episodes each, seed 0" in outcome.out
    scores = json.loads(Path("scores.json").read_text())
    assert len(scores["cells"]) == 9
    assert scores["total"] == pytest.approx(sum(cell["mean"] for cell in scores["cells"]))
    assert f"{scores['total']:.2f} ± {scores['total_half_width_95']:.2f}" in outcome.out


def test_evaluate_tells_a_universal_policy_any_order(program: Program) -> None:
    assert program("train", *TINY, "--universal", "--alignment=mask", "--run-dir=run").code == 0
    file = "run/policies/000-universal.safetensors"
    best = json.loads(Path("run/summary.json").read_text())["best_workflow"]
    quick = ("--episodes=3", "--collector=sequential", "--json=scores.json")
    for asked, told in (((), best), ((f"--workflow={ORDER}",), ORDER)):
        assert program("evaluate", "run", *quick, *asked).code == 0
        scores = json.loads(Path("scores.json").read_text())
        assert scores["workflow"] == told
        assert {cell["score"]["observed_compliance"] for cell in scores["scores"]} <= {1.0, None}
    outcome = program("evaluate", file, *quick)
    assert (outcome.code, outcome.complaint) == (
        2,
        f"error: {file} serves every order: say which one with --workflow",
    )


def test_evaluate_tells_a_policy_of_one_order_no_other(program: Program) -> None:
    assert program("train", *TINY, f"--workflow={ORDER}", "--run-dir=run").code == 0
    other = "op_server,user,op_host,enterprise,defender"
    outcome = program("evaluate", "run", f"--workflow={other}")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.complaint.endswith(f"was trained for {ORDER} only")
    assert (
        program("evaluate", "run", f"--workflow={ORDER}", "--episodes=2", "--collector=sequential").code == 0
    )


# Policies of train-env


@pytest.fixture
def environment_run(program: Program) -> Path:
    """A run of train-env, in the directory that the program works in."""
    small = ("--total-steps=100", "--steps-per-update=50", "--evaluation-episodes=4", "--seed=3")
    chosen = ("--env=FrozenLake-v1", '--env-kwargs={"desc": ["SF", "FG"]}', "--hidden-size=8")
    assert program("train-env", *small, *chosen, "--collector=sequential", "--run-dir=run").code == 0
    return Path("run")


@pytest.mark.usefixtures("environment_run")
def test_evaluate_scores_a_policy_of_train_env_as_its_run_did(program: Program) -> None:
    asked = ("--episodes=4", "--seed=3", "--json=scores.json")
    summary = json.loads(Path("run/summary.json").read_text())
    outputs = [
        program("evaluate", place, *asked, collector).out
        for place, collector in (
            ("run", "--collector=sequential"),
            (f"run/{summary['policy']}", "--n-workers=2"),
        )
    ]
    assert outputs[0] == outputs[1]
    assert "FrozenLake-v1, 4 episodes, seed 3, most probable actions" in outputs[0]
    scores = json.loads(Path("scores.json").read_text())
    assert (scores["mean_return"], scores["mean_length"], scores["standard_error"]) == (
        summary["evaluation_return"],
        summary["evaluation_length"],
        summary["evaluation_return_standard_error"],
    )
    assert scores["environment"] == {"id": "FrozenLake-v1", "kwargs": {"desc": ["SF", "FG"]}}
    sampled = program("evaluate", "run", *asked, "--sampled", "--collector=sequential").out
    assert "sampled actions" in sampled


@pytest.mark.usefixtures("environment_run")
@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--simulator=cyborg"], "--simulator is for policies of workflow-rl train"),
        ([f"--workflow={ORDER}"], "--workflow is for policies of workflow-rl train"),
        (["--protocol=cage2"], "--protocol is for policies of workflow-rl train"),
        (["--protocol=cage4"], "--protocol must be one of cage2, robustness, got cage4"),
        (["--json=nowhere/scores.json"], "--json nowhere/scores.json cannot be written: No such file"),
    ],
)
def test_evaluate_refuses_before_it_plays(program: Program, arguments: list[str], complaint: str) -> None:
    outcome = program("evaluate", "run", *arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert complaint in outcome.complaint


@pytest.mark.usefixtures("environment_run")
def test_evaluate_sees_that_an_environment_has_changed(program: Program, tmp_path: Path) -> None:
    policy, metadata = load_policy(Path("run/policy.safetensors"))
    metadata["environment"] = {"id": "CartPole-v1", "kwargs": {}}
    Path("other.safetensors").write_bytes(policy_to_bytes(policy, metadata))
    outcome = program("evaluate", "other.safetensors")
    assert outcome.code == 2
    assert "other.safetensors does not fit CartPole-v1, which has other spaces now" in outcome.complaint


def test_evaluate_shows_a_traceback_on_request(program: Program, tmp_path: Path) -> None:
    environment = specification("Failing", where="step")
    policy = ActorCritic(shape_for(environment, hidden_size=8, has_workflow=False))
    metadata = {"environment": {"id": environment.id, "kwargs": dict(environment.kwargs)}}
    Path("policy.safetensors").write_bytes(policy_to_bytes(policy, metadata))
    asked = ["evaluate", "policy.safetensors", "--collector=sequential"]
    brief, long = program(*asked), program(*asked, "--traceback")
    assert (brief.code, long.code) == (1, 1)
    assert brief.complaint.endswith("policy version 0); --traceback shows where")
    assert "Traceback (most recent call last):" in long.err
    assert 'awkward_environments.py", line' in long.err
    assert long.err.splitlines()[-1] == brief.complaint.removesuffix("; --traceback shows where")


@pytest.mark.usefixtures("wide_output")
def test_evaluate_repeats_itself_and_depends_on_the_seed(program: Program) -> None:
    assert program("train", *TINY, "--run-dir=run").code == 0
    asked = ["evaluate", "run", "--episodes=3", "--n-workers=2"]
    first, again = program(*asked).out, program(*asked, "--collector=sequential").out
    other = program(*asked, "--collector=sequential", "--seed=1").out
    assert first == again
    assert other.replace("seed 1", "seed 0") != first


# What is refused


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (
            ["nowhere"],
            "there is no policy nowhere; name a run's directory, a policy file or one of defender-2.1, ",
        ),
        (["."], "holds no evaluated policy yet"),
        (["policy", "--episodes", "1"], "--episodes must be at least 2, got 1"),
        (["policy", "--seed", "-1"], "--seed must be at least 0 and at most 4294967295, got -1"),
        (["policy", "--n-workers", "0"], "--n-workers must be at least 1, got 0"),
        (["policy", "--collector", "dask"], "got dask"),
        ([], "Missing argument 'RUN_DIR|POLICY_FILE|NAME'"),
    ],
)
def test_bad_input_to_evaluate(program: Program, arguments: list[str], complaint: str) -> None:
    outcome = program("evaluate", *arguments)
    assert outcome.code == 2
    assert complaint in outcome.complaint


def test_a_directory_of_runs_has_no_policy_of_its_own(program: Program) -> None:
    assert program("train", *TINY, "--run-dir=answer/B_lineAgent").code == 0
    outcome = program("evaluate", "answer")
    assert outcome.code == 2
    assert outcome.complaint == "error: answer holds runs: name one of them, such as answer/B_lineAgent"


@pytest.mark.parametrize("damage", ["truncated", "other bytes", "empty"])
def test_evaluating_a_damaged_policy(program: Program, tmp_path: Path, damage: str) -> None:
    assert program("train", *TINY, "--run-dir", "run").code == 0
    (policy,) = (tmp_path / "run" / "policies").iterdir()
    content = policy.read_bytes()
    policy.write_bytes({"truncated": content[:-50], "other bytes": b"\xff" * 200, "empty": b""}[damage])
    outcome = program("evaluate", "run", "--collector", "sequential")
    assert outcome.code == 2
    assert f"{policy.name} is damaged or not a policy of this package" in outcome.complaint
    assert outcome.out == ""


# Baselines


def test_baselines_are_scored_with_every_order_against_every_attacker(program: Program) -> None:
    outcome = program("baselines", "--episodes=2", "--json=scores.json")
    assert outcome.code == 0
    assert "greedy-observed" in outcome.out
    cells = json.loads(Path("scores.json").read_text())["scores"]
    assert len(cells) == 4 * 6 * 4 * 3
    rewards = {
        (cell["baseline"], cell["red_agent"], cell["horizon"]): cell["score"]["reward"] for cell in cells
    }
    assert rewards["sleep", "B_lineAgent", 100] < rewards["greedy-observed", "B_lineAgent", 100] < 0
    assert rewards["sleep", "SleepAgent", 100] == 0


@pytest.mark.parametrize(
    ("argument", "complaint"),
    [
        ("--episodes=1", "--episodes must be at least 2, got 1"),
        ("--seed=-1", "--seed must be at least 0"),
        ("--simulator=minicage", "one of native, cyborg, got minicage"),
        ("--json=nowhere/scores.json", "--json nowhere/scores.json cannot be written"),
    ],
)
def test_bad_input_to_baselines(program: Program, argument: str, complaint: str) -> None:
    outcome = program("baselines", argument)
    assert (outcome.code, outcome.out) == (2, "")
    assert complaint in outcome.complaint
