"""What blue's actions do to the network.

Sleep and Monitor do nothing. Analyse looks for malware files, Remove kills what was noticed, a decoy opens a
port that leads nowhere, Restore sets a host back to its start. All 145 actions are always allowed; one that
cannot work does nothing and costs nothing.
"""

from __future__ import annotations

from typing import NamedTuple

from workflow_rl.cage2.host_set import EMPTY, contains, only
from workflow_rl.cage2.state import State
from workflow_rl.cage2.tables import (
    ACTION_DECOY,
    ACTION_HOST,
    ACTION_KIND,
    ANALYSE,
    DECOY,
    DECOY_PORTS,
    DECOY_TESTED_PORT,
    FOOTHOLD,
    OP_SERVER,
    REMOVE,
    RESTORE,
    RUNS_ON,
    START_PORTS,
)
from workflow_rl.compilation import compiled


class BlueOutcome(NamedTuple):
    """What blue learns at once from its action, about the host it was aimed at."""

    found_malware: bool
    installed_decoy: bool


@compiled
def act(state: State, action: int) -> BlueOutcome:
    """Carry out one of blue's actions 0..144 (`scenario.ACTION_NAMES`)."""
    kind = ACTION_KIND[action]
    host = ACTION_HOST[action]
    if kind == ANALYSE:
        return BlueOutcome(contains(state.infected, host), False)
    if kind == DECOY:
        return BlueOutcome(False, _install_decoy(state, ACTION_DECOY[action], host))
    if kind == REMOVE:
        _remove(state, host)
    elif kind == RESTORE:
        _restore(state, host)
    return BlueOutcome(False, False)


@compiled
def open_ports(state: State, host: int) -> int:
    """The set of ports that a scan of the host finds."""
    return int(START_PORTS[host] | DECOY_PORTS[state.decoys[host]])


@compiled
def _install_decoy(state: State, decoy: int, host: int) -> bool:
    """Open a port that leads nowhere, if the host's system runs the decoy and the port it tests is free.

    Vsftpd tests port 21 but opens 80, so it can be installed again and again, also beside Apache; a second
    copy changes nothing that can be seen. Source: concrete_actions/decoy_*.py, sim_execute.
    """
    if not RUNS_ON[decoy, host] or open_ports(state, host) & DECOY_TESTED_PORT[decoy]:
        return False
    state.decoys[host] |= only(decoy)
    return True


@compiled
def _remove(state: State, host: int) -> None:
    """Kill the processes that a detection has given away, unless they run as root or SYSTEM.

    So it leaves reverse shells that went unnoticed, SSH sessions, which never raise a detection, everything
    privileged, and all files. Source: remove.py; stop_process.py, sim_execute.
    """
    state.removable_sessions[host] = 0


@compiled
def _restore(state: State, host: int) -> None:
    """Set a host back to its start: sessions, files and decoys go, the OTService runs again.

    Red's first session, on User0, is part of that start, and what red knows stays.
    Source: restore_from_backup.py; host.py, restore.
    """
    state.decoys[host] = EMPTY
    state.privileged_sessions[host] = 1 if host == FOOTHOLD else 0
    state.removable_sessions[host] = 0
    state.hidden_sessions[host] = 0
    state.infected &= ~only(host)
    state.restored |= only(host)
    if host == OP_SERVER:
        state.is_service_stopped = False
