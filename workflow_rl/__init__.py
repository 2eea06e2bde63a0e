"""Cyber-defence agents that keep to a workflow, trained with barrier-free episode collection.

Importing the package registers its Gymnasium environments:

    workflow_rl/CybORG-v0    CAGE Challenge 2 on the reference simulator (extra `cyborg`)
    workflow_rl/Cage2-v0     the same game on the native simulator

and offers what `python_api` has, loaded when it is first asked for: worker processes import the package too,
and must not load torch.
"""

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import gymnasium

if TYPE_CHECKING:
    from workflow_rl.python_api import (
        Policy,
        Run,
        WorkflowRLError,
        evaluate,
        load_policy,
        resume,
        search,
        train,
        train_defender,
        train_env,
    )

__all__ = [
    "Policy",
    "Run",
    "WorkflowRLError",
    "evaluate",
    "load_policy",
    "resume",
    "search",
    "train",
    "train_defender",
    "train_env",
]

try:
    __version__ = version("workflow-rl")
except PackageNotFoundError:  # a checkout that is run without being installed
    __version__ = "0+unknown"

gymnasium.register(id="workflow_rl/CybORG-v0", entry_point="workflow_rl.cage2.cyborg:CybORGEnv")
gymnasium.register(
    id="workflow_rl/Cage2-v0",
    entry_point="workflow_rl.cage2.env:Cage2Env",
    vector_entry_point="workflow_rl.cage2.vector_env:Cage2VectorEnv",
)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("workflow_rl.python_api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
