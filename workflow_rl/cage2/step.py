"""One step of the game, in the reference's order: blue acts, green sleeps, red acts, blue looks, the score.

Source: environment_controller.py, step.
"""

from __future__ import annotations

from workflow_rl.cage2.action_sets import action_meant
from workflow_rl.cage2.blue import act
from workflow_rl.cage2.generator import Chance, chance_of
from workflow_rl.cage2.observation import perceive
from workflow_rl.cage2.red import perform
from workflow_rl.cage2.red_agents import decide
from workflow_rl.cage2.reward import score
from workflow_rl.cage2.state import State
from workflow_rl.compilation import compiled


@compiled
def step(state: State, action: int) -> float:
    """Play one step with the chances of the episode's seed.

    Args:
        state: a record of `STATE`, changed in place. Its `step` is not compared with `max_steps`: the game
            itself never ends.
        action: blue's, a position in the names of its action set (`action_sets.action_names`); not checked.

    Returns:
        The reward, a multiple of 0.1 up to 0.
    """
    return advance(state, action_meant(state, action), chance_of(state.key, state.step))


@compiled
def advance(state: State, action: int, chance: Chance) -> float:
    """Play one step, given one of the 145 actions and chances: a pure function but for changing `state`.

    Red decides on what it knew at the end of the last step, so that blue's action of this step, which comes
    first, is seen in what red's action comes to and not in which action it is.
    """
    state.blue_action = action
    blue_outcome = act(state, action)
    decision = decide(state, chance)
    state.red_action = decision.action
    state.red_target = decision.target
    red_outcome = perform(state, decision.action, decision.target, chance)
    state.red_succeeded = red_outcome.succeeded
    perceive(state, action, blue_outcome, red_outcome.traffic)
    state.step += 1
    return score(state, action)
