"""How red decides: the script of B_line and the exploration of Meander.

Both see only whether their last action succeeded and what they have learnt (`red` keeps that). B_line goes
straight for Op_Server0 by way of one user host; Meander takes over whatever it can find on the way.
"""

from __future__ import annotations

from typing import NamedTuple

from workflow_rl.cage2.generator import Chance
from workflow_rl.cage2.host_set import EMPTY, contains, member, only, pick
from workflow_rl.cage2.state import State
from workflow_rl.cage2.tables import (
    B_LINE,
    B_LINE_ACTION,
    B_LINE_ON_FAILURE,
    B_LINE_TARGETS,
    ENTERPRISE2,
    ENTERPRISE_HOSTS,
    ENTERPRISE_SUBNET,
    ESCALATE,
    EXPLOIT,
    IMPACT,
    LEADS_TO,
    MEANDER,
    NO_HOST,
    OP_SERVER,
    OPERATIONAL_HOSTS,
    RED_SLEEP,
    SCAN,
    SWEEP,
    USER_SUBNET,
)
from workflow_rl.compilation import compiled

# Stages of B_line at which something more happens than the script's next line.
_CHOOSE_TARGET = 1
_FIRST_ENTERPRISE = 4
_SWEEP_ENTERPRISE = 7
_SECOND_ENTERPRISE = 8
_SCAN_SERVER = 11
_LAST_STAGE = 14


class Decision(NamedTuple):
    """A red action and what it is aimed at: a host, or the subnet of a sweep."""

    action: int
    target: int


@compiled
def decide(state: State, chance: Chance) -> Decision:
    """What the episode's red agent does next."""
    if state.red_agent == B_LINE:
        return _decide_b_line(state, chance)
    if state.red_agent == MEANDER:
        return _decide_meander(state, chance)
    return Decision(RED_SLEEP, NO_HOST)


# ---------------------------------------------------------------- B_line


@compiled
def _decide_b_line(state: State, chance: Chance) -> Decision:
    """One stage on after a success, back to an earlier stage after a failure.

    Source: b_line.py, get_action.
    """
    state.stage = _next_stage(state)
    if state.stage == _CHOOSE_TARGET and state.first_target == NO_HOST:
        state.first_target = pick(B_LINE_TARGETS, chance.target)
    return Decision(B_LINE_ACTION[state.stage], _b_line_target(state))


@compiled
def _next_stage(state: State) -> int:
    """The stage that follows, given whether the action of this stage succeeded.

    As long as no scan of Op_Server0 has found anything (Operational was out of reach), B_line starts over
    instead of exploiting it.
    """
    if not state.red_succeeded:
        return int(B_LINE_ON_FAILURE[state.stage])
    if state.stage == _SCAN_SERVER and state.known_ports[OP_SERVER] == EMPTY:
        return _CHOOSE_TARGET
    return int(min(state.stage + 1, _LAST_STAGE))


@compiled
def _b_line_target(state: State) -> int:
    """What the action of the current stage is aimed at."""
    stage = state.stage
    if stage < _CHOOSE_TARGET:
        return USER_SUBNET
    if stage < _FIRST_ENTERPRISE:
        return int(state.first_target)
    if stage < _SWEEP_ENTERPRISE:
        return int(LEADS_TO[state.first_target])
    if stage < _SECOND_ENTERPRISE:
        return ENTERPRISE_SUBNET
    if stage < _SCAN_SERVER:
        return ENTERPRISE2
    return OP_SERVER


# ---------------------------------------------------------------- Meander


@compiled
def _decide_meander(state: State, chance: Chance) -> Decision:
    """The first of these that is possible: impact, sweep, scan, escalate, exploit.

    Nothing is swept or scanned twice in an episode. There is always something left to do: the Defender's
    address is known once Enterprise has been swept, and exploiting it never succeeds.
    Source: meander.py, get_action.
    """
    _learn_from_last_action(state)
    if contains(state.escalated, OP_SERVER):
        return Decision(IMPACT, OP_SERVER)
    unswept = state.known_subnets & ~state.swept_subnets
    if unswept != EMPTY:
        subnet = member(unswept, 0)
        state.swept_subnets |= only(subnet)
        return Decision(SWEEP, subnet)
    unscanned = state.known_addresses & ~state.scanned
    if unscanned != EMPTY:
        host = pick(unscanned, chance.target)
        state.scanned |= only(host)
        return Decision(SCAN, host)
    return _take_over(state, chance)


@compiled
def _take_over(state: State, chance: Chance) -> Decision:
    """Escalate where it believes to have a session, else exploit where it believes to have none.

    It also believes to have a session on a host that it can name but not locate: User0, at first.
    """
    believed = state.exploited | ~state.located
    unescalated = state.known_hosts & believed & ~state.escalated
    if unescalated != EMPTY:
        host = pick(unescalated, chance.target)
        state.escalated |= only(host)
        return Decision(ESCALATE, host)
    host = pick(state.known_addresses & ~state.exploited, chance.target)
    state.exploited |= only(host)
    return Decision(EXPLOIT, host)


@compiled
def _learn_from_last_action(state: State) -> None:
    """Revise what it believes. Source: meander.py, _process_success."""
    host = state.red_target
    if state.red_action == EXPLOIT:
        if state.red_succeeded:
            state.located |= only(host)
        else:
            _doubt_everything(state, host)
    elif (state.red_action == ESCALATE or state.red_action == IMPACT) and not state.red_succeeded:
        state.escalated &= ~only(host)
        state.exploited &= ~(only(host) & state.located)


@compiled
def _doubt_everything(state: State, host: int) -> None:
    """After a failed exploit it forgets its Operational hosts, or if there are none its Enterprise hosts.

    Source: meander.py, _process_failed_ip.
    """
    forgotten = state.escalated & OPERATIONAL_HOSTS
    if forgotten == EMPTY:
        forgotten = state.escalated & ENTERPRISE_HOSTS
    state.escalated &= ~forgotten
    state.exploited &= ~(only(host) | forgotten)
