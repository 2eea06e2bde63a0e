"""Which environment a setting means, and what workers should load before they start."""

from __future__ import annotations

from typing import Any

from workflow_rl.episode import EnvironmentSpec
from workflow_rl.errors import SettingError
from workflow_rl.settings import SimulatorSettings

CYBORG = "workflow_rl/CybORG-v0"
"""The reference simulator, csle-cyborg."""

NATIVE = "workflow_rl/Cage2-v0"
"""The native simulator."""

POLICY_PRELOAD = "workflow_rl.collectors.preload"
"""Loads the compiled policy, which every worker needs."""

_PRELOAD = {
    CYBORG: ("workflow_rl.cage2.cyborg_preload",),
    NATIVE: ("workflow_rl.collectors.native_preload",),
}


def cage2_environment(settings: SimulatorSettings) -> EnvironmentSpec:
    """CAGE Challenge 2 as the settings ask for it.

    Raises:
        SettingError: the reference simulator does not play the rules asked for.
    """
    kwargs: dict[str, Any] = {"red_agent": settings.red_agent, "max_steps": settings.max_steps}
    if settings.simulator == "native":
        return EnvironmentSpec.of(NATIVE, {**kwargs, "rules": settings.rules})
    if settings.rules != "2.1":
        raise SettingError(
            f"--rules {settings.rules} needs --simulator native: the reference simulator plays 2.1 only"
        )
    return EnvironmentSpec.of(CYBORG, kwargs)


def with_attacker(environment: EnvironmentSpec, red_agent: str, max_steps: int) -> EnvironmentSpec:
    """The same environment with another attacker and horizon."""
    return EnvironmentSpec.of(
        environment.id, {**dict(environment.kwargs), "red_agent": red_agent, "max_steps": max_steps}
    )


def preload_modules(environment: EnvironmentSpec) -> tuple[str, ...]:
    """Modules that the fork server imports once, so that all workers share what they load."""
    return (POLICY_PRELOAD, *_PRELOAD.get(environment.id, ()))
