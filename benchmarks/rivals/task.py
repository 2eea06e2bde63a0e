"""The work that every system is given, and the line by which it says how far it is.

A system is a script that is started with the task as its first argument, in JSON, and trains until it is
killed. After each update it prints a line, see `report_update`; whatever else it prints is of no account.
This module is loaded in every rival's Python environment, in workers too: it needs Gymnasium, NumPy and what
the environment needs, and nothing else.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import gymnasium
import numpy as np
from numpy.typing import NDArray

from workflow_rl.settings import PPOSettings

ENDLESS = 1_000_000_000
"""Steps after which a system may stop by itself: more than any makes before it is killed."""

_MARK = "rivals-update "


@dataclass(frozen=True)
class Task:
    """What is trained on, by how many processes, and how an update is made.

    Attributes:
        environment: Gymnasium id, with the module that registers it.
        environment_arguments: of its constructor, JSON values.
        n_workers: processes that play.
        episode_steps: steps of every episode.
        batch_steps: steps that an update learns from.
        ppo: network and update.
    """

    environment: str
    environment_arguments: dict[str, Any]
    n_workers: int
    episode_steps: int = 100
    batch_steps: int = 10_000
    ppo: PPOSettings = field(default_factory=PPOSettings)

    @classmethod
    def from_command_line(cls) -> Self:
        """The task that this script was started with."""
        values = json.loads(sys.argv[1])
        return cls(**{**values, "ppo": PPOSettings(**values["ppo"])})

    def to_json(self) -> str:
        """The argument that `from_command_line` reads."""
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class Update:
    """How far a system is.

    Attributes:
        steps: learnt from so far.
        seconds: end of the update, of the system-wide monotonic clock.
    """

    steps: int
    seconds: float

    @classmethod
    def of_line(cls, line: str) -> Self | None:
        """What a line of a system's output says; `None` if it is about something else."""
        if not line.startswith(_MARK):
            return None
        return cls(**json.loads(line.removeprefix(_MARK)))


def report_update(steps: int) -> None:
    """Print that an update has ended.

    Args:
        steps: learnt from so far, in all updates.
    """
    print(_MARK + json.dumps(asdict(Update(steps, time.monotonic()))), flush=True)


class _Decimal(gymnasium.ObservationWrapper[NDArray[np.float32], Any, Any]):
    """Bits as decimal numbers, which is all that some systems learn from."""

    def __init__(self, environment: gymnasium.Env[Any, Any]) -> None:
        super().__init__(environment)
        self.observation_space = gymnasium.spaces.Box(0.0, 1.0, environment.observation_space.shape)

    def observation(self, observation: NDArray[Any]) -> NDArray[np.float32]:
        return observation.astype(np.float32)


def make_environment(task: Task) -> gymnasium.Env[NDArray[np.float32], Any]:
    """The environment as rivals take it, without Gymnasium's checks of every step."""
    made = gymnasium.make(task.environment, disable_env_checker=True, **task.environment_arguments)
    return _Decimal(made)
