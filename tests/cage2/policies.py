"""Fixed blue policies, to drive both simulators through all parts of the game.

A policy maps observations (N, 52), red's true access (N, 13), the step and a generator to actions (N,).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from workflow_rl.cage2.scenario import (
    HOST_ACTIONS,
    HOST_NAMES,
    NUM_ACTIONS,
    NUM_HOSTS,
    PRIVILEGED_ACCESS,
    action_index,
)

Policy = Callable[[NDArray[np.int8], NDArray[np.int8], int, np.random.Generator], NDArray[np.int64]]

SLEEP = 0
ANALYSE, REMOVE, RESTORE = (action_index(kind, "Defender") for kind in ("Analyse", "Remove", "Restore"))
FIRST_DECOY, LAST_DECOY = action_index("DecoyApache", "Defender"), action_index("DecoyVsftpd", "User4")

OP_SERVER = HOST_NAMES.index("Op_Server0")
OP_HOSTS = np.array([name.startswith("Op_Host") for name in HOST_NAMES])


def _first(flags, action):
    """`action` on the first flagged host, else Sleep."""
    return np.where(flags.any(1), action + flags.argmax(1), SLEEP)


def _believed(bits):
    return (bits[:, 2::4] | bits[:, 3::4]) == 1


def _believed_privileged(bits):
    return (bits[:, 2::4] & bits[:, 3::4]) == 1


def sleep(bits, access, step, generator):
    return np.full(len(bits), SLEEP)


def uniform(bits, access, step, generator):
    return generator.integers(NUM_ACTIONS, size=len(bits))


def restore_believed(bits, access, step, generator):
    return _first(_believed(bits), RESTORE)


def remove_believed(bits, access, step, generator):
    return _first(_believed(bits), REMOVE)


def analyse_then_restore(bits, access, step, generator):
    return np.where(
        _believed_privileged(bits).any(1),
        _first(_believed_privileged(bits), RESTORE),
        _first(_believed(bits), ANALYSE),
    )


def decoys_then_restore(bits, access, step, generator):
    order = [
        *((kind, f"User{i}") for i in (2, 3, 4) for kind in ("DecoyFemitter", "DecoyTomcat", "DecoyApache")),
        *(("DecoyHarakaSMPT", f"Enterprise{i}") for i in range(3)),
        *(
            (kind, f"Enterprise{i}")
            for i in range(3)
            for kind in ("DecoyFemitter", "DecoyTomcat", "DecoyVsftpd")
        ),
        ("DecoySSHD", "User3"),
        ("DecoySmss", "User1"),
        ("DecoyTomcat", "Op_Server0"),
    ]
    if step < len(order):
        return np.full(len(bits), action_index(*order[step]))
    return restore_believed(bits, access, step, generator)


def restore_in_turn(bits, access, step, generator):
    return np.full(len(bits), RESTORE + step % NUM_HOSTS)


def remove_in_turn(bits, access, step, generator):
    return np.full(len(bits), REMOVE + step % NUM_HOSTS)


def analyse_in_turn(bits, access, step, generator):
    return np.full(len(bits), ANALYSE + step % NUM_HOSTS)


def random_decoys(bits, access, step, generator):
    """Decoys anywhere, and now and then a Restore of what looks compromised."""
    decoys = generator.integers(FIRST_DECOY, LAST_DECOY + 1, size=len(bits))
    restores = restore_believed(bits, access, step, generator)
    return np.where(generator.random(len(bits)) < 0.3, restores, decoys)


def meddle_with_red(bits, access, step, generator):
    """Any action on a host, more often than not one that red is on (blue itself could not know)."""
    weights = np.where(access > 0, 4.0, 1.0)
    threshold = generator.random((len(bits), 1)) * weights.sum(1, keepdims=True)
    hosts = (weights.cumsum(1) < threshold).sum(1)
    return 2 + NUM_HOSTS * generator.integers(len(HOST_ACTIONS), size=len(bits)) + hosts


def interfere_with_exploits(bits, access, step, generator):
    """Decoys, Remove and Analyse on the host with activity, in the hope to meet red there once more."""
    active = bits[:, 0::4] == 1
    hosts = np.where(active.any(1), active.argmax(1), generator.integers(NUM_HOSTS, size=len(bits)))
    return 2 + NUM_HOSTS * generator.integers(len(HOST_ACTIONS) - 1, size=len(bits)) + hosts


def draw_red_into_operational(bits, access, step, generator):
    """Take the server back from Meander once it has learnt of the hosts around it; meddle with it there."""
    meddling = meddle_with_red(bits, np.where(OP_HOSTS, access, 0), step, generator)
    actions = np.where(access[:, OP_HOSTS].any(1), meddling, SLEEP)
    return np.where(access[:, OP_SERVER] == PRIVILEGED_ACCESS, RESTORE + OP_SERVER, actions)


FIXED_POLICIES: tuple[Policy, ...] = (
    sleep,
    uniform,
    restore_believed,
    remove_believed,
    analyse_then_restore,
    decoys_then_restore,
    restore_in_turn,
    remove_in_turn,
    analyse_in_turn,
    random_decoys,
)
PROBING_POLICIES: tuple[Policy, ...] = (
    *FIXED_POLICIES,
    meddle_with_red,
    interfere_with_exploits,
    draw_red_into_operational,
)
