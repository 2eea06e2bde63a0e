"""Imported once by the fork server before any worker exists, so that all workers inherit it.

Unlike any other module this one works at import: it loads from numba's cache (or compiles) what is called in
every episode. Workers forked from here share those pages and start in milliseconds; without it each would
load them anew.
"""

from __future__ import annotations

import numpy as np

import workflow_rl.cli
import workflow_rl.collectors.worker  # noqa: F401
from workflow_rl.alignment import compromised_types, shown_types
from workflow_rl.cage2.scenario import NUM_HOSTS, NUM_OBSERVATION_BITS
from workflow_rl.inference import compile_kernels
from workflow_rl.seeding import Stream, environment_seed, episode_key

compile_kernels()
environment_seed(episode_key(0, Stream.TRAINING_EPISODE, 0))
compromised_types(np.zeros(NUM_HOSTS, np.int8))
shown_types(np.zeros(NUM_OBSERVATION_BITS, np.uint8))
