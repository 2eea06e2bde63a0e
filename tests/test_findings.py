"""What a search tells people: the table of its best policies, and three sentences."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from workflow_rl.equivalent_orders import OrderClasses
from workflow_rl.findings import by_policy, print_ranking, sentences
from workflow_rl.run_log import RankingRow
from workflow_rl.settings import AlignmentSettings
from workflow_rl.workflow import HostType, Workflow, all_workflows

WORKFLOWS = all_workflows()
AGAINST_MEANDER = OrderClasses.in_training("RedMeanderAgent", AlignmentSettings())
SUMMARY = {"episodes": 100_000, "wall_seconds": 31.4}
BEST = Workflow.parse("defender,op_host,enterprise,user,op_server")


def row(workflow: Workflow, status: str, *, rank: int = 1, episodes: int = 0) -> RankingRow:
    """Of one class of the orders against Meander; whatever is served is so by the policy of `BEST`."""
    same = np.flatnonzero(AGAINST_MEANDER.representative == AGAINST_MEANDER.representative[workflow.index])
    policy_of = {"kept": workflow, "served": BEST, "missed": workflow}.get(status)
    return RankingRow(
        rank=rank,
        workflow=str(workflow),
        status=status,
        reward=-17.8,
        lower=-18.5,
        upper=-17.1,
        chance_to_be_best=0.99,
        compliance=0.999,
        observed_compliance=0.981,
        episodes=episodes,
        policy_of=None if policy_of is None else str(policy_of),
        policy=None if policy_of is None else "policies/007.safetensors",
        equivalent_orders=";".join(str(WORKFLOWS[i]) for i in same if i != workflow.index),
    )


def rows_of(served: list[Workflow]) -> list[RankingRow]:
    """A ranking in which the policy of `BEST` serves some classes; three are missed, the rest predicted."""
    first = {int(AGAINST_MEANDER.representative[workflow.index]) for workflow in served}
    first.discard(int(AGAINST_MEANDER.representative[BEST.index]))
    others = [
        int(i)
        for i in AGAINST_MEANDER.representatives()
        if not AGAINST_MEANDER.are_equivalent(WORKFLOWS[i], BEST) and int(i) not in first
    ]
    return [
        row(BEST, "kept", episodes=20_000),
        *(row(WORKFLOWS[i], "served") for i in sorted(first)),
        *(row(WORKFLOWS[i], "missed", rank=20, episodes=500) for i in others[:3]),
        *(row(WORKFLOWS[i], "predicted", rank=21) for i in others[3:]),
    ]


def said(served: list[Workflow]) -> tuple[str, ...]:
    return sentences(rows_of(served), "RedMeanderAgent", {**SUMMARY, "best_workflow": str(BEST)})


def test_what_the_served_orders_have_in_common_is_said() -> None:
    enterprise_first = [w for w in WORKFLOWS if w.ranks[HostType.ENTERPRISE] < w.ranks[HostType.USER]]
    best, policy, spent = said(enterprise_first)
    assert best == (
        f"Against RedMeanderAgent the best workflow found is {BEST}, which no rule tells from 4 others, "
        "expected to earn -17.8 (95 %: -18.5 to -17.1); with a chance of 99 % no order earns more, as far as "
        "policies are trained."
    )
    assert policy == (
        "Its policy keeps to it in 99.9 % of its fixes, 98.1 % by what blue could see, in fresh episodes; as "
        "well as demanded it keeps to 12 of the 24 orders that differ: all that put enterprise before user."
    )
    assert spent == (
        "4 of 24 orders that differ were trained, in 100,000 episodes and 31 seconds; of the rest 11 are "
        "served by their policies, 9 predicted."
    )


@pytest.mark.parametrize(
    ("served", "ending"),
    [
        ([BEST], "in fresh episodes; as well as demanded it keeps to 1 of the 24 orders that differ."),
        (WORKFLOWS, "as well as demanded it keeps to all 24 orders that differ."),
        (
            [BEST, Workflow.parse("defender,op_host,op_server,enterprise,user")],
            "to 2 of the 24 orders that differ, all of which put enterprise before user and op_host before "
            "enterprise and op_host before op_server.",
        ),
        ([BEST, Workflow(BEST.order[::-1])], "it keeps to 2 of the 24 orders that differ."),
    ],
    ids=["one", "all", "some of those that agree", "nothing in common"],
)
def test_more_is_not_claimed_than_is_true(served: list[Workflow], ending: str) -> None:
    assert said(served)[1].endswith(ending)


def test_pairs_that_only_name_what_red_cannot_take_are_not_in_common() -> None:
    """A class has its orders with the Defender anywhere, so nothing is said of it."""
    for order in itertools.permutations(("enterprise", "op_server", "op_host", "user")):
        assert "defender" not in said([BEST, Workflow.parse(",".join(("defender", *order)))])[1]


def test_what_is_known_of_orders_that_were_not_trained() -> None:
    assert said(WORKFLOWS)[2].endswith("31 seconds; the rest is served by their policies.")
    assert said([BEST])[2].endswith("31 seconds; the rest is predicted from them.")
    two = said([BEST, Workflow(BEST.order[::-1])])[2]
    assert two.endswith("of the rest 1 is served by their policies, 19 predicted."), two
    rows = [replace(row, episodes=500) for row in rows_of(WORKFLOWS)]
    trained = sentences(rows, "RedMeanderAgent", {**SUMMARY, "best_workflow": str(BEST)})
    assert trained[2] == "24 of 24 orders that differ were trained, in 100,000 episodes and 31 seconds."


def test_without_an_order_that_was_kept_to_nothing_is_said_to_be_served() -> None:
    missed = row(BEST, "missed", episodes=500)
    best, policy, _ = sentences([missed], "RedMeanderAgent", {**SUMMARY, "best_workflow": str(BEST)})
    assert best.endswith("no training kept to its order as well as demanded.")
    assert policy.endswith("by what blue could see, in fresh episodes.")


def test_a_table_has_a_row_for_each_policy(capsys: pytest.CaptureFixture[str]) -> None:
    rows = rows_of([w for w in WORKFLOWS if w.ranks[HostType.ENTERPRISE] < w.ranks[HostType.USER]])
    groups = by_policy(rows)
    assert [len(group) for group in groups] == [12, *[1] * 12]
    assert [one for group in groups for one in group] == rows
    print_ranking(Console(width=200), rows, title="orders")
    shown = [line for line in capsys.readouterr().out.splitlines() if "before" not in line and "user" in line]
    assert len(shown) == 10
    assert str(BEST) in shown[0]
    assert "12" in shown[0].split()
    assert all(figure in shown[0] for figure in ("-17.8", "-18.5 to -17.1", "99 %", "0.999", "20,000"))
    assert [line.split()[-2] for line in shown[:5]] == ["kept", *["missed"] * 3, "predicted"]
