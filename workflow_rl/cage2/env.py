"""The native simulator as a Gymnasium environment.

The same game as `cyborg.CybORGEnv`, with the same arguments and accessors, some hundred times faster (more in
`vector_env` and in compiled code). The first step in a fresh installation compiles the rules, which takes
some seconds; afterwards they are loaded from numba's cache.
"""

from __future__ import annotations

import operator
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.error import InvalidAction, ResetNeeded
from numpy.typing import NDArray

from workflow_rl.cage2.action_sets import action_names
from workflow_rl.cage2.batch import Autoreset, observe_all, red_access_all, reset_all, step_all
from workflow_rl.cage2.generator import next_seed
from workflow_rl.cage2.host_set import contains
from workflow_rl.cage2.scenario import ACTION_NAMES, HOST_NAMES, NUM_HOSTS, RED_AGENTS, SUBNETS
from workflow_rl.cage2.state import GameSettings, new_states
from workflow_rl.cage2.tables import DECOY_NAMES, NO_HOST, RED_ACTION_NAMES, RED_SLEEP, SWEEP

SEED_MASK = 2**64 - 1
"""Seeds are used modulo 2**64."""


class Cage2Env(gymnasium.Env[NDArray[np.int8], np.int64]):
    """CAGE Challenge 2 on the native simulator, seen by blue.

    Observations are 52 bits (`observation`), more with the memories; actions are the numbers of
    `action_sets.action_names`. The game has no end of its own: `terminated` is always False, `truncated` says
    that the horizon is reached.

    An episode depends on its seed and blue's actions alone, and is the same in `Cage2VectorEnv` and in
    compiled code. An episode started without a seed takes one that follows from the last episode's; the first
    one draws it from `np_random`.

    Args:
        red_agent: the attacker, one of `scenario.RED_AGENT_CHOICES`; `last_actions` tells a mixture's apart.
        max_steps: length of an episode; the challenge scores 30, 50 and 100.
        rules: "2.1" or "leaderboard" (`state.GameSettings`).
        observation: "official" or "corrected".
        scan_memory: add 26 bits on which hosts were seen scanned.
        decoy_memory: add 104 bits on which decoys stand.
        recency_memory: add 156 bits on how long ago hosts were seen scanned and exploited, and were restored.
        action_set: "all" or "next-decoy" (`action_sets`).

    Raises:
        SettingError: a value is not one of those allowed.
    """

    observation_space: spaces.MultiBinary
    action_space: spaces.Discrete

    def __init__(
        self,
        red_agent: str = "B_lineAgent",
        max_steps: int = 100,
        rules: str = "2.1",
        observation: str = "official",
        scan_memory: bool = False,
        decoy_memory: bool = False,
        recency_memory: bool = False,
        action_set: str = "all",
    ) -> None:
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
        self.observation_space = spaces.MultiBinary(self.settings.num_bits)
        self._num_actions = len(action_names(action_set))
        self.action_space = spaces.Discrete(self._num_actions)
        self._states = new_states(self.settings, 1)
        self._seed: int | None = None
        self._steps_left = 0
        self._actions = np.zeros(1, np.int64)
        self._rewards = np.zeros(1)
        self._truncations = np.zeros(1, np.bool_)
        self._bits = np.zeros((1, self.settings.num_bits), np.int8)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.int8], dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: decides the whole episode, given the actions.
            options: not used.

        Returns:
            The observation, shape (B,) int8, always all zeros; and an empty dictionary.
        """
        super().reset(seed=seed, options=options)
        if seed is not None:
            self._seed = seed & SEED_MASK
        elif self._seed is not None:
            self._seed = int(next_seed(np.uint64(self._seed)))
        else:
            self._seed = int(self.np_random.integers(2**63))
        reset_all(self._states, np.array([self._seed], np.uint64), np.ones(1, np.bool_))
        observe_all(self._states, self._bits)
        self._steps_left = self.settings.max_steps
        return self._bits[0].copy(), {}

    def step(self, action: int | np.int64) -> tuple[NDArray[np.int8], float, bool, bool, dict[str, Any]]:
        """Let blue act, then green, then red.

        Args:
            action: a position in `action_sets.action_names`.

        Returns:
            The observation, shape (B,) int8; the reward, at most 0; False; whether the horizon is reached;
            and an empty dictionary.

        Raises:
            ResetNeeded: no episode is running.
            InvalidAction: there is no such action.
        """
        if self._steps_left == 0:
            raise ResetNeeded("no episode is running: call reset before step")
        self._actions[0] = self._checked(action)
        step_all(
            self._states,
            self._actions,
            _NO_AUTORESET,
            self._rewards,
            self._truncations,
            self._bits,
            self._bits,
        )
        self._steps_left -= 1
        return self._bits[0].copy(), self._rewards.item(), False, self._steps_left == 0, {}

    def new_states(self, count: int) -> NDArray[np.void]:
        """States for compiled code that plays under this environment's settings, (count,) `state.STATE`."""
        return new_states(self.settings, count)

    def hand_over(self, red_agent: str) -> None:
        """Let another attacker, one of `scenario.RED_AGENTS`, go on with the episode from the next step.

        It has the sessions of the one before and knows what that learnt of the network, but begins its own
        plan from the start.
        """
        state = self._states[0]
        state["red_agent"] = RED_AGENTS.index(red_agent)
        state["red_action"], state["red_target"], state["red_succeeded"] = RED_SLEEP, NO_HOST, False

    def red_access(self) -> NDArray[np.int8]:
        """Red's true hold on each host, hidden from blue.

        Returns:
            Shape (13,) int8 in the order of `scenario.HOST_NAMES`: 0 none, 1 a session as an ordinary user, 2
            one as root or SYSTEM (`NO_ACCESS`, `USER_ACCESS` and `PRIVILEGED_ACCESS` of `scenario`).
        """
        access = np.empty(NUM_HOSTS, np.int8)
        red_access_all(self._states, access[np.newaxis])
        return access

    def decoys(self) -> tuple[tuple[str, ...], ...]:
        """The decoys that stand on each host.

        Returns:
            For each of `scenario.HOST_NAMES` the actions that made them, e.g. ("DecoyApache",), in the order
            of `tables.DECOY_NAMES`.
        """
        sets = self._states[0]["decoys"]
        return tuple(
            tuple(name for decoy, name in enumerate(DECOY_NAMES) if contains(decoys, decoy))
            for decoys in sets
        )

    def last_actions(self) -> tuple[str, str] | None:
        """What blue and red did in the last step, e.g. ("Restore User4", "ExploitRemoteService User1").

        Returns:
            Blue's action as in `scenario.ACTION_NAMES` and red's with its target's name; None before the
            first step of an episode.
        """
        state = self._states[0]
        if state["step"] == 0:
            return None
        kind, target = int(state["red_action"]), int(state["red_target"])
        target_name = SUBNETS[target].name if kind == SWEEP else HOST_NAMES[target]
        blue_action, red_action = ACTION_NAMES[state["blue_action"]], RED_ACTION_NAMES[kind]
        return blue_action, red_action if target == NO_HOST else f"{red_action} {target_name}"

    def _checked(self, action: int | np.int64) -> int:
        try:
            index = operator.index(action)
        except TypeError:
            index = -1
        if not 0 <= index < self._num_actions:
            raise InvalidAction(f"action must be an integer 0..{self._num_actions - 1}, got {action!r}")
        return index


_NO_AUTORESET = int(Autoreset.DISABLED)
