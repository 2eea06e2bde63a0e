"""What a step costs blue."""

from __future__ import annotations

from workflow_rl.cage2.scenario import NUM_HOSTS
from workflow_rl.cage2.state import State
from workflow_rl.cage2.tables import ACTION_KIND, AVAILABILITY_TENTHS, CONFIDENTIALITY_TENTHS, RESTORE
from workflow_rl.compilation import compiled

RESTORE_COST_TENTHS = 10
"""Source: restore.py, cost."""


@compiled
def score(state: State, action: int) -> float:
    """The reward of a step, from the state after it and blue's action.

    Each host with a privileged red session costs its confidentiality, whatever the number of sessions; a
    stopped OTService costs 10; a Restore costs 1. All are levels, paid every step. Counted in tenths, so that
    the quotient is the same double as the reference's sum rounded to one decimal.

    Source: blue_reward_calculator.py; red_reward_calculator.py, PwnRewardCalculator and
    DistruptRewardCalculator; environment_controller.py, step.
    """
    tenths = 0
    for host in range(NUM_HOSTS):
        if state.privileged_sessions[host] > 0:
            tenths += CONFIDENTIALITY_TENTHS[host]
    if state.is_service_stopped:
        tenths += AVAILABILITY_TENTHS
    if ACTION_KIND[action] == RESTORE:
        tenths += RESTORE_COST_TENTHS
    return -tenths / 10.0
