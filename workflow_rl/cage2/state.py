"""One episode's state: everything that changes, and the settings it is played under.

A state is one record of `STATE`; thousands of environments are one array of them. Compiled code reads and
writes the fields by name (`state.decoys[host]`), a lone record and an element of an array alike.

Sessions are counted, not listed. As far as any rule can tell, red's sessions on a host differ only in whether
they are privileged and, if not, in whether blue's Remove can kill them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workflow_rl.cage2.host_set import EMPTY, only
from workflow_rl.cage2.scenario import (
    NUM_HOSTS,
    NUM_OBSERVATION_BITS,
    RED_AGENT_CHOICES,
    RED_AGENTS,
    RED_MIXTURES,
)
from workflow_rl.cage2.tables import (
    ATTACKERS_DRAWN,
    FOOTHOLD,
    NO_HOST,
    NO_MIXTURE,
    NUM_ATTACKERS_DRAWN,
    NUM_DECOYS,
    RED_SLEEP,
    SUBNET_OF,
)
from workflow_rl.compilation import compiled
from workflow_rl.errors import SettingError
from workflow_rl.seeding import attacker_draw, mix64

RULE_SETS = ("2.1", "leaderboard")
OBSERVATIONS = ("official", "corrected")
ACTION_SETS = ("all", "next-decoy")

SCAN_SEEN, EXPLOIT_SEEN, OWN_RESTORE = range(3)
"""What the memory of recency tells of each host."""
NUM_REMEMBERED_EVENTS = 3
RECENCIES = (2, 4, 8, 16)
"""Steps: the memory of recency has a bit for each, whether the last event is at most so long ago."""
_LONG_AGO = -RECENCIES[-1] - 1

NUM_SCAN_MEMORY_BITS = 2 * NUM_HOSTS
NUM_DECOY_MEMORY_BITS = NUM_DECOYS * NUM_HOSTS
NUM_RECENCY_MEMORY_BITS = NUM_REMEMBERED_EVENTS * NUM_HOSTS * len(RECENCIES)


def _require(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise SettingError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


@dataclass(frozen=True)
class GameSettings:
    """What is decided before an episode starts.

    Attributes:
        red_agent: one of `scenario.RED_AGENT_CHOICES`.
        max_steps: steps after which an episode is cut off.
        rules: "2.1", CybORG at its last commit, which csle-cyborg is a port of; or "leaderboard", the commit
            of 12 August 2022 that CAGE Challenge 2 was scored on. They differ in two places: on the
            leaderboard's rules a port scan adds to what red knows of a host instead of replacing it, and
            HarakaRCE no longer works on a host after Restore.
        observation: "official", the challenge's wrapper; or "corrected", as the challenge's winner used it.
        scan_memory: add 26 bits: per host whether it was ever seen scanned, and whether it was the last one.
        decoy_memory: add 104 bits: the decoys that blue has standing, per host in the order of its actions.
        recency_memory: add 156 bits: per host whether its last scan and its last exploit that blue saw, and
            blue's own last Restore, are at most 2, 4, 8 or 16 steps ago.
        action_set: "all", the challenge's 145 actions; or "next-decoy", 39 (`action_sets`).

    Raises:
        SettingError: a value is not one of those allowed.
    """

    red_agent: str = "B_lineAgent"
    max_steps: int = 100
    rules: str = "2.1"
    observation: str = "official"
    scan_memory: bool = False
    decoy_memory: bool = False
    recency_memory: bool = False
    action_set: str = "all"

    def __post_init__(self) -> None:
        _require("red_agent", self.red_agent, RED_AGENT_CHOICES)
        _require("rules", self.rules, RULE_SETS)
        _require("observation", self.observation, OBSERVATIONS)
        _require("action_set", self.action_set, ACTION_SETS)
        if self.max_steps < 1:
            raise SettingError(f"max_steps must be at least 1, got {self.max_steps}")

    @property
    def num_bits(self) -> int:
        """Length of the observation: 52 bits and the memories asked for."""
        scans = NUM_SCAN_MEMORY_BITS if self.scan_memory else 0
        decoys = NUM_DECOY_MEMORY_BITS if self.decoy_memory else 0
        recencies = NUM_RECENCY_MEMORY_BITS if self.recency_memory else 0
        return NUM_OBSERVATION_BITS + scans + decoys + recencies


_PER_HOST = (np.int16, (NUM_HOSTS,))

STATE = np.dtype(
    (
        np.record,
        np.dtype(
            [
                # settings
                ("mixture", np.int8),  # number of the mixture that attackers are drawn from, or NO_MIXTURE
                ("is_leaderboard", np.bool_),
                ("is_corrected", np.bool_),
                ("has_scan_memory", np.bool_),
                ("has_decoy_memory", np.bool_),
                ("has_recency_memory", np.bool_),
                ("has_next_decoy_actions", np.bool_),
                ("max_steps", np.int32),
                # the episode
                ("red_agent", np.int8),  # who attacks; a setting too unless attackers are mixed
                ("seed", np.uint64),
                ("key", np.uint64),  # a hash of the seed, from which all chances are counted
                ("step", np.int32),  # steps taken
                # the network
                ("decoys", *_PER_HOST),  # sets of decoys
                ("privileged_sessions", *_PER_HOST),  # red's root or SYSTEM sessions
                ("removable_sessions", *_PER_HOST),  # red's user sessions that a detection has given away
                ("hidden_sessions", *_PER_HOST),  # red's other user sessions
                ("infected", np.int32),  # hosts with a malware file
                ("restored", np.int32),  # hosts restored at least once
                ("is_service_stopped", np.bool_),  # the OTService of Op_Server0
                # what red knows
                ("known_ports", *_PER_HOST),  # sets of exploitable ports; empty before a scan found any
                ("known_addresses", np.int32),
                ("known_hosts", np.int32),  # hosts it can name
                ("known_subnets", np.int32),  # a set of subnets
                ("is_service_known", np.bool_),
                # the last actions
                ("blue_action", np.int16),
                ("red_action", np.int8),
                ("red_target", np.int8),  # a host, or the subnet of a sweep
                ("red_succeeded", np.bool_),
                # B_line
                ("stage", np.int8),
                ("first_target", np.int8),  # the user host it goes for, NO_HOST until it has chosen
                # Meander
                ("swept_subnets", np.int32),
                ("scanned", np.int32),
                ("exploited", np.int32),  # hosts it believes it has a session on
                ("escalated", np.int32),  # hosts it believes it is privileged on
                ("located", np.int32),  # hosts whose address it knows to be theirs
                # what blue sees
                ("activity", np.int8),  # of this step, on at most one host
                ("activity_host", np.int8),
                ("compromise", *_PER_HOST),  # what blue believes
                ("seen_scanned", np.int32),  # hosts that ever showed a scan
                ("last_scanned", np.int8),  # the last host that did
                ("last_events", np.int32, (NUM_REMEMBERED_EVENTS, NUM_HOSTS)),  # the steps of the last ones
            ],
            align=True,
        ),
    )
)
"""The record of one environment; its dtype is the same for every setting."""

State = np.record


def new_states(settings: GameSettings, count: int) -> NDArray[np.void]:
    """Environments that know their settings and wait for `reset`.

    Args:
        settings: the same for all; single fields may be changed before a reset.
        count: how many.

    Returns:
        (count,) array of `STATE`.
    """
    states = np.zeros(count, STATE)
    is_mixture = settings.red_agent in RED_MIXTURES
    states["mixture"] = list(RED_MIXTURES).index(settings.red_agent) if is_mixture else NO_MIXTURE
    states["red_agent"] = 0 if is_mixture else RED_AGENTS.index(settings.red_agent)
    states["is_leaderboard"] = settings.rules == "leaderboard"
    states["is_corrected"] = settings.observation == "corrected"
    states["has_scan_memory"] = settings.scan_memory
    states["has_decoy_memory"] = settings.decoy_memory
    states["has_recency_memory"] = settings.recency_memory
    states["has_next_decoy_actions"] = settings.action_set == "next-decoy"
    states["max_steps"] = settings.max_steps
    return states


@compiled
def reset(state: State, seed: np.uint64) -> None:
    """Start an episode; the settings stay, but for the attacker where attackers are mixed.

    Args:
        state: a record of `STATE`.
        seed: all chances of the episode are derived from it.

    Source: state.py, _initialise_state. The reference also draws addresses and process ids; no rule depends
    on them.
    """
    state.seed = seed
    state.key = mix64(seed)
    state.step = 0
    _start_network(state)
    _start_red_knowledge(state)
    _start_red_agent(state)
    _start_blue_view(state)


@compiled
def _start_network(state: State) -> None:
    state.decoys[:] = EMPTY
    state.privileged_sessions[:] = 0
    state.privileged_sessions[FOOTHOLD] = 1
    state.removable_sessions[:] = 0
    state.hidden_sessions[:] = 0
    state.infected = EMPTY
    state.restored = EMPTY
    state.is_service_stopped = False


@compiled
def _start_red_knowledge(state: State) -> None:
    state.known_ports[:] = EMPTY
    state.known_addresses = only(FOOTHOLD)
    state.known_hosts = only(FOOTHOLD)
    state.known_subnets = only(SUBNET_OF[FOOTHOLD])
    state.is_service_known = False


@compiled
def _start_red_agent(state: State) -> None:
    if state.mixture != NO_MIXTURE:
        draw = attacker_draw(state.seed, NUM_ATTACKERS_DRAWN[state.mixture])
        state.red_agent = ATTACKERS_DRAWN[state.mixture, draw]
    state.red_action = RED_SLEEP
    state.red_target = NO_HOST
    state.red_succeeded = False
    state.stage = 0
    state.first_target = NO_HOST
    state.swept_subnets = EMPTY
    state.scanned = EMPTY
    state.exploited = EMPTY
    state.escalated = EMPTY
    state.located = EMPTY


@compiled
def _start_blue_view(state: State) -> None:
    state.activity = 0
    state.activity_host = NO_HOST
    state.compromise[:] = 0
    state.seen_scanned = EMPTY
    state.last_scanned = NO_HOST
    state.last_events[:] = _LONG_AGO
