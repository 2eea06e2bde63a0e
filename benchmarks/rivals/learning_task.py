"""What is learnt where systems are compared by what they learn, and the fresh episodes that score them all.

This module is loaded in every rival's Python environment: it needs Gymnasium, NumPy and what the environment
needs, and nothing else.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Self

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from workflow_rl.cage2.vector_env import Cage2VectorEnv
from workflow_rl.evaluation import FIRST_FRESH_EPISODE
from workflow_rl.seeding import Stream, environment_seed, episode_key

Choose = Callable[[NDArray[np.int8]], NDArray[np.int64]]
"""A policy: observations (E, O) int8 to actions (E,) int64."""


@dataclass(frozen=True)
class Transition:
    """One step of E episodes that are played side by side.

    Attributes:
        observations: before it, (E, O) int8.
        actions: (E,) int64.
        rewards: (E,) float64.
        next_observations: after it, (E, O) int8.
    """

    observations: NDArray[np.int8]
    actions: NDArray[np.int64]
    rewards: NDArray[np.float64]
    next_observations: NDArray[np.int8]


@dataclass(frozen=True)
class Score:
    """Mean return of fresh episodes, with its standard error."""

    reward: float
    standard_error: float


@dataclass(frozen=True)
class LearningTask:
    """CAGE Challenge 2 without a workflow, on the native simulator.

    Attributes:
        red_agent: the attacker.
        seed: of everything.
        episodes: of training.
        max_steps: of an episode.
        evaluation_episodes: that score the final policy.
    """

    red_agent: str
    seed: int
    episodes: int
    max_steps: int = 100
    evaluation_episodes: int = 1000

    @classmethod
    def from_command_line(cls) -> Self:
        """The task that this script was started with."""
        return cls(**json.loads(sys.argv[1]))

    def to_json(self) -> str:
        """The argument that `from_command_line` reads."""
        return json.dumps(asdict(self))

    def play(self, stream: Stream, episodes: Sequence[int], choose: Choose) -> Iterator[Transition]:
        """Play episodes of a stream of seeds side by side, step by step."""
        games = Cage2VectorEnv(
            len(episodes), AutoresetMode.DISABLED, red_agent=self.red_agent, max_steps=self.max_steps
        )
        keys = [episode_key(self.seed, stream, episode) for episode in episodes]
        observations, _ = games.reset(seed=[int(environment_seed(key)) for key in keys])
        for _ in range(self.max_steps):
            actions = choose(observations)
            next_observations, rewards, *_ = games.step(actions)
            yield Transition(observations, actions, rewards, next_observations)
            observations = next_observations

    def score(self, choose: Choose) -> Score:
        """Play the episodes that score every system: fresh ones, the same for all."""
        episodes = range(FIRST_FRESH_EPISODE, FIRST_FRESH_EPISODE + self.evaluation_episodes)
        returns = sum(step.rewards for step in self.play(Stream.EVALUATION_EPISODE, episodes, choose))
        return Score(float(returns.mean()), float(returns.std(ddof=1) / np.sqrt(len(episodes))))
