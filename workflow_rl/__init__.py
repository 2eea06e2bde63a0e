"""Cyber-defence agents that keep to a workflow, trained with barrier-free episode collection.

Importing the package registers its Gymnasium environments:

    workflow_rl/CybORG-v0    CAGE Challenge 2 on the reference simulator (extra `cyborg`)
    workflow_rl/Cage2-v0     the same game on the native simulator
"""

from importlib.metadata import PackageNotFoundError, version

import gymnasium

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
