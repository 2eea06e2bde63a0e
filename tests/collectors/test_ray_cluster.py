"""A training on a Ray cluster of three nodes, one of which is lost on the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from ray_nodes import RayNodes

import workflow_rl
from workflow_rl.run_log import LEARNING_LOG

pytestmark = pytest.mark.ray
pytest.importorskip("ray", reason="needs workflow-rl[ray]")

CHECKOUT = Path(workflow_rl.__file__).parents[1]
N_WORKERS = 6
TRAIN = (
    *("train-env", "--env=awkward_environments:Uneven-v0", "--total-steps=8000", "--steps-per-update=400"),
    *("--minibatch-size=200", "--hidden-size=8", "--lag=2", "--evaluation-episodes=2"),
)


def start(run: Path, *flags: str, step_seconds: float) -> subprocess.Popen[str]:
    """Begin a training whose steps take so long; what is played does not depend on it."""
    tests = Path(__file__).parents[1]
    path = os.pathsep.join([str(tests), *filter(None, [os.environ.get("PYTHONPATH")])])
    program = "from workflow_rl.cli import main; main()"
    kwargs = json.dumps({"longest": 40, "step_seconds": step_seconds})
    command = [sys.executable, "-c", program, *TRAIN, "--env-kwargs", kwargs, *flags, f"--run-dir={run}"]
    return subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(training: subprocess.Popen[str], run: Path) -> dict[str, Any]:
    output, _ = training.communicate(timeout=200)
    assert training.returncode == 0, output
    return json.loads((run / "summary.json").read_text())  # type: ignore[no-any-return]


def wait_for_updates(training: subprocess.Popen[str], run: Path, count: int) -> None:
    log = run / LEARNING_LOG
    while not log.exists() or len(log.read_text().splitlines()) <= count:
        assert training.poll() is None, training.communicate()[0]
        time.sleep(0.05)


def test_a_lost_node_costs_time_and_nothing_else(tmp_path: Path) -> None:
    run, alone = tmp_path / "cluster", tmp_path / "alone"
    with RayNodes(2, 2, 2) as nodes:
        flags = ("--collector=ray", f"--ray-address={nodes.address}", f"--n-workers={N_WORKERS}")
        training = start(run, *flags, step_seconds=0.02)
        wait_for_updates(training, run, 4)
        assert all(nodes.actors(number) for number in range(3)), "they are spread over the nodes"
        nodes.lose(2)
        while (num_actors := len(nodes.actors())) < N_WORKERS:
            assert training.poll() is None, f"the training has ended with {num_actors} actors"
            time.sleep(0.05)
        found = finish(training, run)
        nodes.wait_for_no_actor()
    expected = finish(start(alone, "--collector=sequential", step_seconds=0.0), alone)
    assert found["weights_sha256"] == expected["weights_sha256"]
    retries = [json.loads(line) for line in (run / "retries.jsonl").read_text().splitlines()]
    assert found["retries"] == len(retries) > 0
    assert found["retries_by_cause"] == Counter(retry["cause"] for retry in retries)
    assert {retry["cause"] for retry in retries if retry["failures"]} == {"died"}


def test_the_costs_of_a_cluster_are_measured(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "benchmarks/cluster.py",
        "--quick",
        "--n-workers=10,1000",
        "--episode-seconds=1",
    ]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    costs = report["costs"]
    assert costs["episode_bytes"] > 100 * 52, "a step's observation is 52 bytes"
    assert costs["snapshot_bytes"] > 4 * 64 * 145, "the weights of the last layer alone"
    for name in ("hand_over_cpu_seconds", "update_cpu_seconds"):
        assert 0 < costs[name]["minimum"] <= costs[name]["median"] <= costs[name]["maximum"] < 1
    small, large = report["clusters"]
    assert small["possible_episodes_per_second"] == 10
    assert large["possible_episodes_per_second"] == 1000
    assert large["learner_cores_needed"] > 100 * small["learner_cores_needed"], "more to look through"
    assert small["busy_workers"] <= 10
