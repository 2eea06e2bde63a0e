"""What red's actions do: to the network, to red's knowledge, and to the traffic that blue may notice.

Red acts from its first session, on User0. A way in goes: sweep a subnet for addresses, scan a host for ports,
exploit a port, escalate to root, which reveals where to go next; on Op_Server0, stop the service. Which of
these red tries is decided in `red_agents`.
"""

from __future__ import annotations

from typing import NamedTuple

from workflow_rl.cage2.blue import open_ports
from workflow_rl.cage2.generator import Chance
from workflow_rl.cage2.host_set import contains, member, only, size
from workflow_rl.cage2.scenario import NUM_HOSTS
from workflow_rl.cage2.state import State
from workflow_rl.cage2.tables import (
    DECOY_PORTS,
    ENTERPRISE_HOSTS,
    ESCALATE,
    EXPLOIT,
    EXPLOIT_RESULT,
    GIVES_PRIVILEGE,
    HARAKA_RCE,
    IMPACT,
    IS_CLOSED_TO_RED,
    KNOWLEDGE_MASK,
    NO_PROCESS,
    OP_SERVER,
    RESISTS,
    REVEALED_BY,
    SCAN,
    SQL_INJECTION,
    SSH_BRUTE_FORCE,
    SUBNET_HOSTS,
    SUBNET_OF,
    SWEEP,
    WEB_PORTS,
)
from workflow_rl.compilation import compiled

TOP_EXPLOIT_PROBABILITY = 0.75
"""Source: exploit_remote_service.py, odds_of_top_choice."""
DETECTION_PROBABILITY = 0.95
"""Source: exploit_action.py, detection_rate."""
PASSWORD_GUESSES = 10
"""Source: ssh_brute_force.py, length_of_wordlist."""


class Traffic(NamedTuple):
    """The connections that one red action leaves in the event log of its target.

    Attributes:
        connections: how many there are.
        ports: how many different ports of the target they use.
        has_reverse_shell: whether one of them leads to red's port 4444.
    """

    connections: int
    ports: int
    has_reverse_shell: bool


class RedOutcome(NamedTuple):
    """What a red action comes to: what red is told, and what blue may see."""

    succeeded: bool
    traffic: Traffic


@compiled
def perform(state: State, action: int, target: int, chance: Chance) -> RedOutcome:
    """Carry out one of red's actions on a host, or on the subnet of a sweep."""
    if action == SWEEP:
        return _silent(_sweep(state, target))
    if action == SCAN:
        return _scan(state, target)
    if action == EXPLOIT:
        return _exploit(state, target, chance)
    if action == ESCALATE:
        return _silent(_escalate(state, target, chance))
    if action == IMPACT:
        return _silent(_impact(state))
    return _silent(False)


@compiled
def _silent(succeeded: bool) -> RedOutcome:
    return RedOutcome(succeeded, Traffic(0, 0, False))


@compiled
def has_session(state: State, host: int) -> bool:
    """Whether red has a session of any kind on the host."""
    num_user_sessions = state.removable_sessions[host] + state.hidden_sessions[host]
    return bool(state.privileged_sessions[host] + num_user_sessions > 0)


@compiled
def is_reachable(state: State, subnet: int) -> bool:
    """Whether red's first session gets into a subnet: Operational only with a session in Enterprise.

    Source: concrete_action.py, check_routable and check_for_enterprise_sessions.
    """
    if not IS_CLOSED_TO_RED[subnet]:
        return True
    num_ways = 0
    for host in range(NUM_HOSTS):
        num_ways += contains(ENTERPRISE_HOSTS, host) and has_session(state, host)
    return num_ways > 0


@compiled
def _sweep(state: State, subnet: int) -> bool:
    """Learn the addresses of all hosts of a subnet. Source: pingsweep.py, sim_execute."""
    if not is_reachable(state, subnet):
        return False
    state.known_addresses |= SUBNET_HOSTS[subnet]
    state.known_subnets |= only(subnet)
    return True


@compiled
def _scan(state: State, host: int) -> RedOutcome:
    """Learn the open ports of a host; a host out of reach reads as success with nothing found.

    A scan that finds something replaces what red knew of the host ("2.1"), or adds to it ("leaderboard").
    Source: port_scan.py, sim_execute; discover_network_services.py.
    """
    if not is_reachable(state, SUBNET_OF[host]):
        return _silent(True)
    found = open_ports(state, host)
    kept = state.known_ports[host] if state.is_leaderboard else 0
    state.known_ports[host] = kept | found & KNOWLEDGE_MASK
    return RedOutcome(True, Traffic(size(found), size(found), False))


@compiled
def exploit_options(ports: int) -> int:
    """The set of exploits that red considers, given the ports it knows.

    Exploit i needs port i of `EXPLOITABLE_PORTS`; SQLInjection also a web port.
    Source: exploit_remote_service.py, DefaultExploitActionSelector.
    """
    return ports if ports & WEB_PORTS else ports & ~only(SQL_INJECTION)


