"""The protocol of CAGE Challenge 2: three attackers at three horizons, and the sum of the nine means.

One agent plays all nine cells and is told neither attacker nor horizon; a cell is the mean return of 1,000
episodes (cage-challenge-2, README and `evaluation.py`; its loop counts the steps and ignores `done`). The
episodes of each cell are its own, so the nine means are independent and their variances add up.

A total is worth nothing without its rules. The leaderboard was scored at commit 606813b; two later ones,
under the same version number, let exploits succeed that used to fail (`SimulatorSettings.rules`), by which
the winner's own weights lose 35 points.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from workflow_rl.cage2.scenario import RED_AGENTS
from workflow_rl.environments import with_attacker
from workflow_rl.episode import EnvironmentSpec, Episodes
from workflow_rl.evaluation import HORIZONS, NORMAL_95, score_environment
from workflow_rl.seeding import environment_seed, episode_key

PROTOCOL_EPISODES = 1000
"""Of each cell."""

PlaysEpisodes = Callable[[EnvironmentSpec, range], Episodes]
"""Plays the episodes of these numbers in an environment, one policy all of them."""


@dataclass(frozen=True)
class Cell:
    """One attacker at one horizon.

    Attributes:
        red_agent: the attacker.
        horizon: steps of an episode.
        mean: of the returns.
        standard_error: of that mean.
        seeds: of the environment, one for each episode: `Cage2Env.reset(seed=...)` plays the same attack.
    """

    red_agent: str
    horizon: int
    mean: float
    standard_error: float
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Published:
    """A published result.

    Attributes:
        name: of the team or the work.
        rules: see `SimulatorSettings.rules`.
        total: sum of the nine means.
        half_width: of its 95 % interval; `None` if it was not published.
        means: of each attacker at 30, 50 and 100 steps.
    """

    name: str
    rules: str
    total: float
    half_width: float | None
    means: Mapping[str, tuple[float, float, float]]


_NOTHING = (0.0, 0.0, 0.0)

PUBLISHED = (
    Published(
        "CardiffUni, first in 2022",
        "leaderboard",
        -54.57,
        0.43,
        {
            "B_lineAgent": (-3.47, -6.41, -13.76),
            "RedMeanderAgent": (-5.64, -8.69, -16.6),
            "SleepAgent": _NOTHING,
        },
    ),
    Published(
        "Keeping it RL, second",
        "leaderboard",
        -56.9,
        0.59,
        {
            "B_lineAgent": (-3.48, -5.85, -11.39),
            "RedMeanderAgent": (-6.47, -10.33, -19.38),
            "SleepAgent": _NOTHING,
        },
    ),
    Published(
        "Mindrake, third",
        "leaderboard",
        -57.05,
        0.56,
        {
            "B_lineAgent": (-3.53, -6.2, -12.78),
            "RedMeanderAgent": (-6.76, -10.13, -17.65),
            "SleepAgent": _NOTHING,
        },
    ),
    Published(
        "CardiffUni again",
        "2.1",
        -89.68,
        None,
        {
            "B_lineAgent": (-5.69, -13.79, -39.08),
            "RedMeanderAgent": (-5.58, -8.79, -16.75),
            "SleepAgent": _NOTHING,
        },
    ),
)
"""The leaderboard's first three (cage-challenge-2, README), and its winner's weights run again."""


def play_protocol(play: PlaysEpisodes, environment: EnvironmentSpec, num_episodes: int) -> Iterator[Cell]:
    """Play the nine cells.

    Args:
        play: plays numbered episodes of an environment.
        environment: CAGE Challenge 2; its attacker and horizon do not matter.
        num_episodes: of each cell, at least two.
    """
    for number, (red_agent, horizon) in enumerate((r, h) for r in RED_AGENTS for h in HORIZONS):
        episodes = play(
            with_attacker(environment, red_agent, horizon),
            range(number * num_episodes, (number + 1) * num_episodes),
        )
        result = score_environment(episodes)
        keys = [episode_key(ticket.run_seed, ticket.stream, ticket.episode) for ticket in episodes.tickets]
        yield Cell(
            red_agent=red_agent,
            horizon=horizon,
            mean=result.mean_return,
            standard_error=result.standard_error,
            seeds=tuple(int(environment_seed(key)) for key in keys),
        )


def total_of(cells: Sequence[Cell]) -> tuple[float, float]:
    """The sum of the means, and half of its 95 % interval."""
    variance = math.fsum(cell.standard_error**2 for cell in cells)
    return math.fsum(cell.mean for cell in cells), NORMAL_95 * math.sqrt(variance)
