"""What runs in an environment process of the synchronous collector: one environment, as the policy sees it.

Observations leave it encoded and choices enter it undecoded, so the vector environment around it has the same
two spaces whatever is played. It never raises, since `gymnasium.vector.AsyncVectorEnv` could not go on: a
failure is reported in `info`, and the environment built anew for the next episode.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from workflow_rl.alignment import IS_FIX
from workflow_rl.collectors.child_process import settle
from workflow_rl.episode import EnvironmentSpec, NetworkShape
from workflow_rl.errors import WorkflowRLError
from workflow_rl.rollout import (
    BadMask,
    Environment,
    Raised,
    allowed_now,
    compromised_now,
    make_environment,
)
from workflow_rl.spaces import Interface, interface_of

IS_JUDGED = "is_judged"
"""Option of `reset`: whether compliance will be asked for."""

IS_BITS = "is_bits"
"""In the info of `reset`: whether observations are bits."""

COMPROMISED = "compromised"
"""In the info of a step that fixes something: `alignment.compromised_types` before it."""

ALLOWED = "allowed"
"""In the info: the actions allowed next, (A,) bool, where the environment masks actions."""

FAILURE = "failure"
"""In the info of a call that failed: `Failure`."""

Failure = Raised | BadMask | WorkflowRLError
"""Why an episode cannot go on."""

_Report = tuple[NDArray[np.float32], dict[str, Any]]


class RemoteEnvironment(gymnasium.Env[NDArray[np.float32], Any]):
    """An environment that is built at the first reset. Once its episode is over, its steps do nothing.

    Args:
        spec: what to build.
        shape: of the policy's network, whose inputs and outputs are the spaces here.
    """

    def __init__(self, spec: EnvironmentSpec, shape: NetworkShape) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (shape.num_observations,), np.float32)
        self.action_space = _choices(shape)
        self._spec = spec
        self._built: tuple[Environment, Interface] | None = None
        self._observation = np.zeros(shape.num_observations, np.float32)
        self._is_judged = False
        self._is_over = True
        self._num_steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> _Report:
        """Begin an episode.

        Args:
            seed: of the environment.
            options: hold `IS_JUDGED`.

        Returns:
            The encoded observation, and `IS_BITS`, `ALLOWED` or `FAILURE`.
        """
        self._is_judged = bool(options and options[IS_JUDGED])
        self._num_steps = 0
        report: dict[str, Any] = {}
        with self._reporting_failure(report):
            environment, interface = self._build()
            first, info = environment.reset(seed=seed)
            encoded = interface.encode(first)
            self._observation = encoded.astype(np.float32)
            self._is_over = False
            report[IS_BITS] = encoded.dtype == np.uint8
            self._report_mask(report, info, interface)
        return self._observation, report

    def step(self, choice: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Do what the policy chose.

        Args:
            choice: as `inference.Actor.act` gives it.

        Returns:
            As Gymnasium's `step`; of the info only `COMPROMISED`, `ALLOWED` or `FAILURE`.
        """
        report: dict[str, Any] = {}
        outcome = 0.0, True, False
        if self._is_over:
            return self._observation, *outcome, report
        with self._reporting_failure(report):
            environment, interface = self._build()
            if self._is_judged and IS_FIX[choice]:
                report[COMPROMISED] = compromised_now(environment)
            observation, reward, terminated, truncated, info = environment.step(interface.decode(choice))
            self._observation = interface.encode(observation).astype(np.float32)
            outcome = float(reward), bool(terminated), bool(truncated)
            self._num_steps += 1
            self._is_over = outcome[1] or outcome[2]
            if not self._is_over:
                self._report_mask(report, info, interface)
        return self._observation, *outcome, report

    def close(self) -> None:
        """Close the environment, if it was built."""
        if self._built is not None:
            self._built[0].close()

    def _build(self) -> tuple[Environment, Interface]:
        if self._built is None:
            environment = make_environment(self._spec)
            self._built = environment, interface_of(environment)
        return self._built

    def _report_mask(self, report: dict[str, Any], info: dict[str, Any], interface: Interface) -> None:
        try:
            allowed = allowed_now(info, interface)
        except ValueError as error:
            self._is_over = True
            report[FAILURE] = BadMask(self._num_steps, str(error))
        else:
            if allowed is not None:
                report[ALLOWED] = allowed

    @contextmanager
    def _reporting_failure(self, report: dict[str, Any]) -> Iterator[None]:
        """Whatever is raised ends the episode, no more: `sys.exit` too."""
        try:
            yield
        except WorkflowRLError as error:
            self._is_over = True
            report[FAILURE] = error
        except (Exception, SystemExit) as error:  # noqa: BLE001  (the learner is told)
            self._is_over = True
            self._built = None  # it may be in any state now: build it anew
            report[FAILURE] = Raised.by(error)


def _choices(shape: NetworkShape) -> spaces.Space[Any]:
    """What the policy chooses from."""
    if shape.is_gaussian:
        return spaces.Box(-np.inf, np.inf, (shape.num_actions,), np.float32)
    if shape.branches:
        return spaces.MultiDiscrete(list(shape.branches))
    return spaces.Discrete(shape.num_actions)


def open_environment(spec: EnvironmentSpec, shape: NetworkShape, learner: int) -> RemoteEnvironment:
    """Prepare this process, unless it is the learner's, and hand out an environment.

    Args:
        spec: what to play.
        shape: of the policy's network.
        learner: process id of the learner, which Gymnasium asks once for an environment too.
    """
    if os.getpid() != learner:
        settle()
    return RemoteEnvironment(spec, shape)
