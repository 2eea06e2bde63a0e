"""What blue remembers beyond one observation, kept from what it saw and did alone.

So it can be kept beside any simulator that shows the 52 bits; the native one keeps the same memories in its
own state (`observation`). Which decoys stand follows from blue's actions: nobody else installs any, and only
Restore takes them away.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from workflow_rl.cage2.blue import act
from workflow_rl.cage2.host_set import only
from workflow_rl.cage2.observation import SCANNED, write_memories
from workflow_rl.cage2.scenario import NUM_HOSTS, NUM_OBSERVATION_BITS
from workflow_rl.cage2.state import GameSettings, State, new_states, reset
from workflow_rl.compilation import compiled


class BlueMemory:
    """The memories that are asked for.

    Args:
        scan_memory: which hosts were ever seen scanned, and which one last.
        decoy_memory: which decoys stand on which host.

    Attributes:
        num_bits: of all of them, after the 52 of the observation.
    """

    def __init__(self, *, scan_memory: bool, decoy_memory: bool) -> None:
        settings = GameSettings(scan_memory=scan_memory, decoy_memory=decoy_memory)
        self.num_bits = settings.num_bits - NUM_OBSERVATION_BITS
        # Of a game in which red never acts: blue's own part is played on it.
        self._states = new_states(settings, 1)

    def begin(self, observation: NDArray[np.int8]) -> NDArray[np.int8]:
        """Forget everything, for an episode begins.

        Args:
            observation: the first one, (52,) int8.

        Returns:
            The observation and what is remembered, (52 + num_bits,) int8, as `observation.observe` writes it.
        """
        if self.num_bits:
            reset(self._states[0], np.uint64(0))
        return self._with_memories(observation)

    def remember(self, action: int, observation: NDArray[np.int8]) -> NDArray[np.int8]:
        """Take in a step.

        Args:
            action: blue's, 0..144.
            observation: after it, (52,) int8.

        Returns:
            As `begin`.
        """
        if self.num_bits:
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
    for host in range(NUM_HOSTS):
        if observation[4 * host] + 2 * observation[4 * host + 1] == SCANNED:
            state.seen_scanned |= only(host)
            state.last_scanned = host
