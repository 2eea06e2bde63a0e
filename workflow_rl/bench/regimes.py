"""What is played when systems are compared.

latency     steps wait on something outside and use almost no CPU time (`latency`): workers pay
reference   CybORG itself, some milliseconds of CPU time a step: cores pay
native      the compiled simulator, microseconds a step: nothing pays but a low overhead
an id       any Gymnasium environment
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from workflow_rl.bench.latency import Waits
from workflow_rl.environments import cage2_environment, constructor_errors, gymnasium_environment
from workflow_rl.episode import EnvironmentSpec, NetworkShape
from workflow_rl.rollout import shape_for
from workflow_rl.settings import EnvironmentSettings, PPOSettings, SimulatorSettings

REGIMES = ("latency", "reference", "native")

_NO_TIME = 1e-9
"""Seconds; a logarithm is taken of it."""


@dataclass(frozen=True)
class Regime:
    """What is played, and by which network.

    Attributes:
        name: one of `REGIMES`, or the environment's id.
        environment: what workers build.
        workflow: that the policy is told, `None` for an environment without workflows.
        waits: of the regime latency, else `None`.
        shape: of the policy's network.
    """

    name: str
    environment: EnvironmentSpec
    workflow: int | None
    waits: Waits | None
    shape: NetworkShape

    @property
    def description(self) -> str:
        """One line for people."""
        if self.waits is None:
            return f"{self.name}: {self.environment.id}"
        return f"{self.name}: {self.waits}"

    def with_waits(self, waits: Waits) -> Regime:
        """The regime latency with other waits."""
        return replace(self, environment=waits.environment(), waits=waits)

    def without_waits(self) -> Regime:
        """The same work for the processor, with nothing to wait for."""
        if self.waits is None:
            return self
        return self.with_waits(Waits(mean_step=_NO_TIME, sigma=0.0, num_steps=self.waits.num_steps))


def cage2_regime(simulator: str) -> Regime:
    """CAGE Challenge 2, as the main job plays it, on a simulator of `SimulatorSettings`.

    Raises:
        SettingError: the reference simulator is not installed.
    """
    name = {"cyborg": "reference", "native": "native"}[simulator]
    return _regime(name, cage2_environment(SimulatorSettings(simulator=simulator)), 0, None)


def latency_regime(waits: Waits) -> Regime:
    """An environment that waits."""
    return _regime("latency", waits.environment(), 0, waits)


def environment_regime(env: str, env_kwargs: str) -> Regime:
    """A Gymnasium environment, as `train-env` takes it.

    Raises:
        SettingError: it cannot be made, or a space of it is not supported.
    """
    settings = EnvironmentSettings(env=env, env_kwargs=env_kwargs)
    return _regime(env, gymnasium_environment(settings), None, None)


def _regime(name: str, environment: EnvironmentSpec, workflow: int | None, waits: Waits | None) -> Regime:
    with constructor_errors(environment.id):
        shape = shape_for(
            environment, hidden_size=PPOSettings().hidden_size, has_workflow=workflow is not None
        )
    return Regime(name, environment, workflow, waits, shape)
