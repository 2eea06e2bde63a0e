"""What a defender's score is worth where it was not trained: other attackers, and observations that get lost.

Nine cells say how well a policy does against the attackers that it knows. Here it plays against each of them
alone, which tells most of a policy that was trained against the other; against one from which another takes
over in the middle of the episode; and with a tenth and three tenths of its observations lost
(`cage2.disturbances` says what that means).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from workflow_rl.cage2.scenario import MIXED_RED_AGENTS
from workflow_rl.environments import NATIVE
from workflow_rl.episode import EnvironmentSpec
from workflow_rl.errors import SettingError
from workflow_rl.evaluation import HORIZONS, score_environment
from workflow_rl.protocol import PlaysEpisodes

_DISTURBED = "workflow_rl.cage2.disturbances:DisturbedCage2Env"


@dataclass(frozen=True)
class Situation:
    """Conditions of an episode.

    Attributes:
        red_agent: who attacks first.
        successor: who takes over after half of the steps; `None` if nobody does.
        dropped: probability, at each step, that the observation gets lost.
    """

    red_agent: str
    successor: str | None = None
    dropped: float = 0.0

    def __str__(self) -> str:
        attack = self.red_agent if self.successor is None else f"{self.red_agent}, then {self.successor}"
        return f"{attack}, {self.dropped:.0%} of observations lost" if self.dropped else attack


_B_LINE, _MEANDER = MIXED_RED_AGENTS

SITUATIONS = (
    *(Situation(red_agent, dropped=share) for share in (0.0, 0.1, 0.3) for red_agent in MIXED_RED_AGENTS),
    Situation(_B_LINE, successor=_MEANDER),
    Situation(_MEANDER, successor=_B_LINE),
)


@dataclass(frozen=True)
class Trial:
    """How a policy did in a situation.

    Attributes:
        situation: the conditions.
        mean: of the returns of episodes of 100 steps.
        standard_error: of that mean.
    """

    situation: Situation
    mean: float
    standard_error: float


def play_robustness(play: PlaysEpisodes, environment: EnvironmentSpec, num_episodes: int) -> Iterator[Trial]:
    """Play every situation, each on episodes of its own.

    Args:
        play: plays numbered episodes of an environment.
        environment: the native simulator; its attacker and horizon do not matter.
        num_episodes: of each situation, at least two.

    Raises:
        SettingError: it is another simulator.
    """
    if environment.id != NATIVE:
        raise SettingError("--protocol robustness needs --simulator native: only that can be disturbed")
    for number, situation in enumerate(SITUATIONS):
        changes = {"max_steps": max(HORIZONS), **vars(situation)}
        disturbed = EnvironmentSpec.of(_DISTURBED, {**dict(environment.kwargs), **changes})
        score = score_environment(play(disturbed, range(number * num_episodes, (number + 1) * num_episodes)))
        yield Trial(situation, score.mean_return, score.standard_error)
