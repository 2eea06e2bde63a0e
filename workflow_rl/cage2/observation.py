"""What blue sees: 52 bits, four a host, and three memories that can be added.

Bits 4h and 4h+1 are the activity on host h in this step: 00 none, 10 a scan, 11 an exploit. Bits 4h+2 and
4h+3 are what blue believes of its compromise, and stay: 00 no, 10 unknown, 01 user, 11 privileged. Belief is
not truth: an unnoticed shell is missing from it, a false alarm stays in it until Restore.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from workflow_rl.cage2.blue import BlueOutcome
from workflow_rl.cage2.host_set import contains, only
from workflow_rl.cage2.red import Traffic, has_session
from workflow_rl.cage2.scenario import (
    NO_ACCESS,
    NUM_HOSTS,
    NUM_OBSERVATION_BITS,
    PRIVILEGED_ACCESS,
    USER_ACCESS,
)
from workflow_rl.cage2.state import (
    EXPLOIT_SEEN,
    NUM_DECOY_MEMORY_BITS,
    NUM_REMEMBERED_EVENTS,
    NUM_SCAN_MEMORY_BITS,
    OWN_RESTORE,
    RECENCIES,
    SCAN_SEEN,
    State,
)
from workflow_rl.cage2.tables import ACTION_HOST, ACTION_KIND, NO_HOST, NUM_DECOYS, REMOVE, RESTORE
from workflow_rl.compilation import compiled

# Two bits each, the first one in bit 0.
NO_ACTIVITY, SCANNED, EXPLOITED = 0b00, 0b01, 0b11
NOT_COMPROMISED, UNKNOWN, USER, PRIVILEGED = 0b00, 0b01, 0b10, 0b11


@compiled
def perceive(state: State, action: int, outcome: BlueOutcome, traffic: Traffic) -> None:
    """Update blue's view after a step, in the order in which the reference's wrapper does.

    Source: blue_table_wrapper.py, observation_change.

    Args:
        state: after blue and red have acted.
        action: blue's action, 0..144.
        outcome: what blue learnt from it.
        traffic: the connections that red's action left on `state.red_target`.
    """
    host = ACTION_HOST[action]
    _expect_effect(state, ACTION_KIND[action], host)
    has_new_decoy = outcome.installed_decoy and host == state.red_target
    state.activity = interpret_traffic(traffic, has_new_decoy, state.is_corrected)
    state.activity_host = state.red_target if state.activity != NO_ACTIVITY else NO_HOST
    if state.activity == EXPLOITED:
        state.compromise[state.activity_host] = USER
    if outcome.found_malware:
        state.compromise[host] = PRIVILEGED
    remember(state, action)


@compiled
def remember(state: State, action: int) -> None:
    """Take the step's activity and blue's action, 0..144, into the memories."""
    if state.activity == SCANNED:
        state.seen_scanned |= only(state.activity_host)
        state.last_scanned = state.activity_host
        state.last_events[SCAN_SEEN, state.activity_host] = state.step
    elif state.activity == EXPLOITED:
        state.last_events[EXPLOIT_SEEN, state.activity_host] = state.step
    if ACTION_KIND[action] == RESTORE:
        state.last_events[OWN_RESTORE, ACTION_HOST[action]] = state.step


@compiled
def _expect_effect(state: State, kind: int, host: int) -> None:
    """Blue takes it that Restore has worked, and does not know whether Remove has.

    Source: blue_table_wrapper.py, _process_last_action.
    """
    if kind == RESTORE:
        state.compromise[host] = NOT_COMPROMISED
    elif kind == REMOVE and state.compromise[host] != NOT_COMPROMISED:
        state.compromise[host] = UNKNOWN


@compiled
def interpret_traffic(traffic: Traffic, has_new_decoy: bool, is_corrected: bool) -> int:
    """What the connections on a host are taken for.

    A decoy installed on the host in the same step is one more entry of the list, the first, and has no
    connection. Hence two oddities: three entries on one port read as an exploit although red hit a decoy; and
    the official wrapper takes a short list that starts with a decoy for nothing, where the corrected one
    reads a scan. A decoy's entry alone is nothing to both.

    Source: blue_table_wrapper.py, _interpret_connections; the corrected wrapper is that of the challenge's
    winner, which differs in this only.
    """
    if traffic.connections == 0:
        return NO_ACTIVITY
    entries = traffic.connections + has_new_decoy
    if entries >= 3 and traffic.ports >= 3:
        return SCANNED
    if traffic.has_reverse_shell or (entries >= 3 and traffic.ports == 1):
        return EXPLOITED
    if has_new_decoy and not is_corrected:
        return NO_ACTIVITY
    return SCANNED


@compiled
def observe(state: State, bits: NDArray[np.int8]) -> None:
    """Write the observation, with the memories that the settings ask for.

    Args:
        state: a record of `STATE`.
        bits: (`GameSettings.num_bits`,) int8, overwritten. First the 52 bits; then, if asked for, for each
            host whether it was ever seen scanned and whether it was the last one that was; then, if asked
            for, for each host which of the eight decoys stand there; then, if asked for, for scans, exploits
            and blue's Restores and each host whether the last one is within each of `RECENCIES`. All memories
            hold only what blue saw and did: whether a decoy could be installed depends on blue's own earlier
            actions alone.
    """
    for host in range(NUM_HOSTS):
        activity = state.activity if host == state.activity_host else NO_ACTIVITY
        bits[4 * host] = activity & 1
        bits[4 * host + 1] = activity >> 1
        bits[4 * host + 2] = state.compromise[host] & 1
        bits[4 * host + 3] = state.compromise[host] >> 1
    write_memories(state, bits[NUM_OBSERVATION_BITS:])


@compiled
def write_memories(state: State, bits: NDArray[np.int8]) -> None:
    """Write the memories that the settings ask for, as in `observe`, and nothing before them."""
    end = 0
    if state.has_scan_memory:
        _write_scan_memory(state, bits)
        end = NUM_SCAN_MEMORY_BITS
    if state.has_decoy_memory:
        _write_decoy_memory(state, bits[end:])
        end += NUM_DECOY_MEMORY_BITS
    if state.has_recency_memory:
        _write_recency_memory(state, bits[end:])


@compiled
def _write_scan_memory(state: State, bits: NDArray[np.int8]) -> None:
    for host in range(NUM_HOSTS):
        bits[2 * host] = contains(state.seen_scanned, host)
        bits[2 * host + 1] = host == state.last_scanned


@compiled
def _write_decoy_memory(state: State, bits: NDArray[np.int8]) -> None:
    for host in range(NUM_HOSTS):
        for decoy in range(NUM_DECOYS):
            bits[NUM_DECOYS * host + decoy] = contains(state.decoys[host], decoy)


@compiled
def _write_recency_memory(state: State, bits: NDArray[np.int8]) -> None:
    position = 0
    for event in range(NUM_REMEMBERED_EVENTS):
        for host in range(NUM_HOSTS):
            age = state.step - state.last_events[event, host]
            for recency in RECENCIES:
                bits[position] = age <= recency
                position += 1


@compiled
def red_access(state: State, access: NDArray[np.int8]) -> None:
    """Write the truth about red's sessions, which blue does not see.

    Args:
        state: a record of `STATE`.
        access: (13,) int8, overwritten: `NO_ACCESS`, `USER_ACCESS` or `PRIVILEGED_ACCESS` (`scenario`).
    """
    for host in range(NUM_HOSTS):
        if state.privileged_sessions[host] > 0:
            access[host] = PRIVILEGED_ACCESS
        else:
            access[host] = USER_ACCESS if has_session(state, host) else NO_ACCESS
