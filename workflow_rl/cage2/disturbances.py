"""The native game under conditions that no policy was trained in: what its score is worth elsewhere.

A successor takes over from the attacker in the middle of the episode: it finds the first one's sessions and
what that knew of the network, and begins its own plan from the start. And what blue sees may get lost on its
way: with some probability blue is shown at a step what it was shown at the step before, all of it, memories
included. The memories themselves are kept where blue's sensors are, so they miss nothing.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from workflow_rl.cage2.env import Cage2Env
from workflow_rl.errors import SettingError


class DisturbedCage2Env(gymnasium.Env[NDArray[np.int8], np.int64]):
    """CAGE Challenge 2 on the native simulator, disturbed.

    Args:
        successor: the attacker that takes over after half of the steps; `None` leaves the first one at it.
        dropped: probability, at each step, that the observation gets lost.
        **game: arguments of `Cage2Env`.

    Raises:
        SettingError: a value is not one of those allowed.
    """

    observation_space: spaces.MultiBinary
    action_space: spaces.Discrete

    def __init__(self, *, successor: str | None = None, dropped: float = 0.0, **game: Any) -> None:
        if not 0.0 <= dropped < 1.0:
            raise SettingError(f"dropped must be at least 0 and below 1, got {dropped}")
        self._game = Cage2Env(**game)
        self.observation_space = self._game.observation_space
        self.action_space = self._game.action_space
        self._successor = successor
        self._dropped = dropped
        self._seen = np.empty(0, np.int8)
        self._steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.int8], dict[str, Any]]:
        """Begin an episode, as `Cage2Env.reset`; the seed decides what gets lost too."""
        super().reset(seed=seed, options=options)
        self._steps = 0
        self._seen, info = self._game.reset(seed=seed)
        return self._seen, info

    def step(self, action: int | np.int64) -> tuple[NDArray[np.int8], float, bool, bool, dict[str, Any]]:
        """Let blue act, then green, then red, as `Cage2Env.step`."""
        if self._successor is not None and self._steps == self._game.settings.max_steps // 2:
            self._game.hand_over(self._successor)
        observation, reward, terminated, truncated, info = self._game.step(action)
        self._steps += 1
        if self.np_random.random() >= self._dropped:
            self._seen = observation
        return self._seen, reward, terminated, truncated, info
