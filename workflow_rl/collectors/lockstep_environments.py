"""Environments in processes of their own that step together: `gymnasium.vector.AsyncVectorEnv`.

    learner's process                                environment processes (forkserver)
    step(choices) -- a pipe each ----------------->  RemoteEnvironment: decode, step, encode
    observations  <- one block of shared memory ---
    the rest      <- a pipe each -----------------   reward, end, compliance, action mask or failure

Every call is a barrier: it returns when the slowest environment has answered. As fast as Gymnasium has it:
observations come through shared memory and are not copied again, processes come from the package's own fork
server, resets are the learner's (`AutoresetMode.DISABLED`) and go to those that begin an episode. A vector
environment does not replace a process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import connection
from typing import Any

import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode
from numpy.typing import NDArray

from workflow_rl.closing import Closing
from workflow_rl.collectors.child_process import ending_of
from workflow_rl.collectors.remote_environment import (
    ALLOWED,
    COMPROMISED,
    FAILURE,
    IS_BITS,
    IS_JUDGED,
    Failure,
    open_environment,
)
from workflow_rl.episode import EnvironmentSpec, NetworkShape
from workflow_rl.fork_server import worker_context

_DYING_SECONDS = 1.0
"""A process whose pipe is broken has ended or is about to."""


class ProcessLost(Exception):
    """An environment process has ended.

    Attributes:
        number: of the environment; `None` if it is not known.
        ending: how the process ended, in words.
    """

    def __init__(self, number: int | None, ending: str) -> None:
        super().__init__(f"environment process {number} {ending}")
        self.number = number
        self.ending = ending


@dataclass(frozen=True, slots=True, eq=False)
class Begun:
    """What came of a reset.

    Attributes:
        is_bits: whether observations are bits, as far as any environment said.
        failures: of the environments that could not begin, by number.
    """

    is_bits: bool
    failures: Mapping[int, Failure]


@dataclass(frozen=True, slots=True, eq=False)
class Stepped:
    """What came of a step in n environments.

    Attributes:
        rewards: (n,) float64.
        terminated: whether the episode ended by itself, (n,) bool.
        is_over: whether it ended, also because it failed, (n,) bool.
        compromised: `alignment.compromised_types` before a fix, else 0, (n,) int.
        failures: of the environments that cannot go on, by number.
    """

    rewards: NDArray[np.float64]
    terminated: NDArray[np.bool_]
    is_over: NDArray[np.bool_]
    compromised: NDArray[np.int64]
    failures: Mapping[int, Failure]


class LockstepEnvironments(Closing):
    """Environments that step together; none is built before its first reset.

    Args:
        spec: what each of them is.
        shape: of the policy's network.
        count: how many, n.
        preload: what the fork server imports before the first of them.

    Attributes:
        count: n.
        num_actions: A.
        observations: the last of each environment, encoded, (n, O) float32; overwritten by every call.
        allowed: actions allowed next, (n, A) bool; `None` as long as no environment has given an action mask.
        processes: their process ids, (n,) int32.

    Raises:
        ProcessLost: a process ended, here and in every call.
    """

    def __init__(
        self, spec: EnvironmentSpec, shape: NetworkShape, count: int, preload: Sequence[str]
    ) -> None:
        self.count = count
        self.allowed: NDArray[np.bool_] | None = None
        self.num_actions = shape.num_actions
        self._nothing_compromised = np.zeros(count, np.int64)
        self._is_answered = True
        self._vector: AsyncVectorEnv[NDArray[np.float32], Any] = AsyncVectorEnv(
            [partial(open_environment, spec, shape, os.getpid())] * count,
            copy=False,
            context=worker_context(preload).get_start_method(),
            autoreset_mode=AutoresetMode.DISABLED,
        )
        self.observations = self._vector.observations
        self.processes = np.array([process.pid for process in self._vector.processes], np.int32)

    def reset(self, seeds: Mapping[int, int], *, is_judged: bool) -> Begun:
        """Begin an episode in some environments.

        Args:
            seeds: of those environments, at least one, by number.
            is_judged: whether their fixes are to be judged.
        """
        numbers = list(seeds)
        mask = np.zeros(self.count, np.bool_)
        mask[numbers] = True
        with self._awaiting_answers():
            _, infos = self._vector.reset(
                seed=[seeds.get(number) for number in range(self.count)],
                options={"reset_mask": mask, IS_JUDGED: is_judged},
            )
        self._note_allowed(infos, mask)
        return Begun(bool(np.any(infos.get(IS_BITS, False))), _failures(infos))

    def step(self, numbers: NDArray[np.int64], choices: NDArray[Any]) -> Stepped:
        """Let all environments step; those whose episode is over do nothing.

        Args:
            numbers: of the environments that something was chosen for, (P,) int64.
            choices: as `batch_inference.BatchActor` gives them, (P, ...).
        """
        actions = np.zeros((self.count, *choices.shape[1:]), choices.dtype)
        actions[numbers] = choices
        with self._awaiting_answers():
            # Python's own numbers travel faster than numpy's.
            _, rewards, terminated, truncated, infos = self._vector.step(
                actions.tolist() if actions.ndim == 1 else actions
            )
        self._note_allowed(infos, np.ones(self.count, np.bool_))
        return Stepped(
            rewards,
            terminated,
            terminated | truncated,
            infos.get(COMPROMISED, self._nothing_compromised),
            _failures(infos),
        )

    def close(self) -> None:
        """Close the environments and end their processes. Idempotent."""
        if self._is_answered:
            with suppress(EOFError, OSError):  # a process is lost already
                self._vector.close()
        for process in self._vector.processes:
            process.kill()
            process.join()
        self._vector.closed = True  # or it would ask those that are gone, once it is forgotten

    def _note_allowed(self, infos: Mapping[str, Any], answered: NDArray[np.bool_]) -> None:
        """Keep the action masks of those who answered; without one, everything is allowed."""
        if self.allowed is None and ALLOWED not in infos:
            return
        if self.allowed is None:
            self.allowed = np.ones((self.count, self.num_actions), np.bool_)
        self.allowed[answered] = True
        if ALLOWED in infos:
            given = infos[f"_{ALLOWED}"]
            self.allowed[given] = infos[ALLOWED][given]

    @contextmanager
    def _awaiting_answers(self) -> Iterator[None]:
        """Notice that an answer will never come."""
        self._is_answered = False
        try:
            yield
        except (EOFError, OSError) as error:  # what a pipe says whose other end is gone
            raise self._loss() from error
        self._is_answered = True

    def _loss(self) -> ProcessLost:
        processes = self._vector.processes
        connection.wait([process.sentinel for process in processes], timeout=_DYING_SECONDS)
        for number, process in enumerate(processes):
            if process.exitcode is not None:
                return ProcessLost(number, ending_of(process.exitcode))
        return ProcessLost(None, "does not answer")


def _failures(infos: Mapping[str, Any]) -> dict[int, Failure]:
    failures = infos.get(FAILURE)
    if failures is None:
        return {}
    return {number: failure for number, failure in enumerate(failures) if failure is not None}
