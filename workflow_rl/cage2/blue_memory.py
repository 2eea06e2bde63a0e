"""What blue remembers beyond one observation, kept from what it saw and did alone.

So it can be kept beside any simulator that shows the 52 bits; the native one keeps the same memories in its
own state (`observation`). Which decoys stand follows from blue's actions: nobody else installs any, and only
Restore takes them away.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from workflow_rl.cage2.action_sets import action_meant
from workflow_rl.cage2.blue import act
from workflow_rl.cage2.observation import NO_ACTIVITY, remember, write_memories
from workflow_rl.cage2.scenario import NUM_HOSTS, NUM_OBSERVATION_BITS
from workflow_rl.cage2.state import GameSettings, State, new_states, reset
from workflow_rl.compilation import compiled


class BlueMemory:
    """The memories that are asked for.

    Args:
        scan_memory: which hosts were ever seen scanned, and which one last.
        decoy_memory: which decoys stand on which host.
        recency_memory: how long ago each host was seen scanned and exploited, and was restored.
        action_set: from which blue chooses; "next-decoy" needs to know what stands.

    Attributes:
        num_bits: of all of them, after the 52 of the observation.
    """

    def __init__(
        self,
        *,
        scan_memory: bool = False,
        decoy_memory: bool = False,
        recency_memory: bool = False,
        action_set: str = "all",
    ) -> None:
        settings = GameSettings(
            scan_memory=scan_memory,
            decoy_memory=decoy_memory,
            recency_memory=recency_memory,
            action_set=action_set,
        )
        self.num_bits = settings.num_bits - NUM_OBSERVATION_BITS
        self._is_needed = self.num_bits > 0 or action_set != "all"
        # Of a game in which red never acts: blue's own part is played on it.
        self._states = new_states(settings, 1)

    def begin(self, observation: NDArray[np.int8]) -> NDArray[np.int8]:
        """Forget everything, for an episode begins.

        Args:
            observation: the first one, (52,) int8.

        Returns:
            The observation and what is remembered, (52 + num_bits,) int8, as `observation.observe` writes it.
        """
        if self._is_needed:
            reset(self._states[0], np.uint64(0))
        return self._with_memories(observation)

    def action_meant(self, choice: int) -> int:
        """The action 0..144 that a choice from blue's action set stands for now."""
        return int(action_meant(self._states[0], choice))

    def remember(self, action: int, observation: NDArray[np.int8]) -> NDArray[np.int8]:
        """Take in a step.

        Args:
            action: blue's, 0..144, as `action_meant` gives it.
            observation: after it, (52,) int8.

        Returns:
            As `begin`.
        """
        if self._is_needed:
            _remember(self._states[0], action, observation)
        return self._with_memories(observation)

    def _with_memories(self, observation: NDArray[np.int8]) -> NDArray[np.int8]:
        if not self.num_bits:
            return observation
        memories = np.zeros(self.num_bits, np.int8)
        write_memories(self._states[0], memories)
        return np.concatenate([observation, memories])


@compiled
def _remember(state: State, action: int, observation: NDArray[np.int8]) -> None:
    act(state, action)
    state.activity = NO_ACTIVITY
    for host in range(NUM_HOSTS):
        activity = observation[4 * host] + 2 * observation[4 * host + 1]
        if activity != NO_ACTIVITY:
            state.activity = activity
            state.activity_host = host
    remember(state, action)
    state.step += 1
