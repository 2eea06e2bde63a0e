"""Action masks that keep a policy to its order, as far as blue can know.

While blue's own observation shows a compromised host, the only fixes allowed are those of the first type in
the order that it shows; what fixes nothing is always allowed. While it shows none, everything is. So whoever
is masked never violates the order by what was observed (`alignment.judge_episodes`), trained or not. By the
true state it may: through a shell that went unnoticed, or a false alarm.

A mask is a function of the ticket and the observation before the step, so every player can make it anew, and
the learner finds it in the episodes like that of any environment.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from workflow_rl.alignment import FIXED_TYPE, first_types, shown_types, shown_types_of_all
from workflow_rl.episode import Ticket
from workflow_rl.workflow import NUM_HOST_TYPES, Workflow

_TYPES = np.array([*range(NUM_HOST_TYPES), -1])[:, None]

ALLOWED: NDArray[np.bool_] = (_TYPES < 0) | (FIXED_TYPE < 0) | (_TYPES == FIXED_TYPE)
"""Actions that are allowed while a type is the first one shown, (6, 145) bool; the last row, or row -1, is
for none."""

_FORBIDDEN: NDArray[np.uint8] = np.packbits(~ALLOWED, axis=1)
"""The same as rows of `Episodes.forbidden`, (6, 19) uint8."""


@cache
def _masked_types(workflow: int | None, definition: str | None) -> NDArray[np.int8]:
    if workflow is None or definition is None:
        return np.full(64, -1, np.int8)
    return first_types(Workflow.from_index(workflow), definition)


def masked_types(ticket: Ticket) -> NDArray[np.int8]:
    """The type that alone may be fixed for each set of types that an observation shows, -1 for every type.

    Returns:
        Shape (64,) int8, by `alignment.shown_types`. Not to be written to: episodes share it.
    """
    return _masked_types(ticket.workflow, ticket.mask)


def allowed_by_order(ticket: Ticket, observation: NDArray[np.generic]) -> NDArray[np.bool_]:
    """The actions that are allowed after an observation, (145,) bool, not to be written to.

    Args:
        ticket: of the episode.
        observation: see `alignment.shown_types`.
    """
    allowed: NDArray[np.bool_] = ALLOWED[masked_types(ticket)[shown_types(observation)]]
    return allowed


def forbidden_by_order(masked: NDArray[np.int8], observations: NDArray[np.generic]) -> NDArray[np.uint8]:
    """`Episodes.forbidden` of the steps that followed some observations of one episode.

    Args:
        masked: see `masked_types`.
        observations: (T, O).

    Returns:
        (T, 19) uint8.
    """
    return _FORBIDDEN[masked[shown_types_of_all(observations)]]