@compiled
def choose_exploit(options: int, chance: float) -> int:
    """The exploit red tries: the preferred one mostly, else one of the others, -1 if none fits.

    Source: exploit_remote_service.py, DefaultExploitActionSelector.
    """
    others = size(options) - 1
    position = 0
    if others > 0 and chance >= TOP_EXPLOIT_PROBABILITY:
        share = (chance - TOP_EXPLOIT_PROBABILITY) / (1.0 - TOP_EXPLOIT_PROBABILITY)
        position = 1 + int(share * others)
    return member(options, position)


@compiled
def _exploit(state: State, host: int, chance: Chance) -> RedOutcome:
    """Try to open a session on a host, by an exploit that fits what red's last scan found.

    Nothing happens, and nothing shows, if red knows no port of the host, cannot reach it, or finds no
    process of the kind the exploit is for. Processes the host started with come before decoys.
    Source: exploit_remote_service.py; exploit_action.py, sim_exploit; ssh_brute_force.py.
    """
    exploit = choose_exploit(exploit_options(state.known_ports[host]), chance.exploit)
    if exploit < 0 or not is_reachable(state, SUBNET_OF[host]):
        return _silent(False)
    result = EXPLOIT_RESULT[exploit, host]
    is_decoy = result == NO_PROCESS and DECOY_PORTS[state.decoys[host]] & only(exploit) != 0
    if result == NO_PROCESS and not is_decoy:
        return _silent(False)
    if exploit == SSH_BRUTE_FORCE:
        return _guess_passwords(state, host, is_decoy or result == RESISTS)
    if is_decoy:
        return RedOutcome(False, Traffic(2, 1, False))
    if exploit == HARAKA_RCE and state.is_leaderboard and contains(state.restored, host):
        # On the leaderboard's rules a restored process has lost its version, and HarakaRCE asks for it.
        return RedOutcome(False, Traffic(1, 1, False))
    return _open_shell(state, host, result == GIVES_PRIVILEGE, chance.detection < DETECTION_PROBABILITY)


@compiled
def _guess_passwords(state: State, host: int, fails: bool) -> RedOutcome:
    """SSHBruteForce: loud either way, and its session is never given away by a detection.

    Source: ssh_brute_force.py, sim_execute.
    """
    if fails:
        return RedOutcome(False, Traffic(PASSWORD_GUESSES, 1, False))
    state.hidden_sessions[host] += 1
    state.known_hosts |= only(host)
    return RedOutcome(True, Traffic(PASSWORD_GUESSES + 1, 1, False))


@compiled
def _open_shell(state: State, host: int, is_privileged: bool, is_detected: bool) -> RedOutcome:
    """A reverse shell as the user of the exploited process; it leaves a malware file.

    Source: exploit_action.py, __add_reverse_session.
    """
    if is_privileged:
        state.privileged_sessions[host] += 1
    elif is_detected:
        state.removable_sessions[host] += 1
    else:
        state.hidden_sessions[host] += 1
    state.infected |= only(host)
    state.known_hosts |= only(host)
    return RedOutcome(True, Traffic(2, 2, True) if is_detected else Traffic(1, 1, False))


@compiled
def _escalate(state: State, host: int, chance: Chance) -> bool:
    """Become root or SYSTEM in one of the sessions on a host, then look around.

    Source: privilege_escalate.py; escalate_action.py, sim_escalate.
    """
    if not has_session(state, host):
        return False
    if state.privileged_sessions[host] == 0:
        _raise_session(state, host, chance.session)
    _explore(state, host)
    return True


@compiled
def _raise_session(state: State, host: int, chance: float) -> None:
    """Raise one of the user sessions, each equally likely; it leaves a malware file."""
    removable = state.removable_sessions[host]
    if chance * (removable + state.hidden_sessions[host]) < removable:
        state.removable_sessions[host] -= 1
    else:
        state.hidden_sessions[host] -= 1
    state.privileged_sessions[host] += 1
    state.infected |= only(host)


@compiled
def _explore(state: State, host: int) -> None:
    """Read the host's own subnet, the addresses it knows, and the service on Op_Server0.

    Source: escalate_action.py, ExploreHost; the `info` of each host in Scenario2.yaml.
    """
    state.known_addresses |= REVEALED_BY[host]
    if contains(REVEALED_BY[host], host):
        state.known_subnets |= only(SUBNET_OF[host])
    if host == OP_SERVER:
        state.is_service_known = True


@compiled
def _impact(state: State) -> bool:
    """Stop the OTService of Op_Server0, given a session there and an earlier escalation.

    After any Restore of Op_Server0 the service no longer knows its process: red is told of success, and
    nothing stops. Source: impact.py; stop_service.py; host.py, stop_service and restore.
    """
    if not has_session(state, OP_SERVER) or not state.is_service_known:
        return False
    if not contains(state.restored, OP_SERVER):
        state.is_service_stopped = True
    return True
