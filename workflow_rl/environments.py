"""Which environment a setting means, and what workers should load before they start."""

from __future__ import annotations

from workflow_rl.episode import EnvironmentSpec
from workflow_rl.settings import SimulatorSettings

CYBORG = "workflow_rl/CybORG-v0"
"""The reference simulator, csle-cyborg."""

_PRELOAD = {CYBORG: ("workflow_rl.cage2.cyborg_preload",)}


def cage2_environment(settings: SimulatorSettings) -> EnvironmentSpec:
    """CAGE Challenge 2 as the settings ask for it."""
    return EnvironmentSpec.of(CYBORG, {"red_agent": settings.red_agent, "max_steps": settings.max_steps})


def with_attacker(environment: EnvironmentSpec, red_agent: str, max_steps: int) -> EnvironmentSpec:
    """The same environment with another attacker and horizon."""
    return EnvironmentSpec.of(
        environment.id, {**dict(environment.kwargs), "red_agent": red_agent, "max_steps": max_steps}
    )


def preload_modules(environment: EnvironmentSpec) -> tuple[str, ...]:
    """Modules that the fork server imports once, so that all workers share what they load."""
    return _PRELOAD.get(environment.id, ())
