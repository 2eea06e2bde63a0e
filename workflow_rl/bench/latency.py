"""An environment whose steps wait on something outside and use almost no processor time.

It stands for an emulated network, a service or a simulator process: the regime in which a hundred workers on
two cores pay. Sizes are those of CAGE Challenge 2, so that policy, learner and hand-over cost what they cost
there. How long each step and each reset takes is drawn when an episode begins, from the episode's seed: runs
are repeatable, slow episodes included.

Workers make it by name: importing this module registers it with Gymnasium.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from workflow_rl.cage2.scenario import NUM_ACTIONS, NUM_HOSTS, NUM_OBSERVATION_BITS
from workflow_rl.episode import EnvironmentSpec
from workflow_rl.errors import SettingError

LATENCY = "workflow_rl/Latency-v0"


@dataclass(frozen=True)
class Waits:
    """How long the environment makes everybody wait, in seconds.

    Attributes:
        mean_step: mean of the log-normal step time.
        sigma: standard deviation of its logarithm: 0.5 is a light tail, 1.25 a heavy one.
        shortest_reset: resets take from this ...
        longest_reset: ... to that, uniformly.
        num_steps: steps of an episode.
        step_times: file of measured step times, seconds, that are drawn from in place of the log-normal ones
            (`measured`); empty for none.
    """

    mean_step: float = 0.0056
    sigma: float = 0.5
    shortest_reset: float = 0.0
    longest_reset: float = 0.0
    num_steps: int = 100
    step_times: str = ""

    @classmethod
    def measured(cls, file: Path) -> Self:
        """The step times of somebody's own environment.

        Raises:
            SettingError: the file holds none.
        """
        return cls(mean_step=float(read_step_times(file).mean()), step_times=str(file.absolute()))

    def __str__(self) -> str:
        source = Path(self.step_times).name if self.step_times else f"log-normal with sigma {self.sigma:g}"
        steps = f"{self.num_steps} steps of {1000 * self.mean_step:.3g} ms on average, {source}"
        if self.longest_reset == 0:
            return steps
        return f"{steps}; resets of {self.shortest_reset:g} to {self.longest_reset:g} s"

    @property
    def mean_episode(self) -> float:
        """Expected seconds of an episode that nothing but the environment slows down."""
        return (self.shortest_reset + self.longest_reset) / 2 + self.num_steps * self.mean_step

    def environment(self) -> EnvironmentSpec:
        """The environment with these waits, as workers make it."""
        return EnvironmentSpec.of(f"{__name__}:{LATENCY}", asdict(self))


def read_step_times(file: Path) -> NDArray[np.float64]:
    """Measured step times, seconds: numbers of a text file, separated by white space or commas.

    Raises:
        SettingError: it cannot be read, or holds anything but numbers that are at least 0, one of them above.
    """
    try:
        times = np.array(file.read_text().replace(",", " ").split(), np.float64)
    except OSError as error:
        raise SettingError(f"--step-times {file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise SettingError(f"--step-times {file}: {error}; expected seconds of each step") from error
    if not (np.isfinite(times).all() and (times >= 0).all() and times.any()):
        raise SettingError(f"--step-times {file}: expected seconds of at least 0, not all of them 0")
    return times


class Latency(gymnasium.Env[NDArray[np.int8], np.int64]):
    """Random bits, a reward of 1 where the bit that the action points at is set, and waiting.

    Args:
        **waits: see `Waits`.
    """

    observation_space = spaces.MultiBinary(NUM_OBSERVATION_BITS)
    action_space = spaces.Discrete(NUM_ACTIONS)

    def __init__(self, **waits: Any) -> None:
        self._waits = Waits(**waits)
        self._log_mean = math.log(self._waits.mean_step) - self._waits.sigma**2 / 2
        self._measured = read_step_times(Path(self._waits.step_times)) if self._waits.step_times else None
        self._access = np.zeros(NUM_HOSTS, np.int8)

    def reset(
        self,
        *,
        seed: int | None = None,
        options: dict[str, Any] | None = None,  # noqa: ARG002  (Gymnasium's signature)
    ) -> tuple[NDArray[np.int8], dict[str, Any]]:
        """Draw the episode's waits and observations, then wait for the reset."""
        super().reset(seed=seed)
        waits, draws = self._waits, self.np_random
        reset_seconds = draws.uniform(waits.shortest_reset, waits.longest_reset)
        self._step_seconds = self._draw_step_seconds().tolist()
        self._observations = draws.integers(
            2, size=(waits.num_steps + 1, NUM_OBSERVATION_BITS), dtype=np.int8
        )
        self._step = 0
        time.sleep(reset_seconds)
        return self._observations[0], {}

    def step(self, action: int | np.int64) -> tuple[NDArray[np.int8], float, bool, bool, dict[str, Any]]:
        """Wait; the time limit is the only end of an episode."""
        time.sleep(self._step_seconds[self._step])
        reward = float(self._observations[self._step, action % NUM_OBSERVATION_BITS])
        self._step += 1
        return self._observations[self._step], reward, False, self._step == self._waits.num_steps, {}

    def _draw_step_seconds(self) -> NDArray[np.float64]:
        """Of a whole episode, (T,) float64."""
        if self._measured is not None:
            return self.np_random.choice(self._measured, self._waits.num_steps)
        return self.np_random.lognormal(self._log_mean, self._waits.sigma, self._waits.num_steps)

    def red_access(self) -> NDArray[np.int8]:
        """What the judge of compliance sees, shape (13,) int8: an attacker who never gets anywhere."""
        return self._access


# The order of calls is not checked at every step: nobody but `rollout` and `bench.limit` plays it.
gymnasium.register(id=LATENCY, entry_point=f"{__name__}:Latency", order_enforce=False)
