"""The orders as mathematical objects."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from workflow_rl.errors import SettingError
from workflow_rl.workflow import HostType, Workflow, all_workflows, orders_with, shared_precedences

WORKFLOWS = all_workflows()
workflows = st.permutations(list(HostType)).map(lambda order: Workflow(tuple(order)))


def slow_distance(first: Workflow, second: Workflow) -> int:
    """Adjacent swaps that turn one order into the other, counted by bubble sort."""
    positions = [second.order.index(host_type) for host_type in first.order]
    swaps = 0
    for _, i in itertools.product(range(5), range(4)):
        if positions[i] > positions[i + 1]:
            positions[i], positions[i + 1] = positions[i + 1], positions[i]
            swaps += 1
    return swaps


def test_all_120_orders_once_in_lexicographic_order() -> None:
    assert len(set(WORKFLOWS)) == 120
    assert [workflow.order for workflow in WORKFLOWS] == sorted(workflow.order for workflow in WORKFLOWS)
    assert str(WORKFLOWS[0]) == "defender,enterprise,op_server,op_host,user"
    assert str(WORKFLOWS[119]) == "user,op_host,op_server,enterprise,defender"


@pytest.mark.parametrize("index", range(120))
def test_round_trips(index: int) -> None:
    workflow = Workflow.from_index(index)
    assert workflow.index == index
    assert workflow == WORKFLOWS[index]
    assert Workflow.parse(str(workflow)) == workflow
    assert pickle.loads(pickle.dumps(workflow)) == workflow


def test_parsing_forgives_case_and_spaces() -> None:
    assert Workflow.parse(" User,op_host, OP_SERVER ,enterprise,defender") == WORKFLOWS[119]


@given(workflows)
def test_ranks_invert_the_order(workflow: Workflow) -> None:
    assert workflow.ranks.dtype == np.int8
    assert [workflow.order[rank] for rank in workflow.ranks] == list(HostType)


@given(workflows)
def test_one_hot_says_which_type_is_at_which_position(workflow: Workflow) -> None:
    encoding = workflow.one_hot()
    assert encoding.dtype == np.float32
    expected = [[float(host_type == column) for column in HostType] for host_type in workflow.order]
    np.testing.assert_array_equal(encoding, expected)


def test_kendall_distance_agrees_with_scipy_and_bubble_sort() -> None:
    for first, second in itertools.product(WORKFLOWS[::7], WORKFLOWS):
        distance = first.kendall_distance(second)
        assert distance == slow_distance(first, second)
        assert distance == round((1 - kendalltau(first.ranks, second.ranks).statistic) * 10 / 2)


def test_number_of_orders_at_each_distance() -> None:
    """The Mahonian numbers: permutations of 5 by number of inversions."""
    distances = [WORKFLOWS[37].kendall_distance(workflow) for workflow in WORKFLOWS]
    assert np.bincount(distances).tolist() == [1, 4, 9, 15, 20, 22, 20, 15, 9, 4, 1]


@given(workflows, workflows, workflows)
def test_kendall_distance_is_a_metric(first: Workflow, second: Workflow, third: Workflow) -> None:
    assert (first.kendall_distance(second) == 0) == (first == second)
    assert first.kendall_distance(second) == second.kendall_distance(first)
    assert first.kendall_distance(third) <= first.kendall_distance(second) + second.kendall_distance(third)


@given(workflows, workflows)
def test_reversing_an_order_turns_every_pair(first: Workflow, second: Workflow) -> None:
    reversed_order = Workflow(first.order[::-1])
    assert reversed_order.kendall_distance(second) == 10 - first.kendall_distance(second)


@given(st.lists(workflows, min_size=1, max_size=6))
def test_what_orders_have_in_common(some: list[Workflow]) -> None:
    """Exactly the orders that go by it are those that agree wherever these agree."""
    agreed = orders_with(shared_precedences(some))
    assert set(some) <= set(agreed)
    pairs = [
        (a, b)
        for a, b in itertools.permutations(HostType, 2)
        if all(str(w).index(a.label) < str(w).index(b.label) for w in some)
    ]
    assert agreed == [w for w in WORKFLOWS if all(w.ranks[a] < w.ranks[b] for a, b in pairs)]


def test_what_follows_from_other_pairs_is_left_out() -> None:
    order = Workflow.parse("user,op_host,op_server,enterprise,defender")
    assert set(shared_precedences([order])) == set(itertools.pairwise(order.order))
    assert orders_with(shared_precedences([order])) == [order]
    assert shared_precedences(WORKFLOWS) == []
    enterprise_first = [w for w in WORKFLOWS if w.ranks[HostType.ENTERPRISE] < w.ranks[HostType.USER]]
    assert shared_precedences(enterprise_first) == [(HostType.ENTERPRISE, HostType.USER)]


@pytest.mark.parametrize("index", [-1, 120])
def test_index_out_of_range_is_refused(index: int) -> None:
    with pytest.raises(SettingError, match=rf"0\.\.119, got {index}"):
        Workflow.from_index(index)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "defender",
        "defender,enterprise,op_server,op_host",
        "defender,enterprise,op_server,op_host,op_host",
        "defender,enterprise,op_server,op_host,user,user",
        "defender,enterprise,op_server,op_host,printer",
        "defender;enterprise;op_server;op_host;user",
    ],
)
def test_text_that_is_no_order_is_refused(text: str) -> None:
    with pytest.raises(SettingError) as caught:
        Workflow.parse(text)
    assert repr(text) in str(caught.value)
    assert "defender, enterprise, op_server, op_host, user" in str(caught.value)


@pytest.mark.parametrize("order", [(), tuple(HostType)[:4], (HostType.USER,) * 5, (*HostType, HostType.USER)])
def test_order_that_is_no_permutation_is_refused(order: tuple[HostType, ...]) -> None:
    with pytest.raises(SettingError, match="each of defender, enterprise, op_server, op_host, user once"):
        Workflow(order)
