"""What searches of all attackers ended with (`search_job`), read for a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workflow_rl.run_directory import ANSWER, RunDirectory


@dataclass(frozen=True)
class Confirmation:
    """One of the policies that a search of all attackers scored in the end, in fresh episodes.

    Attributes:
        red_agent: the attacker.
        workflow: the order; `None` for the policy that no order binds.
        reward: mean return.
        standard_error: of that mean.
        compliance: 0..1; `None` without an order, or without a fix to judge.
        kept_orders: how many of the orders that differ the policy kept to; `None` without an order.
    """

    red_agent: str
    workflow: str | None
    reward: float
    standard_error: float
    compliance: float | None
    kept_orders: str | None


def read_confirmations(paths: Sequence[Path]) -> tuple[Confirmation, ...]:
    """What the searches of all attackers in some directories ended with; nothing of other runs.

    Raises:
        RunDirectoryError: a file cannot be read.
    """
    answers = [RunDirectory(path).read_json(ANSWER) or {"attackers": []} for path in paths]
    return tuple(found for answer in answers for of in answer["attackers"] for found in _confirmations(of))


def _confirmations(attacker: Mapping[str, Any]) -> Iterator[Confirmation]:
    red_agent = attacker["red_agent"]
    for found in attacker["confirmations"]:
        score = found["score"]
        yield Confirmation(
            red_agent,
            found["workflow"],
            score["reward"],
            score["reward_standard_error"],
            score["compliance"],
            f"{len(found['kept_orders'])} of the {len(attacker['ranking'])} orders that differ",
        )
    if attacker["unbound"] is not None:
        reward, standard_error = attacker["unbound"]
        yield Confirmation(red_agent, None, reward, standard_error, None, None)
