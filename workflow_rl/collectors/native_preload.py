"""Imported once by the fork server when workers are to play the native simulator.

Works at import, like `collectors.preload`: all workers inherit the compiled player.
"""

from __future__ import annotations

from workflow_rl.compiled_rollout import compile_player

compile_player()
