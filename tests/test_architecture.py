"""The shape of the package: who imports whom, what workers load, and that all of it is explained."""

from __future__ import annotations

import ast
import graphlib
import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from itertools import chain
from pathlib import Path

import pytest

import workflow_rl

ROOT = Path(workflow_rl.__file__).parent

LAYERS = {
    "settings, errors, seeding, workflow": (
        "errors",
        "settings",
        "compilation",
        "seeding",
        "workflow",
        "worker_process",
        "fork_server",
        "main_preload",
        "closing",
        "cores",
        "open_files",
        "machine",
    ),
    "simulators": ("cage2", "cage2.*"),
    "what crosses processes, and how it is judged": (
        "alignment",
        "episode",
        "environments",
        "compliance_mask",
        "lagrange_multiplier",
        "alignment_schemes",
        "equivalent_orders",
    ),
    "playing episodes": ("spaces", "inference", "batch_inference", "compiled_rollout", "rollout"),
    "collectors": (
        "collectors",
        "collectors.interface",
        "collectors.snapshot_directory",
        "collectors.heartbeats",
        "collectors.attempts",
        "collectors.pool",
        "collectors.time_slice",
        "collectors.child_process",
        "collectors.worker_pool",
        "collectors.starter",
        "collectors.dispatcher",
        "collectors.worker",
        "collectors.native_preload",
        "collectors.on_demand",
        "collectors.sequential",
        "collectors.remote_environment",
        "collectors.lockstep_environments",
        "collectors.step_record",
        "collectors.synchronous",
        "collectors.thread_pool",
        "collectors.barrier_free",
        "collectors.executor",
        "collectors.ray_connection",
        "collectors.ray_actors",
    ),
    "learning": ("distributions", "normalization", "network_inputs", "policy", "gae", "ppo"),
    "training": (
        "tracing",
        "checkpoint",
        "learner_files",
        "event_file",
        "scalar_loggers",
        "run_log",
        "run_directory",
        "retry_log",
        "interruption",
        "evaluation",
        "baselines",
        "pipeline",
        "plateau",
        "run_record",
        "sittings",
        "run_opening",
        "order_training",
        "environment_training",
        "protocol",
        "robustness",
    ),
    "search": (
        "hyperparameters",
        "mallows_kernel",
        "gaussian_process",
        "trials",
        "successive_halving",
        "search_strategies",
        "order_search",
        "ranking",
    ),
    "programs": (
        "report",
        "report.*",
        "html_page",
        "replay",
        "watch",
        "replay.*",
        "bench",
        "bench.*",
        "display",
        "defenders",
        "onnx_export",
        "stored_policy",
        "findings",
        "main_job",
        "environment_job",
        "defender_job",
        "evaluation_job",
        "baseline_job",
        "train_job",
        "search_job",
        "commands",
        "loaded_policy",
        "doctor",
        "python_api",
        "cli",
        "executor_async_train_workflow_rl",
        "collectors.preload",  # the fork server's program; it loads what the main script does
    ),
}
"""From bottom to top. Imports go down, or stay in a layer without a circle."""

NAMES = list(LAYERS)
TORCH_BEGINS = NAMES.index("learning")
OPTIONAL = {
    "ray": ("collectors.ray_connection", "collectors.ray_actors"),
    "csle_cyborg": ("cage2.cyborg", "cage2.cyborg_scenario"),
    "wandb": ("scalar_loggers",),
    "mlflow": ("scalar_loggers",),
    "trackio": ("scalar_loggers",),
}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


TREES = {name_of(path): ast.parse(path.read_text()) for path in sorted(ROOT.rglob("*.py"))}
MODULES = [name for name in TREES if name]


