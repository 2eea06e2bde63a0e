"""Policies as ONNX files: played by onnxruntime they choose what the original chooses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from program import call

from workflow_rl.environments import NATIVE
from workflow_rl.episode import EnvironmentSpec, Episodes
from workflow_rl.evaluation import evaluation_tickets
from workflow_rl.policy import ActorCritic, policy_to_bytes
from workflow_rl.rollout import Player, shape_for
from workflow_rl.workflow import Workflow

GAME: dict[str, Any] = {"scan_memory": True, "max_steps": 60}
ORDER = Workflow.from_index(7)


def store(
    file: Path, environment: EnvironmentSpec, *, workflow: Workflow | None, mask: str | None = None
) -> ActorCritic:
    """A policy that is far from uniform, and its file."""
    policy = ActorCritic(shape_for(environment, hidden_size=16, has_workflow=workflow is not None), seed=3)
    with torch.no_grad():
        policy.actor[4].weight *= 100
    metadata = {
        "environment": {"id": environment.id, "kwargs": dict(environment.kwargs)},
        "workflow": str(workflow),
        "compliance": "reachable",
        "mask": mask,
    }
    file.write_bytes(policy_to_bytes(policy, metadata))
    return policy


def played(policy: ActorCritic, environment: EnvironmentSpec, workflow: Workflow | None) -> Episodes:
    snapshot = policy.snapshot(0)
    tickets = evaluation_tickets(
        environment, snapshot, run_seed=0, episodes=range(5), batch=0, workflow=workflow, greedy=True
    )
    return Player().play(tickets, snapshot)


@pytest.mark.parametrize("workflow", [None, ORDER], ids=["free", "told an order"])
def test_onnxruntime_chooses_what_the_policy_chose(workflow: Workflow | None, tmp_path: Path) -> None:
    environment = EnvironmentSpec.of(NATIVE, GAME)
    policy = store(tmp_path / "policy", environment, workflow=workflow)
    assert call("export-onnx", tmp_path / "policy", tmp_path / "policy.onnx") == 0
    session = onnxruntime.InferenceSession(tmp_path / "policy.onnx", providers=["CPUExecutionProvider"])
    episodes = played(policy, environment, workflow)
    seen = episodes.observations[episodes.is_acted_upon].astype(np.float32)
    logits, actions = session.run(["logits", "action"], {"observation": seen})
    context = np.empty(0, np.float32) if workflow is None else workflow.one_hot().ravel()
    inputs = np.concatenate([seen, np.broadcast_to(context, (len(seen), len(context)))], axis=1)
    with torch.no_grad():
        expected = policy.logits(torch.from_numpy(inputs)).numpy()
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(actions, episodes.actions)
    assert len(np.unique(actions)) > 3
    (told,) = onnx.load(tmp_path / "policy.onnx").metadata_props
    assert json.loads(told.value) == {
        "environment": {"id": NATIVE, "kwargs": GAME},
        "workflow": None if workflow is None else str(workflow),
    }


def test_decimal_actions_have_no_most_probable_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = EnvironmentSpec("Pendulum-v1")
    policy = store(tmp_path / "policy", environment, workflow=None)
    assert call("export-onnx", tmp_path / "policy", tmp_path / "policy.onnx") == 0
    assert capsys.readouterr().out.endswith("policy.onnx: observation of 3 numbers in, logits out\n")
    session = onnxruntime.InferenceSession(tmp_path / "policy.onnx", providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["logits"]
    seen = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    with torch.no_grad():
        expected = policy.logits(torch.from_numpy(seen)).numpy()
    np.testing.assert_allclose(session.run(None, {"observation": seen})[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("mask", "target", "complaint"),
    [("reachable", "policy.onnx", "action mask"), (None, "missing/policy.onnx", "cannot write")],
)
def test_what_cannot_be_exported_is_refused_in_one_line(
    mask: str | None,
    target: str,
    complaint: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store(tmp_path / "policy", EnvironmentSpec.of(NATIVE, GAME), workflow=ORDER, mask=mask)
    assert call("export-onnx", tmp_path / "policy", tmp_path / target) == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / target).exists()
