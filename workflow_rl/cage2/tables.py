"""The facts of `scenario` as arrays and numbers, in the form compiled rules read them.

Nothing is stated here that is not derived from `scenario`, except what belongs to the actions themselves: the
ports that exploits and decoys use. Sets are integers with a bit for each member (`host_set`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workflow_rl.cage2.scenario import (
    GLOBAL_ACTIONS,
    HOST_ACTIONS,
    HOST_NAMES,
    HOSTS,
    NUM_ACTIONS,
    NUM_HOSTS,
    RED,
    RED_AGENTS,
    RED_MIXTURES,
    SUBNETS,
    Host,
    OperatingSystem,
    ProcessKind,
)

# ---------------------------------------------------------------- hosts and subnets

NO_HOST = -1
FOOTHOLD = HOST_NAMES.index(RED.starting_sessions[0].host_name)
"""User0: red's first session is here and survives everything blue does."""
ENTERPRISE2 = HOST_NAMES.index("Enterprise2")
OP_SERVER = HOST_NAMES.index("Op_Server0")

_PRIVILEGED_USERS = ("root", "SYSTEM")


def _host_set(names: Iterable[str]) -> int:
    return sum(1 << HOST_NAMES.index(name) for name in names)


def _subnet_index(name: str) -> int:
    return [subnet.name for subnet in SUBNETS].index(name)


ENTERPRISE_SUBNET = _subnet_index("Enterprise")
USER_SUBNET = _subnet_index("User")
SUBNET_OF = np.array([_subnet_index(host.subnet) for host in HOSTS], np.int64)
"""(13,) int64: the subnet each host is in."""
SUBNET_HOSTS = np.array([_host_set(subnet.host_names) for subnet in SUBNETS], np.int64)
"""(3,) int64: the hosts of each subnet, as sets."""
IS_CLOSED_TO_RED = np.array([HOSTS[FOOTHOLD].subnet in subnet.closed_to for subnet in SUBNETS])
"""(3,) bool: subnets that red reaches only while it has a session on an Enterprise host."""

ENTERPRISE_HOSTS = _host_set(name for name in HOST_NAMES if name.startswith("Enterprise"))
"""The reference recognises these and the next by their names: the Defender is not among them."""
OPERATIONAL_HOSTS = _host_set(name for name in HOST_NAMES if name.startswith("Op_"))

REVEALED_BY = np.array([_host_set(host.reveals) for host in HOSTS], np.int64)
"""(13,) int64: the hosts whose addresses red reads on each host it explores, as sets."""

CONFIDENTIALITY_TENTHS = np.array([round(10 * host.confidentiality.value) for host in HOSTS], np.int64)
"""(13,) int64: what a privileged red session on each host costs blue per step, in tenths of a point."""
AVAILABILITY_TENTHS = round(10 * HOSTS[OP_SERVER].availability.value)
"""What a stopped OTService costs blue per step, in tenths of a point."""

# ---------------------------------------------------------------- ports

# The first eight are the ports an exploit looks for, so that red's knowledge of a host fits in eight bits.
EXPLOITABLE_PORTS = (21, 25, 3390, 443, 80, 139, 3389, 22)
_PORTS = (*EXPLOITABLE_PORTS, 53, 68, 135, 445)
KNOWLEDGE_MASK = (1 << len(EXPLOITABLE_PORTS)) - 1


def _port_set(ports: Iterable[int]) -> int:
    return sum(1 << _PORTS.index(port) for port in set(ports))


START_PORTS = np.array(
    [_port_set(p for proc in host.image.processes for p in proc.ports) for host in HOSTS], np.int64
)
"""(13,) int64: the ports open on each host without decoys, as sets. A port counts once even if two processes
listen on it, as port 53 of the Defender: no rule asks how often."""

# ---------------------------------------------------------------- exploits


@dataclass(frozen=True)
class _Exploit:
    """What an exploit needs: an open port, and behind it a process of the right kind."""

    name: str
    port: int
    kind: ProcessKind


