"""How a training makes its policy keep to an order: what fixes are charged, and which are masked.

    scheme           alignment reward of a step                          weight              fixes are masked
    violation        minus the weight for each violating fix             --alignment-lambda  no
    rate             the weight times the change of the compliance rate  --alignment-lambda  no
    lagrangian       minus the weight for each violating fix             follows compliance  no
    mask             none                                                                    yes
    mask-lagrangian  minus the weight for each violating fix             follows compliance  yes
    none             none                                                                    no

`lagrangian` seeks the environment's reward under the constraint that compliance reaches the threshold: after
each update the weight, a Lagrange multiplier, follows from how far the batch's compliance was from it
(`lagrange_multiplier`). What is charged there is each violating fix, as in `violation`, and not the share of
them, whose gradient would also praise needless compliant fixes.

`none` binds nobody: it shows what an order costs. Rewards are judged by the true state, which a simulator
knows; masks by what blue observes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workflow_rl.alignment import Fix
from workflow_rl.lagrange_multiplier import Gains, LagrangeMultiplier
from workflow_rl.settings import AlignmentSettings


@dataclass(frozen=True)
class Scheme:
    """One way to make a policy keep to its order.

    Attributes:
        reward: (judged (T,) int8, weight) -> alignment reward of each step, (T,) float32.
        is_adaptive: whether the weight follows compliance instead of staying as it is set.
        is_masked: whether fixes that violate the order by what blue observes are masked.
    """

    reward: Callable[[NDArray[np.int8], float], NDArray[np.float32]]
    is_adaptive: bool = False
    is_masked: bool = False


def violation_reward(judged: NDArray[np.int8], weight: float) -> NDArray[np.float32]:
    """Minus `weight` for each violating fix."""
    return np.where(judged == Fix.VIOLATING, np.float32(-weight), np.float32(0.0))


def rate_reward(judged: NDArray[np.int8], weight: float) -> NDArray[np.float32]:
    """`weight` times the change of the running compliance rate; -0.2 `weight` for an episode without fixes.

    The sum over an episode is `weight` times its final rate, so a single compliant fix at the start earns
    all.
    """
    compliant = np.cumsum(judged == Fix.COMPLIANT)
    fixes = compliant + np.cumsum(judged == Fix.VIOLATING)
    rate = np.divide(compliant, fixes, out=np.zeros(len(judged)), where=fixes > 0)
    reward: NDArray[np.float32] = (weight * np.diff(rate, prepend=0.0)).astype(np.float32)
    if len(judged) and not np.any(judged):
        reward[-1] -= 0.2 * weight
    return reward


def no_reward(judged: NDArray[np.int8], _: float) -> NDArray[np.float32]:
    """Zeros: the environment's reward alone counts."""
    return np.zeros(len(judged), np.float32)


SCHEMES: Mapping[str, Scheme] = {
    "violation": Scheme(violation_reward),
    "rate": Scheme(rate_reward),
    "lagrangian": Scheme(violation_reward, is_adaptive=True),
    "mask": Scheme(no_reward, is_masked=True),
    "mask-lagrangian": Scheme(violation_reward, is_adaptive=True, is_masked=True),
    "none": Scheme(no_reward),
}
"""By the name that `--alignment` takes."""


def mask_of(settings: AlignmentSettings) -> str | None:
    """What tickets carry: the definition of compliance by which fixes are masked, or `None`."""
    return settings.compliance if SCHEMES[settings.alignment].is_masked else None


class Alignment:
    """The scheme at work in one training.

    Args:
        settings: name the scheme.
        threshold: of compliance, which an adaptive weight aims at.
    """

    def __init__(self, settings: AlignmentSettings, threshold: float) -> None:
        self.definition = settings.compliance
        self._scheme = SCHEMES[settings.alignment]
        self._multiplier = LagrangeMultiplier.start(
            Gains(settings.pid_proportional, settings.pid_integral, settings.pid_derivative),
            limit=max(0.0, 1.0 - threshold - settings.compliance_margin),
            value=settings.alignment_lambda,
        )

    @property
    def weight(self) -> float:
        """Of the alignment reward as it is now, in units of the simulator's reward."""
        return self._multiplier.value

    def rewards(self, judged: Sequence[NDArray[np.int8]]) -> list[NDArray[np.float32]]:
        """The alignment reward of each step of some episodes, to be added to the simulator's by the learner.

        Args:
            judged: `Fix` values of each episode by the true state, (T,) int8.

        Returns:
            For each episode (T,) float32.
        """
        return [self._scheme.reward(fixes, self.weight) for fixes in judged]

    def adapt(self, compliance: float | None) -> None:
        """Let an adaptive weight follow the compliance of a batch; `None`, no fix to judge, says nothing."""
        if self._scheme.is_adaptive and compliance is not None:
            self._multiplier = self._multiplier.after(1.0 - compliance)

    def to_state(self) -> dict[str, float | None]:
        """What `restore` needs, JSON values."""
        return self._multiplier.to_state()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `to_state` returned.

        Raises:
            KeyError: it is the state of something else.
        """
        self._multiplier = self._multiplier.at(state)
