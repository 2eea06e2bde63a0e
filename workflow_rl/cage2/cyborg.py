"""The reference simulator, CybORG 2.1 from csle-cyborg, as a Gymnasium environment.

Blue is the player; red is one of `RED_AGENT_CHOICES`; green sleeps. A step takes about 2 ms, so the native
simulator trains and this one says what is right. What the environment adds to csle-cyborg:

- Gymnasium's contract: `reset(seed=...)`, five values from `step`, `truncated` at the horizon. CybORG itself
  never ends an episode, so `terminated` is always False.
- Randomness of its own. CybORG draws from Python's global `random`. Every environment here keeps a generator
  state, puts it in the global generator's place while CybORG runs, and puts back what it found. So an episode
  depends on its seed and the actions alone, whatever else draws from `random` and however many environments
  take turns, and nobody's generator is disturbed. The exchange costs about 20 microseconds a step. It is not
  made for threads: environments that step at the same time belong in processes.
- No torch. csle-cyborg's agents are imported without the package code that asks for stable-baselines3.
"""

from __future__ import annotations

import importlib
import importlib.util
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.error import InvalidAction, ResetNeeded
from numpy.typing import NDArray

from workflow_rl.cage2.action_sets import action_names
from workflow_rl.cage2.blue_memory import BlueMemory
from workflow_rl.cage2.cyborg_scenario import cyborg_scenario
from workflow_rl.cage2.scenario import (
    ACTION_NAMES,
    HOST_ACTIONS,
    HOST_NAMES,
    NO_ACCESS,
    NUM_HOSTS,
    NUM_OBSERVATION_BITS,
    PRIVILEGED_ACCESS,
    RED_AGENT_CHOICES,
    RED_MIXTURES,
    USER_ACCESS,
)
from workflow_rl.errors import MissingExtraError, SettingError
from workflow_rl.seeding import attacker_draw

_AGENT_MODULES = {"B_lineAgent": "b_line", "RedMeanderAgent": "meander", "SleepAgent": "sleep_agent"}
_HOST_INDEX = {name: index for index, name in enumerate(HOST_NAMES)}
_PRIVILEGED_USERS = frozenset({"root", "SYSTEM"})
_DECOY_PROCESSES = {
    "DecoyApache": "apache2",
    "DecoyFemitter": "femitter",
    "DecoyHarakaSMPT": "haraka",
    "DecoySmss": "Smss.exe",
    "DecoySSHD": "Sshd.exe",
    "DecoySvchost": "Svchost.exe",
    "DecoyTomcat": "Tomcat.exe",
    "DecoyVsftpd": "vsftpd",
}
"""The process that each decoy runs as. Source: concrete_actions/decoy_*.py, make_decoy."""
_NUM_SEEDS = 2**32
_SEED_MASK = 2**64 - 1


