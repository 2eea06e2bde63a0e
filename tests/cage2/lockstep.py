"""Plays one episode on both simulators at once, with the reference's choices handed to the native rules.

Listening to the reference takes three hooks in csle-cyborg's modules: on the detection draw, on the choice of
the session to escalate, and on process ids. The first two only listen; the third keeps an id from being used
twice in an episode (the reference may reuse one; the native simulator does not model that).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from policies import Policy

from workflow_rl.cage2.cyborg import CybORGEnv
from workflow_rl.cage2.generator import Chance
from workflow_rl.cage2.observation import observe
from workflow_rl.cage2.red import choose_exploit, exploit_options
from workflow_rl.cage2.red_agents import decide
from workflow_rl.cage2.scenario import HOST_NAMES, NUM_HOSTS, NUM_OBSERVATION_BITS, SUBNETS
from workflow_rl.cage2.state import GameSettings, new_states, reset
from workflow_rl.cage2.step import advance
from workflow_rl.cage2.tables import (
    ACTION_HOST,
    DECOY_NAMES,
    EXPLOIT_NAMES,
    EXPLOITABLE_PORTS,
    RED_ACTION_NAMES,
)

MEMORIES = {"scan_memory": True, "decoy_memory": True, "recency_memory": True}

DECOY_PROCESS_NAMES = {
    "apache2": "DecoyApache",
    "femitter": "DecoyFemitter",
    "haraka": "DecoyHarakaSMPT",
    "Smss.exe": "DecoySmss",
    "Sshd.exe": "DecoySSHD",
    "Svchost.exe": "DecoySvchost",
    "Tomcat.exe": "DecoyTomcat",
    "vsftpd": "DecoyVsftpd",
}


@dataclass(frozen=True)
class View:
    """All that is compared after a step, in the reference's own words."""

    observation: tuple[int, ...]
    reward: float
    privileged_sessions: dict[str, int]
    removable_sessions: dict[str, int]
    hidden_sessions: dict[str, int]
    decoys: dict[str, set[str]]
    infected: set[str]
    is_service_stopped: bool
    known_ports: dict[str, set[int]]
    known_addresses: set[str]
    known_hosts: set[str]
    known_subnets: set[str]
    is_service_known: bool
    red_action: str
    red_target: str
    red_succeeded: bool
    agent_memory: dict[str, Any]

    def differences(self, other: View) -> str:
        """The fields in which two views differ, one a line."""
        pairs = ((f.name, getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return "\n".join(f"{name}: {mine} != {theirs}" for name, mine, theirs in pairs if mine != theirs)


@dataclass
class Choices:
    """What the reference left to chance in the current step, None where it did not come to that."""

    is_detected: bool | None = None
    escalated_pid: int | None = None
    used_pids: set[int] = field(default_factory=set)


@contextmanager
def listening(choices: Choices) -> Iterator[None]:
    """Note the reference's choices while it runs."""
    from csle_cyborg.shared.actions.abstract_actions import privilege_escalate
    from csle_cyborg.shared.actions.concrete_actions import exploit_action
    from csle_cyborg.simulator import host

    def detection_draw() -> float:
        value = random.random()
        choices.is_detected = value < 0.95
        return value

    def session_choice(sessions: list[Any]) -> Any:
        session = random.choice(sessions)
        choices.escalated_pid = session.pid
        return session

    def unused_number(*limits: int) -> int:
        value = random.randrange(*limits)
        while limits == (32768,) and value in choices.used_pids:
            value = random.randrange(*limits)
        choices.used_pids.add(value)
        return value

    originals = exploit_action.random, privilege_escalate.choice, host.randrange
    exploit_action.random, privilege_escalate.choice, host.randrange = (
        detection_draw,
        session_choice,
        unused_number,
    )
    try:
        yield
    finally:
        exploit_action.random, privilege_escalate.choice, host.randrange = originals


class Reference:
    """The reference simulator, opened up."""

    def __init__(self, red_agent: str) -> None:
        self.env = CybORGEnv(red_agent, max_steps=10_000, **MEMORIES)
        self.choices = Choices()

    def reset(self, seed: int) -> None:
        self.choices = Choices()
        with listening(self.choices):
            self.env.reset(seed=seed)

    def step(self, action: int) -> View:
        self.choices = Choices(used_pids=self.choices.used_pids)
        self.noticed_before = {h: set(pids) for h, pids in self._state.sessions["Blue"][0].sus_pids.items()}
        with listening(self.choices):
            observation, reward, _, _, _ = self.env.step(action)
        return self._view(observation, reward)

    @property
    def _controller(self) -> Any:
        return self.env._controller

    @property
    def _state(self) -> Any:
        return self._controller.state

    @property
    def red_action(self) -> Any:
        return self._controller.action["Red"]

    def red_target(self) -> str:
        action = vars(self.red_action)
        if "ip_address" in action:
            return self._state.ip_addresses[action["ip_address"]]
        if "subnet" in action:
            return self._state.subnets[action["subnet"]].name
        return action.get("hostname", "")

    def exploit(self) -> str | None:
        """The exploit that ExploitRemoteService chose."""
        chosen = getattr(self.red_action, "sub_action", None)
        return None if chosen is None else type(chosen).__name__

    def escalated_was_noticed(self) -> bool:
        return self.choices.escalated_pid in self.noticed_before.get(self.red_target(), ())

    def _sessions(self) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
        privileged, removable, hidden = ({name: 0 for name in HOST_NAMES} for _ in range(3))
        noticed = self._state.sessions["Blue"][0].sus_pids
        for session in self._state.sessions["Red"].values():
            if session.username in ("root", "SYSTEM"):
                privileged[session.host] += 1
            elif session.pid in noticed.get(session.host, ()):
                removable[session.host] += 1
            else:
                hidden[session.host] += 1
        return privileged, removable, hidden

    def _decoys(self, name: str) -> set[str]:
        processes = self._state.hosts[name].processes
        return {DECOY_PROCESS_NAMES[p.name] for p in processes if p.decoy_type.value}

    def _known_ports(self, name: str) -> set[int]:
        by_address = self._state.sessions["Red"][0].ports
        ports = [
            port for ip, ports in by_address.items() if self._state.ip_addresses[ip] == name for port in ports
        ]
        return set(ports) & set(EXPLOITABLE_PORTS)

    def _memory(self) -> dict[str, Any]:
        agent = self._controller.agent_interfaces["Red"].agent
        names = self._state.ip_addresses
        if type(agent).__name__ == "B_lineAgent":
            target = agent.action_history[1].ip_address if 1 in agent.action_history else None
            return {"stage": agent.action, "first_target": names.get(target)}
        if type(agent).__name__ == "RedMeanderAgent":
            return {
                "swept_subnets": {self._state.subnets[s].name for s in agent.scanned_subnets},
                "scanned": {names[ip] for ip in agent.scanned_ips},
                "exploited": {names[ip] for ip in agent.exploited_ips},
                "escalated": set(agent.escalated_hosts),
                "located": {host for host, ip in agent.host_ip_map.items() if names[ip] == host},
            }
        return {}

    def _view(self, observation: np.ndarray, reward: float) -> View:
        space = self._controller.agent_interfaces["Red"].action_space
        privileged, removable, hidden = self._sessions()
        state = self._state
        return View(
            observation=tuple(observation.tolist()),
            reward=reward,
            privileged_sessions=privileged,
            removable_sessions=removable,
            hidden_sessions=hidden,
            decoys={name: self._decoys(name) for name in HOST_NAMES},
            infected={name for name in HOST_NAMES if state.hosts[name].files},
            is_service_stopped=all(p.name != "OTService" for p in state.hosts["Op_Server0"].processes),
            known_ports={name: self._known_ports(name) for name in HOST_NAMES},
            known_addresses={state.ip_addresses[ip] for ip, known in space.ip_address.items() if known},
            known_hosts={name for name, known in space.hostname.items() if known},
            known_subnets={state.subnets[cidr].name for cidr, known in space.subnet.items() if known},
            is_service_known=state.sessions["Red"][0].ot_service is not None,
            red_action=type(self.red_action).__name__,
            red_target=self.red_target(),
            red_succeeded=self._controller.observation["Red"].data["success"] == True,  # noqa: E712  # trinary
            agent_memory=self._memory(),
        )


class Native:
    """The native simulator, driven by the reference's choices."""

    def __init__(self, settings: GameSettings) -> None:
        settings = replace(settings, **MEMORIES)
        self.states = new_states(settings, 1)
        self.bits = np.zeros(settings.num_bits, np.int8)
        self.reset(0)

    def reset(self, seed: int) -> None:
        reset(self.states[0], np.uint64(seed))

    def step(self, action: int, chance: Chance) -> View:
        reward = advance(self.states[0], action, chance)
        observe(self.states[0], self.bits)
        return self._view(reward)

    def chance(self, reference: Reference) -> Chance:
        """Chances under which the native rules choose what the reference chose in its last step."""
        return Chance(
            target=self._target_chance(reference.red_target()),
            exploit=self._exploit_chance(reference.red_target(), reference.exploit()),
            detection=0.5 if reference.choices.is_detected else 0.99,
            session=0.0 if reference.escalated_was_noticed() else 1.0 - 2.0**-32,
        )

    def _target_chance(self, target: str) -> float:
        # Any of n <= 13 equally likely hosts is met by one of 26 evenly spaced numbers.
        for chance in (np.arange(2 * NUM_HOSTS) + 0.5) / (2 * NUM_HOSTS):
            trial = self.states.copy()
            decision = decide(trial[0], Chance(chance, 0.0, 0.0, 0.0))
            if self._target_name(decision.action, decision.target) == target:
                return float(chance)
        return 0.0

    def _exploit_chance(self, target: str, exploit: str | None) -> float:
        if exploit is None or target not in HOST_NAMES:
            return 0.0
        options = exploit_options(int(self.states[0]["known_ports"][HOST_NAMES.index(target)]))
        for chance in (0.0, *(0.75 + 0.25 * (np.arange(16) + 0.5) / 16)):
            chosen = choose_exploit(options, chance)
            if chosen >= 0 and EXPLOIT_NAMES[chosen] == exploit:
                return float(chance)
        return 0.0

    def _target_name(self, action: int, target: int) -> str:
        if target < 0:
            return ""
        return (
            SUBNETS[target].name
            if RED_ACTION_NAMES[action] == "DiscoverRemoteSystems"
            else HOST_NAMES[target]
        )

    def _memory(self) -> dict[str, Any]:
        state = self.states[0]
        if state["red_agent"] == 0:
            chosen = int(state["first_target"])
            return {"stage": int(state["stage"]), "first_target": HOST_NAMES[chosen] if chosen >= 0 else None}
        if state["red_agent"] == 1:
            names = ("scanned", "exploited", "escalated", "located")
            return {"swept_subnets": _subnets(state["swept_subnets"])} | {n: _hosts(state[n]) for n in names}
        return {}

    def _view(self, reward: float) -> View:
        state = self.states[0]
        return View(
            observation=tuple(self.bits.tolist()),
            reward=reward,
            privileged_sessions=_per_host(state["privileged_sessions"]),
            removable_sessions=_per_host(state["removable_sessions"]),
            hidden_sessions=_per_host(state["hidden_sessions"]),
            decoys={n: _members(state["decoys"][h], DECOY_NAMES) for h, n in enumerate(HOST_NAMES)},
            infected=_hosts(state["infected"]),
            is_service_stopped=bool(state["is_service_stopped"]),
            known_ports={
                n: _members(state["known_ports"][h], EXPLOITABLE_PORTS) for h, n in enumerate(HOST_NAMES)
            },
            known_addresses=_hosts(state["known_addresses"]),
            known_hosts=_hosts(state["known_hosts"]),
            known_subnets=_subnets(state["known_subnets"]),
            is_service_known=bool(state["is_service_known"]),
            red_action=RED_ACTION_NAMES[state["red_action"]],
            red_target=self._target_name(state["red_action"], int(state["red_target"])),
            red_succeeded=bool(state["red_succeeded"]),
            agent_memory=self._memory(),
        )


def _members(members: int, names: tuple[Any, ...]) -> set[Any]:
    return {name for i, name in enumerate(names) if int(members) >> i & 1}


def _hosts(members: int) -> set[str]:
    return _members(members, HOST_NAMES)


def _subnets(members: int) -> set[str]:
    return _members(members, tuple(subnet.name for subnet in SUBNETS))


def _per_host(values: np.ndarray) -> dict[str, int]:
    return dict(zip(HOST_NAMES, values.tolist(), strict=True))


@dataclass
class Coverage:
    """Which of blue's actions were taken while their host was compromised, and while it was clean."""

    on_compromised: set[int] = field(default_factory=set)
    on_clean: set[int] = field(default_factory=set)

    def note(self, action: int, access: np.ndarray) -> None:
        host = ACTION_HOST[action]
        (self.on_compromised if host >= 0 and access[host] else self.on_clean).add(action)


def play_in_lockstep(
    reference: Reference, native: Native, policy: Policy, seed: int, num_steps: int, coverage: Coverage
) -> None:
    """Play an episode on both and raise AssertionError at the first difference."""
    generator = np.random.default_rng(seed)
    reference.reset(seed)
    native.reset(seed)
    observation = np.zeros(NUM_OBSERVATION_BITS, np.int8)
    history: list[str] = []
    for step in range(num_steps):
        access = reference.env.red_access()
        action = int(policy(observation[np.newaxis], access[np.newaxis], step, generator)[0])
        coverage.note(action, access)
        expected = reference.step(action)
        actual = native.step(action, native.chance(reference))
        history.append(f"{step}: {reference.env.last_actions()}")
        assert actual == expected, (
            f"{policy.__name__}, seed {seed}, step {step}, native != reference:\n"
            f"{actual.differences(expected)}\n" + "\n".join(history[-12:])
        )
        observation = np.array(expected.observation[:NUM_OBSERVATION_BITS], np.int8)
