"""Small Gymnasium environments with the habits of real ones: uneven, slow, failing, faulty.

Workers make them by name, `awkward_environments:Uneven-v0`, which imports this module in the worker.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from workflow_rl.episode import EnvironmentSpec
from workflow_rl.errors import MissingExtraError

NUM_OBSERVATIONS = 6
NUM_ACTIONS = 145
NUM_HOSTS = 13

Step = tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]


class Uneven(gymnasium.Env[NDArray[np.float32], np.int64]):
    """Episodes of 1 to `longest` steps, some ended by themselves and some cut off; all decided by the seed.

    Observations and rewards depend on every action so far, so that a single different action shows.
    """

    observation_space = spaces.Box(-np.inf, np.inf, (NUM_OBSERVATIONS,), np.float32)
    action_space = spaces.Discrete(NUM_ACTIONS)

    def __init__(self, longest: int = 9, step_seconds: float = 0.0) -> None:
        self._longest = longest
        self._step_seconds = step_seconds

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed)
        self._position = self.np_random.normal(size=NUM_OBSERVATIONS)
        self._steps_left = int(self.np_random.integers(1, self._longest + 1))
        self._ends_by_itself = bool(self.np_random.integers(2))
        return self._position.astype(np.float32), {}

    def step(self, action: int | np.int64) -> Step:
        time.sleep(self._step_seconds)
        self._position += np.cos(action + self.np_random.normal(size=NUM_OBSERVATIONS))
        self._steps_left -= 1
        ended = self._steps_left == 0
        by_itself = self._ends_by_itself
        observation = self._position.astype(np.float32)
        return observation, float(self._position[0]), ended and by_itself, ended and not by_itself, {}

    def red_access(self) -> NDArray[np.int8]:
        """What the judge of compliance sees: shape (13,) int8, hosts held by an imagined attacker."""
        return (self._position[np.arange(NUM_HOSTS) % NUM_OBSERVATIONS] > 0).astype(np.int8)


class Failing(Uneven):
    """Raises in its constructor, in `reset` or in `step`."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self._where = where
        self._fail_in("constructor")

    def _fail_in(self, where: str) -> None:
        if self._where == where:
            raise OSError(f"lost the licence server in {where}")

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        self._fail_in("reset")
        return super().reset(seed=seed, options=options)

    def step(self, action: int | np.int64) -> Step:
        self._fail_in("step")
        return super().step(action)


def _exhaust_memory() -> None:
    """Take memory until there is no more of it: the process is allowed 64 MiB beyond what it has, for now."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + 2**26, most))
    try:
        hoard = []
        while True:
            hoard.append(bytearray(2**20))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (before, most))


def _hang() -> None:
    time.sleep(3600.0)


FAULTS: dict[str, Callable[[], object]] = {
    "exits": lambda: os._exit(3),
    "segfaults": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "is killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "leaves": lambda: sys.exit(4),
    "runs out of memory": _exhaust_memory,
    "hangs": _hang,
}


class Faulty(Uneven):
    """Does one of `FAULTS`, or sends what cannot be sent: always, or so many times.

    Args:
        fault: one of `FAULTS`, "is unpicklable" or "is unreadable".
        where: constructor, reset or step.
        marker: a directory in which its instances, in all processes, count.
        times: how often it happens, if there is a directory.
    """

    def __init__(self, fault: str, where: str = "step", marker: str | None = None, times: int = 1) -> None:
        super().__init__()
        self._fault = fault
        self._where = where
        self._marker = None if marker is None else Path(marker)
        self._times = times
        self._fail_in("constructor")

    def _fail_in(self, where: str) -> None:
        if where == self._where and self._fault in FAULTS and self._is_due():
            FAULTS[self._fault]()

    def _is_due(self) -> bool:
        if self._marker is None:
            return True
        for number in range(self._times):
            try:
                (self._marker / str(number)).touch(exist_ok=False)
            except FileExistsError:
                continue
            return True
        return False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        self._fail_in("reset")
        return super().reset(seed=seed, options=options)

    def step(self, action: int | np.int64) -> Step:
        self._fail_in("step")
        observation, reward, terminated, truncated, info = super().step(action)
        if self._fault == "is unpicklable" and self._is_due():
            return observation, reward, cast(bool, Unpicklable()), truncated, info
        if self._fault == "is unreadable" and self._is_due():
            return observation, reward, cast(bool, Unreadable()), truncated, info
        return observation, reward, terminated, truncated, info


FLAWS: dict[str, Callable[[NDArray[np.int8]], Any]] = {
    "none": lambda mask: mask,
    "absent": lambda mask: None,
    "short": lambda mask: mask[:-1],
    "split": lambda mask: (mask[:1], mask[1:]),
    "half": lambda mask: mask / 2,
    "empty": lambda mask: 0 * mask,
}


class Masked(Uneven):
    """Allows about half of its actions at each step, by its seed, and raises if it gets another.

    Args:
        has_branches: whether an action is two numbers, of 3 and 4, rather than one of 145.
        flaw: one of `FLAWS`, of each mask but the first two of an episode.
    """

    def __init__(self, has_branches: bool = False, flaw: str = "none") -> None:
        super().__init__()
        self._branches = (3, 4) if has_branches else (NUM_ACTIONS,)
        if has_branches:
            self.action_space = spaces.MultiDiscrete(self._branches)
        self._flaw = FLAWS[flaw]

    def _info(self) -> dict[str, Any]:
        """The mask of the next step; one action of each branch is always allowed."""
        self._allowed = [self.np_random.integers(0, 2, number).astype(np.int8) for number in self._branches]
        for part in self._allowed:
            part[self.np_random.integers(len(part))] = 1
        mask = np.concatenate(self._allowed)
        return {"action_mask": self._flaw(mask) if self._steps >= 2 else mask}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        observation, _ = super().reset(seed=seed, options=options)
        self._steps = 0
        return observation, self._info()

    def step(self, action: Any) -> Step:
        for number, part in zip(np.atleast_1d(action), self._allowed, strict=True):
            if not part[number] and self._flaw(part) is not None:
                raise ValueError(f"{number} is not allowed now")
        self._steps += 1
        observation, reward, terminated, truncated, _ = super().step(int(np.sum(action)))
        return observation, reward, terminated, truncated, self._info()


class Unequipped(Uneven):
    """Needs what is not installed."""

    def __init__(self) -> None:
        super().__init__()
        raise MissingExtraError("nothing", "cyborg", "an unequipped environment")


class Unpicklable:
    """Stands for true, and cannot be sent."""

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("cannot be sent")


class Unreadable:
    """Stands for true, can be sent and not be received."""

    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("no number",)


for _name in ("Uneven", "Failing", "Faulty", "Masked", "Unequipped"):
    gymnasium.register(id=f"{_name}-v0", entry_point=f"{__name__}:{_name}")


def specification(name: str, **kwargs: Any) -> EnvironmentSpec:
    """How to ask a worker for one of these environments."""
    return EnvironmentSpec.of(f"{__name__}:{name}-v0", kwargs)
