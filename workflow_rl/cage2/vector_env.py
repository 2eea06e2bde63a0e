"""Many native environments as one Gymnasium vector environment: one compiled call a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from workflow_rl.cage2.action_sets import action_names
from workflow_rl.cage2.batch import Autoreset, observe_all, red_access_all, reset_all, step_all
from workflow_rl.cage2.env import SEED_MASK
from workflow_rl.cage2.generator import next_seed
from workflow_rl.cage2.scenario import NUM_HOSTS
from workflow_rl.cage2.state import GameSettings, new_states
from workflow_rl.errors import SettingError

_AUTORESETS = {
    AutoresetMode.NEXT_STEP: Autoreset.NEXT_STEP,
    AutoresetMode.SAME_STEP: Autoreset.SAME_STEP,
    AutoresetMode.DISABLED: Autoreset.DISABLED,
}


class Cage2VectorEnv(VectorEnv[NDArray[np.int8], NDArray[np.int64], NDArray[Any]]):
    """N games of CAGE Challenge 2 side by side; environment i plays what `Cage2Env` plays with i's seed.

    Returned arrays are new at each call and belong to the caller.

    Args:
        num_envs: how many.
        autoreset_mode: Gymnasium's `AutoresetMode` or its value. NEXT_STEP: the step after the horizon
            ignores its action, returns reward 0 and the new episode's first observation. SAME_STEP: the step
            that reaches the horizon returns the new episode's first observation, and the old one's last is
            `info["final_obs"][i]`. DISABLED: the caller resets, with `options={"reset_mask": ...}`.
        red_agent: as the following, see `Cage2Env`.
        max_steps: length of an episode.
        rules: "2.1" or "leaderboard".
        observation: "official" or "corrected".
        scan_memory: add 26 bits on which hosts were seen scanned.
        decoy_memory: add 104 bits on which decoys stand.
        recency_memory: add 156 bits on how long ago hosts were seen scanned and exploited, and were restored.
        action_set: "all" or "next-decoy" (`action_sets`).

    Raises:
        SettingError: a value is not one of those allowed.
    """

    def __init__(  # noqa: PLR0913  (the arguments of `Cage2Env` and two more)
        self,
        num_envs: int = 1,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        red_agent: str = "B_lineAgent",
        max_steps: int = 100,
        rules: str = "2.1",
        observation: str = "official",
        scan_memory: bool = False,
        decoy_memory: bool = False,
        recency_memory: bool = False,
        action_set: str = "all",
    ) -> None:
        if num_envs < 1:
            raise SettingError(f"num_envs must be at least 1, got {num_envs}")
        self.settings = GameSettings(
            red_agent,
            max_steps,
            rules,
            observation,
            scan_memory,
            decoy_memory,
            recency_memory,
            action_set,
        )
        self.num_envs = num_envs
        self.autoreset_mode = _autoreset_mode(autoreset_mode)
        self.metadata = {"autoreset_mode": self.autoreset_mode}
        self.single_observation_space = spaces.MultiBinary(self.settings.num_bits)
        self._num_actions = len(action_names(action_set))
        self.single_action_space = spaces.Discrete(self._num_actions)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._autoreset = int(_AUTORESETS[self.autoreset_mode])
        self._states = new_states(self.settings, num_envs)
        self._is_running = np.zeros(num_envs, np.bool_)
        self._was_reset = np.zeros(num_envs, np.bool_)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[NDArray[np.int8], dict[str, Any]]:
        """Begin an episode in all environments, or in some.

        Args:
            seed: an integer s gives environment i the seed s + i; a sequence gives each its own. Where none
                is given, the seed follows from that of the environment's last episode.
            options: may hold "reset_mask", (N,) bool: the environments to reset, others are left alone.

        Returns:
            The observations of all environments, shape (N, B) int8; and an empty dictionary.

        Raises:
            SettingError: the number of seeds or the mask does not fit the number of environments.
        """
        if isinstance(seed, int | np.integer):
            super().reset(seed=int(seed))
            seed = range(int(seed), int(seed) + self.num_envs)
        chosen = self._reset_mask(options)
        reset_all(self._states, self._next_seeds(seed), chosen)
        self._is_running |= chosen
        self._was_reset |= chosen
        return self._observations(), {}

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[NDArray[np.int8], NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Play one step in every environment.

        Args:
            actions: (N,) integers, positions in `action_sets.action_names`.

        Returns:
            Observations (N, B) int8; rewards (N,) float64; terminations (N,) bool, all False; truncations
            (N,) bool; and a dictionary, empty unless SAME_STEP has reset environments.

        Raises:
            ResetNeeded: some environment has not been reset, or is at its horizon and nothing resets it.
            InvalidAction: the actions are not N integers, or there is no such action.
        """
        if not self._is_running.all():
            raise ResetNeeded("some environments have no episode running: call reset before step")
        chosen = self._checked_actions(actions)
        bits = np.empty((self.num_envs, self.settings.num_bits), np.int8)
        final_bits = np.empty_like(bits) if self.autoreset_mode is AutoresetMode.SAME_STEP else bits
        rewards = np.empty(self.num_envs)
        truncations = np.empty(self.num_envs, np.bool_)
        step_all(self._states, chosen, self._autoreset, rewards, truncations, bits, final_bits)
        if self.autoreset_mode is AutoresetMode.DISABLED:
            self._is_running &= ~truncations
        terminations = np.zeros(self.num_envs, np.bool_)
        return bits, rewards, terminations, truncations, self._final_info(truncations, final_bits)

    def red_access(self) -> NDArray[np.int8]:
        """Red's true hold on each host, (N, 13) int8 (see `Cage2Env.red_access`)."""
        access = np.empty((self.num_envs, NUM_HOSTS), np.int8)
        red_access_all(self._states, access)
        return access

    def _observations(self) -> NDArray[np.int8]:
        bits = np.empty((self.num_envs, self.settings.num_bits), np.int8)
        observe_all(self._states, bits)
        return bits

    def _reset_mask(self, options: dict[str, Any] | None) -> NDArray[np.bool_]:
        mask = (options or {}).get("reset_mask")
        if mask is None:
            return np.ones(self.num_envs, np.bool_)
        if not isinstance(mask, np.ndarray) or mask.shape != (self.num_envs,) or mask.dtype != np.bool_:
            raise SettingError(f"reset_mask must be a bool array of shape ({self.num_envs},), got {mask!r}")
        return mask

    def _next_seeds(self, seed: Sequence[int | None] | None) -> NDArray[np.uint64]:
        given = [None] * self.num_envs if seed is None else list(seed)
        if len(given) != self.num_envs:
            raise SettingError(f"expected {self.num_envs} seeds, one for each environment, got {len(given)}")
        following = self._following_seeds()
        return np.array(
            [f if g is None else g & SEED_MASK for f, g in zip(following, given, strict=True)], np.uint64
        )

    def _following_seeds(self) -> list[int]:
        """The seeds used where none is given: from the last episode's, or drawn where there was none."""
        drawn = self.np_random.integers(2**63, size=self.num_envs)
        return [
            int(next_seed(last)) if was_reset else int(new)
            for last, was_reset, new in zip(self._states["seed"], self._was_reset, drawn, strict=True)
        ]

    def _checked_actions(self, actions: NDArray[np.int64]) -> NDArray[np.int64]:
        chosen = np.asarray(actions)
        if chosen.shape != (self.num_envs,) or chosen.dtype.kind not in "iu":
            raise InvalidAction(
                f"actions must be {self.num_envs} integers, got {chosen.dtype} {chosen.shape}"
            )
        if chosen.min() < 0 or chosen.max() >= self._num_actions:
            raise InvalidAction(
                f"actions must be 0..{self._num_actions - 1}, got {chosen.min()}..{chosen.max()}"
            )
        return np.ascontiguousarray(chosen, np.int64)

    def _final_info(self, truncations: NDArray[np.bool_], final_bits: NDArray[np.int8]) -> dict[str, Any]:
        if self.autoreset_mode is not AutoresetMode.SAME_STEP or not truncations.any():
            return {}
        observations = np.full(self.num_envs, None, object)
        for i in np.flatnonzero(truncations):
            observations[i] = final_bits[i]
        mask = truncations.copy()
        return {"final_obs": observations, "_final_obs": mask, "final_info": {}, "_final_info": mask}


def _autoreset_mode(mode: AutoresetMode | str) -> AutoresetMode:
    try:
        return AutoresetMode(mode)
    except ValueError:
        allowed = ", ".join(m.value for m in AutoresetMode)
        raise SettingError(f"autoreset_mode must be one of {allowed}, got {mode!r}") from None