_EXPLOITS = (
    _Exploit("FTPDirectoryTraversal", 21, ProcessKind.FEMITTER),
    _Exploit("HarakaRCE", 25, ProcessKind.SMTP),
    _Exploit("SQLInjection", 3390, ProcessKind.MYSQL),
    _Exploit("HTTPSRFI", 443, ProcessKind.WEBSERVER),
    _Exploit("HTTPRFI", 80, ProcessKind.WEBSERVER),
    _Exploit("EternalBlue", 139, ProcessKind.SMB),
    _Exploit("BlueKeep", 3389, ProcessKind.RDP),
    _Exploit("SSHBruteForce", 22, ProcessKind.SSH),
)
EXPLOIT_NAMES: tuple[str, ...] = tuple(exploit.name for exploit in _EXPLOITS)
"""Red's exploits from the most to the least preferred. Exploit i looks for `EXPLOITABLE_PORTS[i]`.

Source: exploit_remote_service.py, DefaultExploitActionSelector (the weights give only this order).
"""
HARAKA_RCE = EXPLOIT_NAMES.index("HarakaRCE")
SQL_INJECTION = EXPLOIT_NAMES.index("SQLInjection")
SSH_BRUTE_FORCE = EXPLOIT_NAMES.index("SSHBruteForce")
WEB_PORTS = _port_set((80, 443))
"""SQLInjection is an option only where one of these is known too."""

NO_PROCESS, RESISTS, GIVES_USER, GIVES_PRIVILEGE = range(4)
"""What an exploit finds among the processes a host starts with."""


def _exploit_result(exploit: _Exploit, host: Host) -> int:
    """What becomes of an exploit against the first matching process (exploit_action.py, sim_exploit)."""
    victim = next(
        (p for p in host.image.processes if p.kind == exploit.kind and exploit.port in p.ports), None
    )
    if victim is None:
        return NO_PROCESS
    if exploit.kind is ProcessKind.SSH:  # ssh_brute_force.py: needs an account with a guessable password
        return RESISTS if host.image.bruteforceable_user is None else GIVES_USER
    return GIVES_PRIVILEGE if victim.user in _PRIVILEGED_USERS else GIVES_USER


EXPLOIT_RESULT = np.array([[_exploit_result(e, host) for host in HOSTS] for e in _EXPLOITS], np.int64)
"""(8, 13) int64: the result of each exploit on each host as it starts."""

# ---------------------------------------------------------------- decoys


@dataclass(frozen=True)
class _Decoy:
    """What a decoy opens and where it can be installed.

    Attributes:
        tested_port: the port that must be free. It is the one the decoy opens, except for Vsftpd.
        system: the only operating system it runs on, None for both.
    """

    action: str
    port: int
    tested_port: int
    system: OperatingSystem | None = None


_DECOYS = (
    _Decoy("DecoyApache", 80, 80),
    _Decoy("DecoyFemitter", 21, 21, OperatingSystem.WINDOWS),
    _Decoy("DecoyHarakaSMPT", 25, 25, OperatingSystem.LINUX),
    _Decoy("DecoySmss", 139, 139, OperatingSystem.WINDOWS),
    _Decoy("DecoySSHD", 22, 22),
    _Decoy("DecoySvchost", 3389, 3389, OperatingSystem.WINDOWS),
    _Decoy("DecoyTomcat", 443, 443),
    _Decoy("DecoyVsftpd", 80, 21, OperatingSystem.LINUX),
)
"""In the order of blue's actions. Source: concrete_actions/decoy_*.py, make_decoy and is_host_compatible."""

NUM_DECOYS = len(_DECOYS)
DECOY_NAMES: tuple[str, ...] = tuple(decoy.action for decoy in _DECOYS)
DECOY_TESTED_PORT = np.array([_port_set([decoy.tested_port]) for decoy in _DECOYS], np.int64)
"""(8,) int64: the port that must be free for each decoy, as a set."""
RUNS_ON = np.array([[d.system in (None, host.image.operating_system) for host in HOSTS] for d in _DECOYS])
"""(8, 13) bool: whether each host's operating system can run each decoy."""


def _ports_of_decoys(decoys: int) -> int:
    return _port_set(decoy.port for i, decoy in enumerate(_DECOYS) if decoys >> i & 1)


DECOY_PORTS = np.array([_ports_of_decoys(decoys) for decoys in range(1 << NUM_DECOYS)], np.int64)
"""(256,) int64: the ports opened by each set of decoys, as sets."""

# ---------------------------------------------------------------- blue's actions

SLEEP, MONITOR, ANALYSE, REMOVE, DECOY, RESTORE = range(6)
"""Kinds of blue actions."""


