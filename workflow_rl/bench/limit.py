"""The limit that a collector is held against: processes that do nothing but step an environment.

No learner, no snapshots, no queues; nobody waits for anybody. Each process plays whole episodes, one after
the other, and carries an episode that the end of a round cuts off over into the next, so that a round has
neither a start nor a tail. The processes are prepared as a collector's workers are: from the same fork server
if one runs already, with the same niceness.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from workflow_rl.closing import Closing
from workflow_rl.collectors import worker
from workflow_rl.episode import EnvironmentSpec, Snapshot
from workflow_rl.inference import Actor
from workflow_rl.rollout import Environment, make_environment
from workflow_rl.seeding import Stream, environment_seed, episode_key
from workflow_rl.workflow import Workflow

_EPISODES_PER_PROCESS = 1_000_000
"""Distance between the episode numbers of two processes, more than one of them ever plays."""

_JOIN_SECONDS = 5.0


@dataclass(frozen=True)
class LimitRound:
    """What the processes did together in one round.

    Attributes:
        steps: taken.
        wall_seconds: length of the round.
        cpu_seconds: of all processes.
    """

    steps: int
    wall_seconds: float
    cpu_seconds: float


class _Chooser(Protocol):
    """Chooses the actions of one episode after the other."""

    def begin_episode(self, key: np.uint64) -> None: ...

    def choose(self, observation: NDArray[Any], step: int) -> int: ...


class _Uniform:
    """Every action is as likely as any other."""

    def __init__(self, environment: Environment) -> None:
        self._num_actions = int(environment.action_space.n)  # type: ignore[attr-defined]  # Discrete
        self._draws = np.random.default_rng(0)

    def begin_episode(self, key: np.uint64) -> None:
        self._draws = np.random.default_rng(int(key))

    def choose(self, observation: NDArray[Any], step: int) -> int:  # noqa: ARG002  (sees and counts nothing)
        return int(self._draws.integers(self._num_actions))


class _Policy:
    """A snapshot's policy, told an order, as a worker evaluates it."""

    def __init__(self, snapshot: Snapshot, workflow: int) -> None:
        self._actor = Actor(snapshot)
        self._context = Workflow.from_index(workflow).one_hot().ravel()

    def begin_episode(self, key: np.uint64) -> None:
        self._actor.begin_episode(self._context, key, greedy=False)

    def choose(self, observation: NDArray[Any], step: int) -> int:
        return int(self._actor.act(np.asarray(observation, np.float32), step)[0])


class LimitProcesses(Closing):
    """Processes that step one environment each; a context manager.

    Args:
        count: how many.
        environment: what each builds.
        snapshot: the policy that acts, told workflow 0; with `None`, actions are uniformly random.

    Attributes:
        startup_seconds: until all have built their environment.
    """

    def __init__(self, count: int, environment: EnvironmentSpec, snapshot: Snapshot | None) -> None:
        started = time.monotonic()
        self._directory = tempfile.TemporaryDirectory(prefix="workflow-rl-limit-")
        context = multiprocessing.get_context("forkserver")
        self._connections: list[Connection] = []
        self._processes = []
        for index in range(count):
            ours, theirs = context.Pipe()
            arguments = (theirs, Path(self._directory.name), environment, snapshot, index)
            process = context.Process(target=_serve, args=arguments, daemon=True)
            process.start()
            theirs.close()
            self._connections.append(ours)
            self._processes.append(process)
        for connection in self._connections:
            connection.recv()
        self.startup_seconds = time.monotonic() - started

    def play(self, seconds: float) -> LimitRound:
        """Let all processes step for a while."""
        end = time.monotonic() + seconds
        cpu_before = self._ask(None)
        steps = self._ask(end)
        cpu_after = self._ask(None)
        return LimitRound(int(sum(steps)), seconds, sum(cpu_after) - sum(cpu_before))

    def close(self) -> None:
        """End the processes. May be called twice."""
        for connection in self._connections:
            connection.close()
        for process in self._processes:
            process.join(_JOIN_SECONDS)
            if process.is_alive():
                process.kill()
        self._directory.cleanup()

    def _ask(self, question: float | None) -> list[float]:
        for connection in self._connections:
            connection.send(question)
        return [connection.recv() for connection in self._connections]


def _serve(
    connection: Connection,
    directory: Path,
    environment: EnvironmentSpec,
    snapshot: Snapshot | None,
    index: int,
) -> None:
    """Answer questions until the parent hangs up: steps taken up to an instant, or (None) CPU time so far."""
    worker.start(directory)
    built = make_environment(environment)
    chooser = _Uniform(built) if snapshot is None else _Policy(snapshot, workflow=0)
    steps = _endless_steps(built, chooser, first_episode=index * _EPISODES_PER_PROCESS)
    next(steps)
    connection.send(os.getpid())
    try:
        while True:
            end = connection.recv()
            connection.send(time.process_time() if end is None else _steps_until(end, steps))
    except EOFError:
        built.close()


def _steps_until(end: float, steps: Iterator[None]) -> int:
    count = 0
    while time.monotonic() < end:
        next(steps)
        count += 1
    return count


def _endless_steps(environment: Environment, chooser: _Chooser, first_episode: int) -> Iterator[None]:
    """Play episode after episode, pausing after every step."""
    for episode in itertools.count(first_episode):
        key = episode_key(0, Stream.TRAINING_EPISODE, episode)
        chooser.begin_episode(key)
        observation, _ = environment.reset(seed=int(environment_seed(key)))
        is_over = False
        step = 0
        while not is_over:
            observation, _, terminated, truncated, _ = environment.step(chooser.choose(observation, step))
            is_over = terminated or truncated
            step += 1
            yield