def imported(tree: ast.AST) -> Iterator[str]:
    """Dotted names of the modules that a module imports, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield submodule if submodule.removeprefix("workflow_rl.") in TREES else str(node.module)


def own_imports(module: str) -> set[str]:
    """Modules of the package that a module imports."""
    return {name.removeprefix("workflow_rl.") for name in imported(TREES[module])} & set(MODULES)


def foreign_imports(module: str) -> set[str]:
    """Top-level names of what a module imports from elsewhere."""
    return {name.split(".")[0] for name in imported(TREES[module])} - {"workflow_rl"}


def layer_of(module: str) -> int:
    """A module named in full belongs where it is named, rather than to a pattern."""
    exact = [i for i, layer in enumerate(LAYERS.values()) if module in layer]
    matching = [i for i, layer in enumerate(LAYERS.values()) if any(fnmatch(module, p) for p in layer)]
    found = exact or matching
    assert len(found) == 1, f"{module} is to be in one layer, is in {[NAMES[i] for i in found]}"
    return found[0]


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module: str) -> None:
    upward = {name for name in own_imports(module) if layer_of(name) > layer_of(module)}
    assert not upward, f"{module} ({NAMES[layer_of(module)]}) imports {upward}"


def test_the_walk_sees_imports() -> None:
    """Some that are known, one of them inside a function."""
    assert {"gae", "policy", "episode"} <= own_imports("ppo")
    assert "commands" in own_imports("cli")
    assert "torch" in foreign_imports("ppo")


def test_no_circles() -> None:
    graph = {module: own_imports(module) - {module} for module in MODULES}
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) == len(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_torch_and_optional_packages_stay_where_they_belong(module: str) -> None:
    foreign = foreign_imports(module)
    if layer_of(module) < TORCH_BEGINS:
        assert not foreign & {"torch", "safetensors", "sklearn", "scipy", "rich", "tensorboard"}
    for package, allowed in OPTIONAL.items():
        assert package not in foreign or module in allowed


def loaded_with(modules: list[str]) -> set[str]:
    """Top-level names of all that a fresh interpreter has loaded after it imported some modules."""
    program = f"import json, sys, {', '.join(modules)}; print(json.dumps(sorted(sys.modules)))"
    output = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT.parent
    ).stdout
    return {name.split(".")[0] for name in json.loads(output.splitlines()[-1])}


def test_workers_load_no_learner() -> None:
    """What a worker inherits from the fork server and imports itself."""
    modules = [
        "workflow_rl.collectors.worker",
        "workflow_rl.collectors.preload",
        "workflow_rl.collectors.native_preload",
        "workflow_rl.cage2.env",
    ]
    if importlib.util.find_spec("csle_cyborg") is not None:
        modules.append("workflow_rl.cage2.cyborg_preload")
    loaded = loaded_with(modules)
    assert {"numba", "gymnasium"} <= loaded
    assert not loaded & {"torch", "ray", "sklearn", "tensorboard", "safetensors"}


def test_what_shows_runs_loads_no_learner() -> None:
    loaded = loaded_with(["workflow_rl.watch", "workflow_rl.report.sections", "workflow_rl.report.page"])
    assert "altair" in loaded
    assert not loaded & {"torch", "sklearn"}


def dependencies() -> set[str]:
    """Import names of what the package depends on, where they are the names in the build file."""
    project = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())["project"]
    required = chain(project["dependencies"], *project["optional-dependencies"].values())
    return {re.split(r"[^\w-]", name)[0].replace("-", "_").lower() for name in required} | {"sklearn", "ray"}


@pytest.mark.parametrize("module", MODULES)
def test_module_names_shadow_nothing(module: str) -> None:
    """The script is run by path, which puts its directory first on the import path."""
    last = module.split(".")[-1]
    assert last not in sys.stdlib_module_names
    assert last not in dependencies()


def public(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, ast.FunctionDef | ast.ClassDef]]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, f"{prefix}{node.name}.")


@pytest.mark.parametrize("module", TREES)
def test_everything_public_has_a_docstring(module: str) -> None:
    assert ast.get_docstring(TREES[module]), f"{module} does not say what it is about"
    silent = [name for name, node in public(TREES[module].body, "") if not ast.get_docstring(node)]
    assert not silent


def test_the_layers_name_no_module_twice() -> None:
    named = [name for layer in LAYERS.values() for name in layer]
    assert len(set(named)) == len(named)


def test_the_map_for_contributors_is_true() -> None:
    """It shows every module and package, and none imports from a row below its own."""
    lines = (ROOT.parent / "CONTRIBUTING.md").read_text().splitlines()
    rows = [re.findall(r"`(\w+)/?`", line.split("|")[1]) for line in lines if line.startswith("| `")]
    row_of = {name: number for number, names in enumerate(rows) for name in names}
    assert row_of.keys() == {module.split(".")[0] for module in MODULES}
    for module in set(MODULES) - {"collectors.preload"}:  # which is a program of its own
        for name in own_imports(module):
            assert row_of[name.split(".")[0]] <= row_of[module.split(".")[0]], f"{module} imports {name}"
