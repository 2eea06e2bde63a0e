"""Imported once by the fork server before any worker exists, so that all workers inherit it.

Unlike any other module this one works at import: it loads the compiled policy from numba's cache (or compiles
it). Workers forked from here share those pages and start in milliseconds; without it each would load them
anew.
"""

from __future__ import annotations

import workflow_rl.cli
import workflow_rl.collectors.worker  # noqa: F401
from workflow_rl.inference import compile_kernels

compile_kernels()
