"""A policy as an ONNX file, to be played where there is neither this package nor Python.

    observation  (batch, O) float32   in, as the environment shows it, flattened
    logits       (batch, A) float32   out, those of all choices
    action       (batch,) int64       out, the most probable choice; only of policies that choose one of A

An order that the policy is told is constant, so its share of the first layer is added to that layer's biases.
The file's metadata name the environment and the order.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from workflow_rl.errors import MissingExtraError, PolicyFileError, SettingError
from workflow_rl.inference import split_parameters
from workflow_rl.stored_policy import StoredPolicy, read_policy

_OPSET = 17
"""Of 2021; what is used of it is older, so every runtime of today plays it."""

_IR_VERSION = 8
"""The file format that came with that opset."""


def export_onnx(path: Path, file: Path, *, workflow: str | None = None) -> int:
    """Write a policy as an ONNX file, and print what goes into it and comes out.

    Args:
        path: what `stored_policy.read_policy` takes.
        file: what to write.
        workflow: the order that a universal policy is told; `None` is the best one of its run.

    Returns:
        The exit code, 0.

    Raises:
        MissingExtraError: onnx is not installed.
        PolicyFileError: the policy cannot be read, or the file cannot be written.
        SettingError: the policy is bound by an action mask, which a network alone does not keep to.
    """
    stored = read_policy(path, workflow=workflow)
    model = onnx_model(stored)
    try:
        file.write_bytes(model.SerializeToString())
    except OSError as error:
        raise PolicyFileError(f"cannot write {file}: {error.strerror or error}") from error
    outputs = " and ".join(output.name for output in model.graph.output)
    Console().print(
        f"{file}: observation of {stored.policy.shape.num_observations} numbers in, {outputs} out",
        highlight=False,
        soft_wrap=True,
    )
    return 0


def onnx_model(stored: StoredPolicy) -> Any:
    """The actor of a policy as an `onnx.ModelProto`.

    Raises:
        MissingExtraError, SettingError: as by `export_onnx`.
    """
    try:
        import onnx
        from onnx import helper, numpy_helper
    except ModuleNotFoundError as error:
        raise MissingExtraError("onnx", "onnx", "an export to ONNX") from error
    if stored.mask is not None:
        raise SettingError(f"{stored.file} keeps to its order by an action mask, which ONNX does not hold")
    shape = stored.policy.shape
    nodes, value, last = [], "observation", len(shape.layer_sizes)
    constants = []
    for number, (weights, biases) in enumerate(_layers(stored), 1):
        names = f"weights{number}", f"biases{number}"
        constants += [numpy_helper.from_array(a, n) for a, n in zip((weights, biases), names, strict=True)]
        result = "logits" if number == last else f"sum{number}"
        nodes.append(helper.make_node("Gemm", [value, *names], [result]))
        if number < last:
            value = f"hidden{number}"
            nodes.append(helper.make_node("Tanh", [result], [value]))
    floats, rows = onnx.TensorProto.FLOAT, "batch"
    outputs = [helper.make_tensor_value_info("logits", floats, [rows, shape.num_actions])]
    if not shape.branches and not shape.is_gaussian:
        nodes.append(helper.make_node("ArgMax", ["logits"], ["action"], axis=1, keepdims=0))
        outputs.append(helper.make_tensor_value_info("action", onnx.TensorProto.INT64, [rows]))
    seen = helper.make_tensor_value_info("observation", floats, [rows, shape.num_observations])
    graph = helper.make_graph(nodes, "policy", [seen], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
    helper.set_model_props(model, {"workflow_rl": json.dumps(_origin(stored))})
    onnx.checker.check_model(model, full_check=True)
    return model


def _layers(stored: StoredPolicy) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Weights [input, output] and biases of the three layers, the order's share among the first biases."""
    shape = stored.policy.shape
    num_inputs = shape.num_observations + shape.num_context
    parameters = stored.policy.snapshot(0).parameters
    w1, b1, w2, b2, w3, b3 = split_parameters(parameters, num_inputs, shape.hidden_size, shape.num_actions)
    if stored.workflow is not None:
        b1 = b1 + stored.workflow.one_hot().ravel() @ w1[shape.num_observations :]
    return [(w1[: shape.num_observations], b1), (w2, b2), (w3, b3)]


def _origin(stored: StoredPolicy) -> dict[str, Any]:
    environment = stored.environment
    return {
        "environment": {"id": environment.id, "kwargs": dict(environment.kwargs)},
        "workflow": None if stored.workflow is None else str(stored.workflow),
    }
