"""What `workflow-rl bench collectors` is asked for: its options, checked and completed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from workflow_rl.bench.latency import Waits
from workflow_rl.bench.regimes import REGIMES, Regime, cage2_regime, environment_regime, latency_regime
from workflow_rl.errors import SettingError
from workflow_rl.settings import CollectorSettings

COLLECTORS = ("executor", "ray", "synchronous", "sequential")

SECTIONS = ("scaling", "four", "causes", "tails")
"""What can be measured; the last only where steps wait."""

_MILLISECONDS = 1000.0


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
        sections: of `SECTIONS`.
        collectors: those to compare, one environment alone among them; empty for all that a section has.
        worker_counts: of the section scaling, ascending; causes and tails are measured at the largest.
        compare_at: worker count of the section four.
        lag: updates by which collectors that play during updates may be behind.
        batch_size: episodes of an update; `None` for as many as workers.
        rounds: turns of each system.
        seconds: counted in each turn, at least.
        sigmas: tails of the section tails, the first of them 0.
    """

    sections: Sequence[str] = SECTIONS
    collectors: Sequence[str] = ()
    worker_counts: Sequence[int] = (10, 25, 50, 100)
    compare_at: int = 25
    lag: int = 2
    batch_size: int | None = None
    rounds: int = 5
    seconds: float = 5.0
    sigmas: Sequence[float] = (0.0, 0.5, 1.25, 2.0)


_QUICK = Plan(worker_counts=(5, 10), compare_at=5, rounds=1, seconds=0.5, sigmas=(0.0, 1.25))


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options as they were given, `None` where they were not."""

    regime: str | None
    env: str | None
    env_kwargs: str
    sigma: float | None
    mean_step_ms: float | None
    reset_seconds: float | None
    step_times: Path | None
    sections: str | None
    collector: tuple[str, ...]
    workers: str | None
    compare_at: int | None
    lag: int
    episodes_per_update: int | None
    rounds: int | None
    seconds: float | None
    quick: bool

    def to_plan(self) -> Plan:
        """The plan.

        Raises:
            SettingError: a value is not allowed.
        """
        _check_above_zero("--seconds", self.seconds)
        given: dict[str, Any] = {
            "sections": self._sections(),
            "collectors": self._collectors(),
            "compare_at": self.compare_at,
            "worker_counts": None if self.workers is None else _worker_counts(self.workers),
            "batch_size": self.episodes_per_update,
            "rounds": self.rounds,
            "seconds": self.seconds,
        }
        default = replace(_QUICK if self.quick else Plan(), lag=self.lag)
        return replace(default, **{name: value for name, value in given.items() if value is not None})

    def _sections(self) -> tuple[str, ...]:
        """Those asked for, in the order in which they are measured."""
        is_latency = self.env is None and self.regime in (None, "latency")
        if self.sections is None:
            return SECTIONS[:1] if self.collector else SECTIONS if is_latency else SECTIONS[:-1]
        asked = self.sections.split(",")
        if unknown := [name for name in asked if name not in SECTIONS]:
            raise SettingError(
                f"--sections must be of {', '.join(SECTIONS)}, separated by commas, got {unknown[0]}"
            )
        if "tails" in asked and not is_latency:
            raise SettingError(
                "the section tails needs --regime latency: other steps take as long as they take"
            )
        return tuple(name for name in SECTIONS if name in asked)

    def _collectors(self) -> tuple[str, ...]:
        """Those asked for, the one that all are compared with among them."""
        if not self.collector:
            return ()
        for name in self.collector:
            CollectorSettings(collector=name)
        return tuple(name for name in COLLECTORS if name in (*self.collector, "sequential"))

    def to_regime(self) -> Regime:
        """What is played.

        Raises:
            SettingError: a value is not allowed, options contradict each other, or the environment cannot be
                made.
        """
        if self.env is not None:
            self._refuse("--env", self.regime and "--regime", *self._waits_given())
            return environment_regime(self.env, self.env_kwargs)
        if self.regime not in (None, *REGIMES):
            raise SettingError(f"--regime must be one of {', '.join(REGIMES)}, got {self.regime}")
        if self.regime in (None, "latency"):
            return latency_regime(self._waits())
        self._refuse(f"--regime {self.regime}", *self._waits_given())
        return cage2_regime("cyborg" if self.regime == "reference" else "native")

    def _waits(self) -> Waits:
        _check_above_zero("--mean-step-ms", self.mean_step_ms)
        for flag, value in (("--sigma", self.sigma), ("--reset-seconds", self.reset_seconds)):
            if value is not None and not 0 <= value < math.inf:
                raise SettingError(f"{flag} must be at least 0 and finite, got {value}")
        if self.step_times is not None:
            distribution = {"--sigma": self.sigma, "--mean-step-ms": self.mean_step_ms}
            self._refuse("--step-times", *(flag for flag, value in distribution.items() if value is not None))
            waits = Waits.measured(self.step_times)
        else:
            mean_step = None if self.mean_step_ms is None else self.mean_step_ms / _MILLISECONDS
            given: dict[str, Any] = {"sigma": self.sigma, "mean_step": mean_step}
            waits = Waits(**{name: value for name, value in given.items() if value is not None})
        if self.reset_seconds is None:
            return waits
        return replace(waits, shortest_reset=self.reset_seconds / 2, longest_reset=self.reset_seconds * 3 / 2)

    def _waits_given(self) -> Sequence[str]:
        """Options given that only the regime latency has."""
        given = {
            "--sigma": self.sigma,
            "--mean-step-ms": self.mean_step_ms,
            "--reset-seconds": self.reset_seconds,
            "--step-times": self.step_times,
        }
        return [flag for flag, value in given.items() if value is not None]

    def _refuse(self, option: str, *others: str | None) -> None:
        for other in filter(None, others):
            raise SettingError(f"{other} does not go with {option}: leave one of them out")


def _worker_counts(text: str) -> tuple[int, ...]:
    try:
        counts = sorted({int(part) for part in text.split(",")})
    except ValueError:
        counts = []
    if not counts or counts[0] < 1:
        raise SettingError(f"--workers must be whole numbers of at least 1, separated by commas, got {text}")
    return tuple(counts)


def _check_above_zero(flag: str, value: float | None) -> None:
    if value is not None and not 0 < value < math.inf:
        raise SettingError(f"{flag} must be above 0 and finite, got {value}")
