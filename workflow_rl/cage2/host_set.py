"""A set of hosts, as the simulator keeps it: an integer whose bit h says whether host h is in it.

Union, intersection and difference are `|`, `&` and `& ~`. Sets of subnets, ports, exploits and decoys are
kept in the same way; no kind of thing has more members than there are hosts.
"""

from __future__ import annotations

from workflow_rl.cage2.scenario import NUM_HOSTS
from workflow_rl.compilation import compiled

EMPTY = 0


@compiled
def only(host: int) -> int:
    """The set of one host."""
    return 1 << int(host)  # not in the host's own type, which has eight bits where it is a field of a state


@compiled
def contains(hosts: int, host: int) -> bool:
    """Whether a host is in the set."""
    return hosts >> host & 1 != 0


@compiled
def size(members: int) -> int:
    """How many are in the set."""
    count = 0
    while members:
        members &= members - 1  # drops the lowest member
        count += 1
    return count


@compiled
def member(hosts: int, position: int) -> int:
    """The one at a position of the set, counted from 0 from the lowest number; -1 if there is none."""
    for host in range(NUM_HOSTS):
        if contains(hosts, host):
            if position == 0:
                return host
            position -= 1
    return -1


@compiled
def pick(hosts: int, chance: float) -> int:
    """A member of a set that is not empty, each equally likely for a uniform `chance` in [0, 1)."""
    return member(hosts, int(chance * size(hosts)))