def _kind_and_host(action: int) -> tuple[int, int]:
    if action < len(GLOBAL_ACTIONS):
        return {"Sleep": SLEEP, "Monitor": MONITOR}[GLOBAL_ACTIONS[action]], NO_HOST
    kind, host = divmod(action - len(GLOBAL_ACTIONS), NUM_HOSTS)
    kinds = {"Analyse": ANALYSE, "Remove": REMOVE, "Restore": RESTORE}
    return kinds.get(HOST_ACTIONS[kind], DECOY), host


def _decoy(action: int) -> int:
    kind = HOST_ACTIONS[max(action - len(GLOBAL_ACTIONS), 0) // NUM_HOSTS]
    return DECOY_NAMES.index(kind) if kind in DECOY_NAMES else -1


ACTION_KIND = np.array([_kind_and_host(action)[0] for action in range(NUM_ACTIONS)], np.int64)
"""(145,) int64: what each of blue's actions does."""
ACTION_HOST = np.array([_kind_and_host(action)[1] for action in range(NUM_ACTIONS)], np.int64)
"""(145,) int64: the host each of blue's actions is aimed at, `NO_HOST` for Sleep and Monitor."""
ACTION_DECOY = np.array([_decoy(action) for action in range(NUM_ACTIONS)], np.int64)
"""(145,) int64: the decoy each of blue's actions installs, -1 for the others."""

# ---------------------------------------------------------------- red

B_LINE, MEANDER, SLEEPER = range(len(RED_AGENTS))
"""The attackers, numbered as in `scenario.RED_AGENTS`."""

NO_MIXTURE = -1

ATTACKERS_DRAWN = np.full((len(RED_MIXTURES), max(map(len, RED_MIXTURES.values()))), -1, np.int64)
"""(mixtures, most entries) int64: the entries of `scenario.RED_MIXTURES`, -1 after the last."""
for _row, _entries in zip(ATTACKERS_DRAWN, RED_MIXTURES.values(), strict=True):
    _row[: len(_entries)] = [RED_AGENTS.index(name) for name in _entries]

NUM_ATTACKERS_DRAWN = np.array([len(entries) for entries in RED_MIXTURES.values()], np.int64)
"""(mixtures,) int64: the number of entries of each."""

RED_SLEEP, SWEEP, SCAN, EXPLOIT, ESCALATE, IMPACT = range(6)
"""Kinds of red actions: rest, find a subnet's addresses, find a host's ports, get in, become root, stop the
service."""
RED_ACTION_NAMES = (
    "Sleep",
    "DiscoverRemoteSystems",
    "DiscoverNetworkServices",
    "ExploitRemoteService",
    "PrivilegeEscalate",
    "Impact",
)
"""What the reference calls them."""


def _first_target_reveals(host: Host) -> int:
    """The Enterprise host that a user host leads to, `NO_HOST` for hosts that lead to none."""
    ways = [HOST_NAMES.index(name) for name in host.reveals if name.startswith("Enterprise")]
    return ways[0] if host.subnet == "User" and ways else NO_HOST


LEADS_TO = np.array([_first_target_reveals(host) for host in HOSTS], np.int64)
"""(13,) int64: the Enterprise host that red finds on each user host."""

B_LINE_TARGETS = int(SUBNET_HOSTS[USER_SUBNET]) & ~(1 << FOOTHOLD)
"""The hosts among which B_line chooses its first target: User1 to User4."""

B_LINE_ACTION: NDArray[np.int64] = np.array(
    [
        *(SWEEP, SCAN, EXPLOIT, ESCALATE),  # a user host
        *(SCAN, EXPLOIT, ESCALATE),  # the Enterprise host it leads to
        *(SWEEP, SCAN, EXPLOIT, ESCALATE),  # Enterprise2
        *(SCAN, EXPLOIT, ESCALATE, IMPACT),  # Op_Server0
    ],
    np.int64,
)
"""(15,) int64: what B_line does at each stage. Source: b_line.py, get_action."""

B_LINE_ON_FAILURE = np.array([0, 1, 2, 2, 2, 2, 5, 5, 5, 5, 9, 9, 9, 12, 13], np.int64)
"""(15,) int64: the stage B_line falls back to when the action of a stage fails. Source: b_line.py, jumps."""
