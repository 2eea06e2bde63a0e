"""What the networks are shown of a batch: each distinct input once.

Observations of bits repeat: ten thousand steps of CAGE Challenge 2 hold some hundred distinct ones. The
networks are evaluated once for each distinct input and their outputs shared by all steps that have it, which
changes nothing but the time. Steps at which different actions were ruled out do not share an input, so a
policy's outputs are masked once for all who share them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workflow_rl.episode import Episodes, context_of, unpack_forbidden


@dataclass(frozen=True, eq=False)
class NetworkInputs:
    """The D distinct inputs of a batch.

    Attributes:
        inputs: (D, O + context) float32.
        forbidden: the actions that masks ruled out, (D, A) bool; `None` if no mask was given.
        rows: the input of each observation, (N + E,) int64.
    """

    inputs: NDArray[np.float32]
    forbidden: NDArray[np.bool_] | None
    rows: NDArray[np.int64]


def distinct_inputs(batch: Episodes, num_actions: int) -> NetworkInputs:
    """The inputs of all observations of a batch; only those of bits are compared with each other."""
    contexts = np.stack([context_of(ticket) for ticket in batch.tickets])
    episodes = np.repeat(np.arange(len(batch)), batch.lengths + 1)
    forbidden = np.zeros((len(episodes), batch.forbidden.shape[1]), np.uint8)
    forbidden[batch.is_acted_upon] = batch.forbidden
    if batch.observations.dtype == np.uint8:
        workflows = np.array([-1 if t.workflow is None else t.workflow for t in batch.tickets])
        first, rows = _distinct_rows(batch.observations, workflows[episodes], forbidden)
    else:
        first = rows = np.arange(len(episodes))
    observations = batch.observations[first].astype(np.float32)
    return NetworkInputs(
        inputs=np.concatenate([observations, contexts[episodes[first]]], axis=1),
        forbidden=unpack_forbidden(forbidden[first], num_actions) if forbidden.shape[1] else None,
        rows=rows,
    )


def _distinct_rows(
    bits: NDArray[np.uint8], workflows: NDArray[np.int64], forbidden: NDArray[np.uint8]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which rows of bits (R, O), workflow (R,) and packed bits (R, K) are the same.

    Returns:
        Where each of D distinct ones stands first, (D,); which of them each row is, (R,).
    """
    keys = np.concatenate([np.packbits(bits, axis=1), workflows[:, None].astype(np.uint8), forbidden], axis=1)
    words = np.pad(keys, ((0, 0), (0, -keys.shape[1] % 8))).view(np.uint64)
    # Several words are one text, which sorts faster than a record: highest byte first, in the same order.
    key = words[:, 0] if words.shape[1] == 1 else words.astype(">u8").view(f"S{words[0].nbytes}")[:, 0]
    _, first, rows = np.unique(key, return_index=True, return_inverse=True)
    return first, rows
