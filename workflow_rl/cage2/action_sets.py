"""What blue can choose from: all 145 actions, or the 39 of the set "next-decoy".

Most of the challenge's actions never have an effect: decoys whose port is taken, Remove where no shell of red
can be killed, whatever is aimed at the Defender, which cannot be taken. "next-decoy" has

    Sleep                 1
    Analyse, Restore     11 each   where red can get in and blue can drive it out
    Remove                5        where an exploit gives red a shell that Remove can kill
    NextDecoy            11        where a decoy opens a port that is closed

NextDecoy installs the decoy on the port that red would rather exploit than those of the decoys after it; what
stands there, or would open no port, is passed over. Where none is left, it is Sleep. The challenge's winner
installs decoys in such an order too, but after its network has chosen; here it is part of the game, so the
learner sees what its choice comes to.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from workflow_rl.cage2.scenario import ACTION_NAMES, HOST_NAMES, NUM_HOSTS, action_index
from workflow_rl.cage2.state import State
from workflow_rl.cage2.tables import (
    DECOY_NAMES,
    DECOY_PORTS,
    DECOY_TESTED_PORT,
    EXPLOIT_RESULT,
    FOOTHOLD,
    GIVES_PRIVILEGE,
    GIVES_USER,
    NUM_DECOYS,
    RUNS_ON,
    SSH_BRUTE_FORCE,
    START_PORTS,
)
from workflow_rl.compilation import compiled

_SLEEP = action_index("Sleep")

_DECOYS_BY_APPEAL = sorted(range(NUM_DECOYS), key=lambda decoy: DECOY_PORTS[1 << decoy])
"""Ports are numbered from the one that red would most like to exploit (`tables.EXPLOITABLE_PORTS`)."""


def _next_decoy(host: int, standing: int) -> int:
    """The action that installs the next decoy of a host, given the set of those that stand."""
    open_ports = START_PORTS[host] | DECOY_PORTS[standing]
    for decoy in _DECOYS_BY_APPEAL:
        is_possible = RUNS_ON[decoy, host] and not open_ports & DECOY_TESTED_PORT[decoy]
        if is_possible and not open_ports & DECOY_PORTS[1 << decoy]:
            return action_index(DECOY_NAMES[decoy], HOST_NAMES[host])
    return _SLEEP


_NEXT_DECOY = np.array(
    [[_next_decoy(host, standing) for standing in range(1 << NUM_DECOYS)] for host in range(NUM_HOSTS)],
    np.int64,
)
"""(13, 256) int64: by host and set of standing decoys."""


def _names(kind: str, hosts: NDArray[np.bool_]) -> list[str]:
    return [f"{kind} {HOST_NAMES[host]}" for host in np.flatnonzero(hosts)]


_GIVES_SESSION = (EXPLOIT_RESULT == GIVES_USER) | (EXPLOIT_RESULT == GIVES_PRIVILEGE)
_IS_CLEARABLE = _GIVES_SESSION.any(axis=0) & (np.arange(NUM_HOSTS) != FOOTHOLD)
_IS_REMOVABLE = np.delete(EXPLOIT_RESULT == GIVES_USER, SSH_BRUTE_FORCE, axis=0).any(axis=0)
_HAS_DECOY = (_NEXT_DECOY[:, 0] != _SLEEP) & _GIVES_SESSION.any(axis=0)

NEXT_DECOY_NAMES: tuple[str, ...] = (
    "Sleep",
    *_names("Analyse", _IS_CLEARABLE),
    *_names("Remove", _IS_REMOVABLE),
    *_names("NextDecoy", _HAS_DECOY),
    *_names("Restore", _IS_CLEARABLE),
)
"""What each of the choices 0..38 of the set "next-decoy" does."""


def action_names(action_set: str) -> tuple[str, ...]:
    """What blue chooses from, by number: one of `state.ACTION_SETS`."""
    return ACTION_NAMES if action_set == "all" else NEXT_DECOY_NAMES


_HOST_OF_NEXT_DECOY = np.array(
    [HOST_NAMES.index(name.split()[1]) if name.startswith("NextDecoy") else -1 for name in NEXT_DECOY_NAMES],
    np.int64,
)
_FIXED_ACTION = np.array(
    [_SLEEP if name.startswith("NextDecoy") else ACTION_NAMES.index(name) for name in NEXT_DECOY_NAMES],
    np.int64,
)


@compiled
def action_meant(state: State, choice: int) -> int:
    """The action 0..144 that a choice stands for, given the state's action set and its standing decoys."""
    if not state.has_next_decoy_actions:
        return int(choice)
    host = _HOST_OF_NEXT_DECOY[choice]
    if host < 0:
        return int(_FIXED_ACTION[choice])
    return int(_NEXT_DECOY[host, state.decoys[host]])