class CybORGEnv(gymnasium.Env[NDArray[np.int8], np.int64]):
    """CAGE Challenge 2 on the reference simulator, seen by blue.

    Observations are the 52 bits of the challenge's own wrapper: for each host in `HOST_NAMES` two bits of
    activity (00 none, 10 scan, 11 exploit) and two of compromise (00 no, 10 unknown, 01 user, 11 privileged);
    then the memories that are asked for (`blue_memory`).
    Actions are the numbers of `action_sets.action_names`. A simulator is built once for each attacker, of
    whom only a mixture has several, and serves every episode.

    Args:
        red_agent: the attacker, one of `RED_AGENT_CHOICES`.
        max_steps: length of an episode; the challenge scores 30, 50 and 100.
        scan_memory: add 26 bits: which hosts were seen scanned, and which one last.
        decoy_memory: add 104 bits: which decoys stand on which host.
        recency_memory: add 156 bits: how long ago hosts were seen scanned and exploited, and were restored.
        action_set: "all" or "next-decoy" (`action_sets`).

    Raises:
        SettingError: the attacker is unknown or the length is not positive.
        MissingExtraError: csle-cyborg is not installed.
    """

    observation_space: spaces.MultiBinary
    action_space: spaces.Discrete

    def __init__(
        self,
        red_agent: str = "B_lineAgent",
        max_steps: int = 100,
        *,
        scan_memory: bool = False,
        decoy_memory: bool = False,
        recency_memory: bool = False,
        action_set: str = "all",
    ) -> None:
        if red_agent not in RED_AGENT_CHOICES:
            raise SettingError(f"red_agent must be one of {', '.join(RED_AGENT_CHOICES)}, got {red_agent!r}")
        if max_steps < 1:
            raise SettingError(f"max_steps must be at least 1, got {max_steps}")
        self._memory = BlueMemory(
            scan_memory=scan_memory,
            decoy_memory=decoy_memory,
            recency_memory=recency_memory,
            action_set=action_set,
        )
        self.observation_space = spaces.MultiBinary(NUM_OBSERVATION_BITS + self._memory.num_bits)
        self.action_space = spaces.Discrete(len(action_names(action_set)))
        self._max_steps = max_steps
        self._generator = _OwnGenerator()
        import_csle_cyborg()
        self._attackers = RED_MIXTURES.get(red_agent, (red_agent,))
        with self._generator.in_use():
            self._simulators = {name: _build_simulator(name) for name in dict.fromkeys(self._attackers)}
        self._actions = _blue_actions()
        self._face(0)
        self._steps_left = 0
        self._last_action: int | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.int8], dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: decides the whole episode, given the actions: it is what `random.seed` would be given before
                a plain CybORG reset. Without it the next seed is drawn from `np_random`.
            options: not used.

        Returns:
            The observation, shape (52 or more,) int8, always all zeros; and an empty dictionary.
        """
        super().reset(seed=seed, options=options)
        episode_seed = int(self.np_random.integers(_NUM_SEEDS)) if seed is None else seed
        self._generator.seed(episode_seed)
        self._face(attacker_draw(np.uint64(episode_seed & _SEED_MASK), len(self._attackers)))
        with self._generator.in_use():
            result = self._simulator.reset("Blue")
        self._steps_left = self._max_steps
        self._last_action = None
        return self._memory.begin(result.observation.astype(np.int8)), {}

    def step(self, action: int | np.int64) -> tuple[NDArray[np.int8], float, bool, bool, dict[str, Any]]:
        """Let blue act, then green, then red.

        Args:
            action: a position in `action_sets.action_names`.

        Returns:
            The observation, shape (52 or more,) int8; the reward, at most 0; False; whether the horizon is
            reached; and an empty dictionary.

        Raises:
            ResetNeeded: no episode is running.
            InvalidAction: there is no such action.
        """
        if self._steps_left == 0:
            raise ResetNeeded("no episode is running: call reset before step")
        if not self.action_space.contains(action):
            raise InvalidAction(f"action must be an integer 0..{self.action_space.n - 1}, got {action!r}")
        self._last_action = self._memory.action_meant(int(action))
        with self._generator.in_use():
            result = self._simulator.step("Blue", self._actions[self._last_action])
        self._steps_left -= 1
        observation = self._memory.remember(self._last_action, result.observation.astype(np.int8))
        return observation, float(result.reward), False, self._steps_left == 0, {}

    def red_access(self) -> NDArray[np.int8]:
        """Red's true hold on each host, hidden from blue.

        It is read from the session table in microseconds. The simulator's own true-state query says the same
        and takes half as long as a step.

        Returns:
            Shape (13,) int8 in the order of `HOST_NAMES`: 0 none, 1 a session as an ordinary user, 2 one as
            root or SYSTEM (`NO_ACCESS`, `USER_ACCESS` and `PRIVILEGED_ACCESS` of `scenario`).
        """
        access = [NO_ACCESS] * NUM_HOSTS
        for session in self._controller.state.sessions["Red"].values():
            level = PRIVILEGED_ACCESS if session.username in _PRIVILEGED_USERS else USER_ACCESS
            host = _HOST_INDEX[session.host]
            access[host] = max(access[host], level)
        return np.array(access, np.int8)

    def decoys(self) -> tuple[tuple[str, ...], ...]:
        """The decoys that stand on each host, read from its processes.

        Returns:
            For each of `HOST_NAMES` the actions that made them, e.g. ("DecoyApache",), in the order of
            `HOST_ACTIONS`.
        """
        return tuple(self._decoys_on(self._controller.state.hosts[name]) for name in HOST_NAMES)

    def last_actions(self) -> tuple[str, str] | None:
        """What blue and red did in the last step, e.g. ("Restore User4", "ExploitRemoteService User1").

        Returns:
            Blue's action as in `ACTION_NAMES` and red's with its target's name; None before the first step of
            an episode.
        """
        if self._last_action is None:
            return None
        return ACTION_NAMES[self._last_action], self._red_action_name()

    def _face(self, attacker: int) -> None:
        """Play in the simulator of the attacker that was drawn."""
        self._simulator = self._simulators[self._attackers[attacker]]
        self._controller = self._simulator.get_attr("environment_controller")

    def _decoys_on(self, host: Any) -> tuple[str, ...]:
        running = {process.name for process in host.processes if process.decoy_type}
        return tuple(action for action, process in _DECOY_PROCESSES.items() if process in running)

    def _red_action_name(self) -> str:
        action = self._controller.action["Red"]
        parameters = vars(action)
        if "ip_address" in parameters:
            target = self._controller.state.ip_addresses[parameters["ip_address"]]
        elif "subnet" in parameters:
            target = self._controller.state.subnets[parameters["subnet"]].name
        else:
            target = parameters.get("hostname", "")
        return f"{type(action).__name__} {target}".rstrip()


class _OwnGenerator:
    """A random stream that takes the place of Python's global generator for a while."""

    def __init__(self) -> None:
        self.seed(0)

    def seed(self, seed: int) -> None:
        """Begin the stream that `random.seed(seed)` begins."""
        self._state = random.Random(seed).getstate()

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Let the functions of `random` draw from this stream; afterwards the global one is as before."""
        global_state = random.getstate()
        random.setstate(self._state)
        try:
            yield
        finally:
            self._state = random.getstate()
            random.setstate(global_state)


def import_csle_cyborg() -> None:
    """Import csle-cyborg's simulator and red agents, keeping torch out of the process.

    `csle_cyborg/agents/__init__.py` imports an agent that loads policies with stable-baselines3, which brings
    torch and which csle-cyborg does not declare as a dependency; and the simulator imports that package. So a
    package of that name that finds its modules and holds the agents we use, but has not run that file, is put
    in its place first. The other agents can still be imported from their own modules. If the real package was
    imported earlier, it is used.

    Raises:
        MissingExtraError: csle-cyborg is not installed.
    """
    try:
        csle_cyborg: Any = importlib.import_module("csle_cyborg")
    except ImportError as error:
        raise MissingExtraError("csle-cyborg", "cyborg", "the reference simulator") from error
    if "csle_cyborg.agents" not in sys.modules:
        csle_cyborg.agents = _agents_package()
    importlib.import_module("csle_cyborg.main")


def _agents_package() -> Any:
    """`csle_cyborg.agents` with our agents in it, its own code not run."""
    spec = importlib.util.find_spec("csle_cyborg.agents")
    assert spec is not None, "csle_cyborg has a package of agents"
    package = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = package
    for agent, module_name in _AGENT_MODULES.items():
        module = importlib.import_module(f"{spec.name}.simple_agents.{module_name}")
        setattr(package, agent, getattr(module, agent))
    return package


def _build_simulator(red_agent: str) -> Any:
    """CybORG under the wrapper that makes the 52 bits.

    The challenge's ChallengeWrapper puts two more on top. One of them rebuilds all 145 actions on every step,
    which `_blue_actions` spares (about 7 % of a step); the other is Gym's old interface.
    """
    from csle_cyborg import agents
    from csle_cyborg.agents.wrappers.blue_table_wrapper import BlueTableWrapper
    from csle_cyborg.main import Main

    return BlueTableWrapper(
        Main(cyborg_scenario(), "sim", agents={"Red": getattr(agents, red_agent)}), output_mode="vector"
    )


def _blue_actions() -> tuple[Any, ...]:
    """CybORG's objects for the actions of `ACTION_NAMES`. Blue's hold no state, so they serve every step."""
    from csle_cyborg.shared import actions

    by_blue = {"session": 0, "agent": "Blue"}
    return (
        actions.Sleep(),
        actions.Monitor(**by_blue),
        *(getattr(actions, kind)(**by_blue, hostname=name) for kind in HOST_ACTIONS for name in HOST_NAMES),
    )
