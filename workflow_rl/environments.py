"""Which environment a setting means, who can play it, and what workers should load before they start."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from workflow_rl.episode import EnvironmentSpec
from workflow_rl.errors import SettingError, WorkflowRLError
from workflow_rl.settings import CollectorSettings, EnvironmentSettings, SimulatorSettings, flag

CYBORG = "workflow_rl/CybORG-v0"
"""The reference simulator, csle-cyborg."""

NATIVE = "workflow_rl/Cage2-v0"
"""The native simulator."""

POLICY_PRELOAD = "workflow_rl.collectors.preload"
"""Loads the compiled policy, which every worker needs."""

_MEMORIES = ("scan_memory", "decoy_memory", "recency_memory")
_NATIVE_ONLY = ("rules", "observation")

_PRELOAD = {
    CYBORG: ("workflow_rl.cage2.cyborg_preload",),
    NATIVE: ("workflow_rl.collectors.native_preload",),
}


def cage2_environment(settings: SimulatorSettings) -> EnvironmentSpec:
    """CAGE Challenge 2 as the settings ask for it.

    Raises:
        SettingError: the reference simulator does not play what is asked for.
    """
    game = {name: getattr(settings, name) for name in ("red_agent", "max_steps", "action_set", *_MEMORIES)}
    native = {name: getattr(settings, name) for name in _NATIVE_ONLY}
    if settings.simulator == "native":
        return EnvironmentSpec.of(NATIVE, {**game, **native})
    default = SimulatorSettings()
    for name, value in native.items():
        if value != getattr(default, name):
            raise SettingError(
                f"{flag(name)} {value} needs --simulator native: the reference has no such setting"
            )
    return EnvironmentSpec.of(CYBORG, game)


def gymnasium_environment(settings: EnvironmentSettings) -> EnvironmentSpec:
    """The Gymnasium environment that the settings name.

    Raises:
        SettingError: its keyword arguments are no JSON object of numbers, texts, booleans and lists.
    """
    try:
        kwargs = json.loads(settings.env_kwargs)
    except ValueError as error:
        raise SettingError(f"--env-kwargs is no JSON: {error}, got {settings.env_kwargs}") from error
    if not isinstance(kwargs, dict):
        raise SettingError(f"--env-kwargs must be a JSON object, got {settings.env_kwargs}")
    return EnvironmentSpec.of(settings.env, {name: _frozen(value) for name, value in kwargs.items()})


@contextmanager
def constructor_errors(name: str) -> Iterator[None]:
    """Report whatever making an environment raises as one line about it.

    Raises:
        SettingError: it cannot be made.
    """
    try:
        yield
    except WorkflowRLError:
        raise
    except Exception as error:
        raise SettingError(f"{name} cannot be made: {type(error).__name__}: {error}") from error


def _frozen(value: Any) -> Any:
    """A JSON value as one that can be a key, as the arguments of an environment that is kept are."""
    if isinstance(value, dict):
        raise SettingError(f"--env-kwargs must not hold objects within the object, got {json.dumps(value)}")
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def on_simulator(environment: EnvironmentSpec, simulator: str, rules: str | None = None) -> EnvironmentSpec:
    """The same game on a simulator, "native" or "cyborg", and by other rules if any are given.

    Raises:
        SettingError: the simulator is unknown or does not play it.
    """
    changes = {"simulator": simulator, **({} if rules is None else {"rules": rules})}
    return cage2_environment(SimulatorSettings(**{**dict(environment.kwargs), **changes}))


def with_attacker(environment: EnvironmentSpec, red_agent: str, max_steps: int) -> EnvironmentSpec:
    """The same environment with another attacker and horizon."""
    return EnvironmentSpec.of(
        environment.id, {**dict(environment.kwargs), "red_agent": red_agent, "max_steps": max_steps}
    )


def describe(environment: EnvironmentSpec) -> str:
    """Which simulator and which rules, for people: a figure means nothing without them."""
    kwargs = {"rules": "2.1", **dict(environment.kwargs)}
    extras = [f"{kwargs['observation']} observation"] if kwargs.get("observation") == "corrected" else []
    extras += [name.replace("_", " ") for name in _MEMORIES if kwargs.get(name)]
    extras += [f"{kwargs['action_set']} actions"] if kwargs.get("action_set", "all") != "all" else []
    details = ", ".join([f"rules {kwargs['rules']}", *extras])
    return f"{environment.id} ({details})"


def executor_of(settings: CollectorSettings, environment: EnvironmentSpec) -> str | None:
    """Who plays an environment: a "process", a "thread", or `None` for the learner itself or for Ray.

    Raises:
        SettingError: what is asked for cannot play it.
    """
    if settings.collector in ("sequential", "ray"):
        return None
    if settings.collector == "synchronous":
        _refuse_timeout(settings, "--collector executor or ray, which replace an environment that hangs")
        return "process"
    if settings.executor == "thread":
        _refuse_timeout(settings, "--executor process: nothing ends a thread")
    if settings.executor == "thread" and environment.id == CYBORG:
        raise SettingError(
            "--executor thread cannot play the reference simulator, which draws from random generators that "
            "all threads of a process share; take --executor process"
        )
    if settings.executor != "auto":
        return settings.executor
    return "thread" if environment.id == NATIVE and settings.episode_timeout is None else "process"


def _refuse_timeout(settings: CollectorSettings, needed: str) -> None:
    if settings.episode_timeout is not None:
        raise SettingError(f"--episode-timeout {settings.episode_timeout:g} needs {needed}")


def preload_modules(environment: EnvironmentSpec) -> tuple[str, ...]:
    """Modules that the fork server imports once, so that all workers share what they load."""
    return (POLICY_PRELOAD, *_PRELOAD.get(environment.id, ()))
