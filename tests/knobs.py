"""A small environment with a mapping for an observation and several numbers for an action.

A module of its own, since workers import it.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class Tuning(gymnasium.Env[Any, Any]):
    """Turn two knobs as the bits say; right ones earn 1 each. Ends after 5 steps."""

    observation_space = spaces.Dict(knob=spaces.MultiBinary(2), time=spaces.Box(0, 1, (1,)))
    action_space = spaces.MultiDiscrete([2, 3])

    def _observe(self) -> dict[str, Any]:
        self._bits = self.np_random.integers(0, 2, 2).astype(np.int8)
        return {"knob": self._bits, "time": np.array([self._steps / 5], np.float32)}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        super().reset(seed=seed)
        self._steps = 0
        return self._observe(), {}

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        self._steps += 1
        reward = float((self._bits == action).sum())
        return self._observe(), reward, self._steps == 5, False, {}
