"""The compiled policy: against torch, against a slow version bit for bit, and against what it promises."""

from __future__ import annotations

import re
from types import FunctionType

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit
from numpy.typing import NDArray
from scipy.stats import chisquare, kstest, norm

from workflow_rl import inference
from workflow_rl.episode import NetworkShape, Snapshot
from workflow_rl.inference import Actor, NumbersActor
from workflow_rl.policy import ActorCritic
from workflow_rl.seeding import Stream, episode_key, policy_uniform

CAGE2 = NetworkShape(num_observations=52, num_context=25, hidden_size=64, num_actions=145)
SHAPES = [
    CAGE2,
    NetworkShape(num_observations=4, num_context=0, hidden_size=13, num_actions=2),  # 13: no whole SIMD width
    NetworkShape(num_observations=1, num_context=3, hidden_size=1, num_actions=1),
]
KEY = episode_key(0, Stream.TRAINING_EPISODE, 0)
KERNELS = {
    name: function
    for name, function in vars(inference).items()
    if getattr(function, "__module__", "") == inference.__name__ and hasattr(function, "py_func")
}
FUSED = re.compile(r"\bv?fn?m(?:add|sub|la|ls)\w*\b")


def random_snapshot(shape: NetworkShape, seed: int = 0, scale: float = 0.3) -> Snapshot:
    draws = np.random.default_rng(seed)
    return Snapshot(0, shape, (scale * draws.normal(size=shape.num_parameters)).astype(np.float32))


def random_rows(shape: NetworkShape, num_rows: int, seed: int = 1) -> NDArray[np.float32]:
    """Half of the entries 0, the others normal."""
    draws = np.random.default_rng(seed)
    rows = draws.normal(size=(num_rows, shape.num_observations)) * draws.integers(
        0, 2, (num_rows, shape.num_observations)
    )
    return rows.astype(np.float32)


def random_context(shape: NetworkShape, seed: int = 2) -> NDArray[np.float32]:
    return np.random.default_rng(seed).integers(0, 2, shape.num_context).astype(np.float32)


def started(
    snapshot: Snapshot, context: NDArray[np.float32], key: np.uint64 = KEY, *, greedy: bool = False
) -> Actor:
    actor = Actor(snapshot)
    actor.begin_episode(context, key, greedy=greedy)
    return actor


def actor_with_logits(logits: NDArray[np.float32], *, greedy: bool = False) -> Actor:
    """An actor whose output is the biases of its last layer, whatever it sees."""
    shape = NetworkShape(num_observations=1, num_context=0, hidden_size=1, num_actions=len(logits))
    parameters = np.zeros(shape.num_parameters, np.float32)
    parameters[-len(logits) :] = logits
    return started(Snapshot(0, shape, parameters), np.empty(0, np.float32), greedy=greedy)


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - float(logits.max())
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum())
    return result


def slow_logits(
    snapshot: Snapshot, context: NDArray[np.float32], observation: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Every sum in the order of the inputs, context first, no zero skipped."""
    tanh = np.vectorize(inference._tanh.py_func, otypes=[np.float32])
    parameters = snapshot.parameters
    layers = []
    for inputs, outputs in snapshot.shape.layer_sizes:
        weights, biases, parameters = np.split(parameters, [inputs * outputs, (inputs + 1) * outputs])
        layers.append((weights.reshape(inputs, outputs), biases))

    def dense(layer: int, values: NDArray[np.float32], rows: list[int]) -> NDArray[np.float32]:
        weights, biases = layers[layer]
        total = biases.copy()
        for row, value in zip(rows, values, strict=True):
            total = total + value * weights[row]
        return total

    num_observations, width = snapshot.shape.num_observations, snapshot.shape.hidden_size
    context_rows = list(range(num_observations, num_observations + len(context)))
    inputs = np.concatenate([context, observation])
    hidden = tanh(dense(0, inputs, [*context_rows, *range(num_observations)]))
    hidden = tanh(dense(1, hidden, list(range(width))))
    return dense(2, hidden, list(range(width)))


def errors_in_ulp(values: list[float], exact: NDArray[np.float64], kind: type) -> NDArray[np.float64]:
    spacing = np.spacing(np.abs(exact).astype(kind)).astype(np.float64)
    result: NDArray[np.float64] = np.abs(np.array(values) - exact) / spacing
    return result


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_logits_agree_with_torch(shape: NetworkShape) -> None:
    """To 2e-5 over outputs of a few units: float32 sums of 64 to 77 terms in another order."""
    policy = ActorCritic(shape, seed=1)
    with torch.no_grad():
        for number, parameter in enumerate(policy.parameters()):
            parameter += 0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
    context, rows = random_context(shape), random_rows(shape, 50)
    actor = started(policy.snapshot(0), context)
    inputs = np.concatenate([rows, np.tile(context, (len(rows), 1))], axis=1)
    expected = policy.logits(torch.from_numpy(inputs)).detach().numpy()
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose([actor.logits(row) for row in rows], expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_logits_are_the_slow_ones_to_the_last_bit(shape: NetworkShape) -> None:
    """So neither skipping zeros nor summing the context once, nor vectorising, changes a bit."""
    snapshot, context = random_snapshot(shape), random_context(shape)
    actor = started(snapshot, context)
    for row in random_rows(shape, 5):
        np.testing.assert_array_equal(actor.logits(row), slow_logits(snapshot, context, row))


def test_a_row_does_not_depend_on_what_was_asked_before() -> None:
    snapshot, context, rows = random_snapshot(CAGE2), random_context(CAGE2), random_rows(CAGE2, 20)
    alone = [started(snapshot, context).act(row, step) for step, row in enumerate(rows)]
    actor = started(snapshot, context)
    assert [actor.act(row, step) for step, row in enumerate(rows)] == alone
    assert [actor.act(rows[step], step) for step in reversed(range(20))] == alone[::-1]
    actor.begin_episode(1 - context, np.uint64(1), greedy=True)
    actor.act(rows[0], 0)
    actor.begin_episode(context, KEY, greedy=False)
    assert [actor.act(row, step) for step, row in enumerate(rows)] == alone


def test_context_is_told_apart_from_observation() -> None:
    """The context occupies the last rows of the first layer."""
    snapshot, context = random_snapshot(CAGE2), random_context(CAGE2)
    row = random_rows(CAGE2, 1)[0]
    whole = NetworkShape(77, 0, 64, 145)
    as_one = started(Snapshot(0, whole, snapshot.parameters), np.empty(0, np.float32))
    np.testing.assert_allclose(
        started(snapshot, context).logits(row), as_one.logits(np.concatenate([row, context])), atol=1e-5
    )


@pytest.mark.parametrize("kind", [np.int8, np.uint8])
def test_bits_are_seen_like_the_numbers_0_and_1(kind: type) -> None:
    """As the simulator and episodes store them."""
    actor = started(random_snapshot(CAGE2), random_context(CAGE2))
    rows = np.random.default_rng(8).integers(2, size=(50, 52)).astype(kind)
    as_bits = [actor.act(row, step) for step, row in enumerate(rows)]
    assert as_bits == [actor.act(row.astype(np.float32), step) for step, row in enumerate(rows)]


@given(st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=150), st.integers(0, 1000), st.booleans())
@settings(deadline=None, max_examples=150)
def test_log_probability_is_that_of_log_softmax(values: list[float], step: int, greedy: bool) -> None:
    """To float32's rounding of the result, plus the rounding of a difference of logits."""
    logits = np.array(values, np.float32)
    action, log_prob = actor_with_logits(logits, greedy=greedy).act(np.zeros(1, np.float32), step)
    assert log_prob == pytest.approx(log_softmax(logits)[action], rel=1e-6, abs=4e-6)
    assert log_prob <= 0


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=20))
@settings(deadline=None)
def test_greedy_takes_the_first_of_the_most_probable(values: list[int]) -> None:
    logits = np.array(values, np.float32)
    action, _ = actor_with_logits(logits, greedy=True).act(np.zeros(1, np.float32), 5)
    assert action == np.argmax(logits)


def test_sampling_inverts_the_cumulative_distribution() -> None:
    """The action is the first whose cumulative probability exceeds the uniform number of (key, step)."""
    logits = np.random.default_rng(3).normal(size=20).astype(np.float32)
    actor = actor_with_logits(logits)
    cumulative = np.exp(log_softmax(logits)).cumsum()
    for step in range(2000):
        uniform = policy_uniform(KEY, np.uint64(step))
        assert actor.act(np.zeros(1, np.float32), step)[0] == np.searchsorted(cumulative, uniform, "right")


@pytest.mark.parametrize("spread", [0.1, 1.2])
def test_sampled_frequencies_match_the_probabilities(spread: float) -> None:
    """Chi-square over 145 actions and 60,000 draws; false alarm 1e-4, the draws being fixed by the key."""
    logits = (spread * np.random.default_rng(4).normal(size=145)).astype(np.float32)
    actor, observation = actor_with_logits(logits), np.zeros(1, np.float32)
    counts = np.bincount([actor.act(observation, step)[0] for step in range(60_000)], minlength=145)
    expected = np.exp(log_softmax(logits)) * 60_000
    assert expected.min() > 5
    assert chisquare(counts, expected).pvalue > 1e-4


@pytest.mark.parametrize("height", [1e2, 1e4])
def test_extreme_logits(height: float) -> None:
    """No overflow, no action without probability, and log-probabilities as large as the logits differ."""
    logits = np.array([-height, 0, height, -height], np.float32)
    for greedy in (False, True):
        actor = actor_with_logits(logits, greedy=greedy)
        assert {actor.act(np.zeros(1, np.float32), step) for step in range(100)} == {(2, 0.0)}
    shared = np.array([height, -height, height], np.float32)
    actor = actor_with_logits(shared)
    drawn = {actor.act(np.zeros(1, np.float32), step) for step in range(100)}
    assert drawn == {(0, float(-np.log(np.float32(2)))), (2, float(-np.log(np.float32(2))))}


def test_exp_is_within_1_ulp() -> None:
    """Over [-87, 0], with more points where the reduction changes its power of two."""
    edges = -np.log(2) * (np.arange(125) + 0.5)
    x = np.concatenate([np.linspace(-87, 0, 50_000), *(edges + d for d in np.linspace(-1e-4, 1e-4, 41))])
    x = np.unique(x[x >= -87].astype(np.float32))
    values = [inference._exp_of_negative(v) for v in x]
    assert errors_in_ulp(values, np.exp(x.astype(np.float64)), np.float32).max() < 1
    assert values[-1] == 1.0


def test_exp_is_flushed_but_never_zero() -> None:
    for x in (-87.5, -1e4, -np.inf):
        assert inference._exp_of_negative(np.float32(x)) == inference._exp_of_negative(np.float32(-87)) > 0


def test_tanh_is_within_5_ulp_and_odd() -> None:
    x = np.unique(np.concatenate([np.linspace(0, 12, 50_000), np.geomspace(1e-30, 12, 50_000)]))
    x = x.astype(np.float32)
    values = [inference._tanh(v) for v in x]
    assert errors_in_ulp(values, np.tanh(x.astype(np.float64)), np.float32).max() < 5
    assert max(values) <= 1
    assert [inference._tanh(v) for v in -x[::50]] == [-v for v in values[::50]]
    assert inference._tanh(np.float32(np.inf)) == pytest.approx(1, abs=2**-23)


def test_log_is_within_4_ulp_of_float64() -> None:
    x = np.unique(np.concatenate([np.linspace(1, 3, 50_000), np.geomspace(1, 1e6, 50_000)]))
    values = [inference._log_at_least_one(v) for v in x]
    assert errors_in_ulp(values[1:], np.log(x[1:]), np.float64).max() < 4
    assert inference._log_at_least_one(1.0) == 0.0


@pytest.mark.parametrize("name", ["_exp_of_negative", "_tanh", "_log_at_least_one"])
def test_interpreted_arithmetic_gives_the_compiled_bits(name: str) -> None:
    """IEEE 754 in numpy and in machine code: a fused or reordered operation would show here."""
    low, high, kind = {
        "_exp_of_negative": (-90, 0, np.float32),
        "_tanh": (-9, 9, np.float32),
        "_log_at_least_one": (1, 200, np.float64),
    }[name]
    function = getattr(inference, name)
    for x in np.linspace(low, high, 5_000).astype(kind):
        assert function.py_func(x) == function(x)


def test_interpreted_choice_gives_the_compiled_one() -> None:
    """`act` and all it calls, without compilation: same action, same bits of the log-probability."""
    shape = NetworkShape(num_observations=6, num_context=3, hidden_size=11, num_actions=9)
    snapshot, context = random_snapshot(shape), random_context(shape)
    actor = started(snapshot, context)
    namespace = dict(vars(inference))
    for name, kernel in KERNELS.items():
        namespace[name] = FunctionType(kernel.py_func.__code__, namespace, name)
    first = np.empty(shape.hidden_size, np.float32)
    namespace["begin_episode"](actor.layers, context, first)
    for step, row in enumerate(random_rows(shape, 20)):
        workspace = tuple(np.empty_like(array) for array in actor.workspace)
        action, log_prob = namespace["act"](actor.layers, first, row, workspace, False, KEY, step)
        assert (action, float(log_prob)) == actor.act(row, step)


def test_machine_code_has_no_fused_multiply_add() -> None:
    """Fusing skips a rounding, and only where the processor can: bits would differ between machines.

    The whole of `act` is compiled anew, since what comes from the cache has no assembly to look at.
    """
    shape = NetworkShape(num_observations=2, num_context=1, hidden_size=8, num_actions=8)
    actor = started(random_snapshot(shape), random_context(shape))
    actor.act(np.ones(2, np.float32), 0)
    fresh = njit(inference.act.py_func)
    fresh(actor.layers, actor._first, np.ones(2, np.float32), actor.workspace, False, KEY, 0)
    (assembly,) = fresh.inspect_asm().values()
    assert "mulps" in assembly or "fmul" in assembly
    assert FUSED.search(assembly) is None


def test_the_search_for_fused_operations_can_find_one() -> None:
    @njit(fastmath=True)
    def weighted_sum(x: NDArray[np.float32], y: NDArray[np.float32]) -> np.float32:
        total = np.float32(0)
        for i in range(len(x)):
            total += x[i] * y[i]
        return total

    weighted_sum(np.ones(8, np.float32), np.ones(8, np.float32))
    (assembly,) = weighted_sum.inspect_asm().values()
    assert FUSED.search(assembly) is not None


def test_normal_quantile_is_within_2e_9() -> None:
    halves = np.concatenate([np.linspace(1e-3, 0.5, 2_000), np.geomspace(2.0**-54, 0.5, 2_000)])
    for probability in np.concatenate([halves, 1 - halves[halves > 1e-9]]):
        value = inference.normal_quantile(probability)
        assert value == pytest.approx(norm.ppf(probability), rel=2e-9, abs=1e-9)
        assert value == inference.normal_quantile.py_func(probability)


def test_decimals_are_drawn_from_their_normal_distribution() -> None:
    """Kolmogorov-Smirnov over 20,000 steps of two components; false alarm 1e-4, the draws being fixed."""
    means, log_deviations = np.array([2, -1], np.float32), np.array([-1.5, 0.75], np.float32)
    draws, log_densities = zip(
        *(inference.choose_decimals(means, log_deviations, False, KEY, step) for step in range(20_000)),
        strict=True,
    )
    deviations = np.exp(log_deviations)
    for i in range(2):
        column = np.array(draws)[:, i]
        assert kstest(column, norm(means[i], deviations[i]).cdf).pvalue > 1e-4
    assert abs(np.corrcoef(np.transpose(draws))[0, 1]) < 0.03
    expected = norm.logpdf(draws, means, deviations).sum(1)
    np.testing.assert_allclose(log_densities, expected, atol=1e-4)


def test_greedy_decimals_are_the_means() -> None:
    means = np.array([0.3, -5], np.float32)
    numbers, log_density = inference.choose_decimals(means, np.zeros(2, np.float32), True, KEY, 0)
    assert numbers.tolist() == means.tolist()
    assert log_density == pytest.approx(-np.log(2 * np.pi))


def test_several_numbers_are_drawn_independently_with_their_probabilities() -> None:
    """Chi-square over the 6 pairs of 30,000 steps; false alarm 1e-4, the draws being fixed by the key."""
    logits = np.array([0.5, -0.5, 1, 0, -1], np.float32)
    branches = np.array([2, 3])
    exponentials = np.empty(5, np.float32)
    pairs = []
    log_of = {}
    for step in range(30_000):
        numbers, log_prob = inference.choose_numbers(
            logits, np.ones(5, np.bool_), exponentials, branches, False, KEY, step
        )
        pairs.append(3 * numbers[0] + numbers[1])
        log_of[pairs[-1]] = log_prob
    joint = np.add.outer(log_softmax(logits[:2]), log_softmax(logits[2:])).ravel()
    assert chisquare(np.bincount(pairs), np.exp(joint) * 30_000).pvalue > 1e-4
    np.testing.assert_allclose([log_of[pair] for pair in range(6)], joint, atol=1e-6)


def allowed_of(bits: str) -> NDArray[np.bool_]:
    return np.array([bit == "1" for bit in bits])


def choose_allowed(
    logits: NDArray[np.float32], allowed: NDArray[np.bool_], step: int, *, greedy: bool = False
) -> tuple[int, float]:
    exponentials = np.empty(len(logits), np.float32)
    action, log_prob = inference.choose_allowed(logits, allowed, exponentials, greedy, KEY, step)
    return action, log_prob


def test_allowed_actions_are_drawn_with_their_probabilities_and_no_others() -> None:
    """Chi-square over 20,000 steps; false alarm 1e-4, the draws being fixed by the key."""
    logits, allowed = np.array([3, 0.5, -1, 4, 0], np.float32), allowed_of("01101")
    actions, log_probs = zip(*(choose_allowed(logits, allowed, step) for step in range(20_000)), strict=True)
    assert set(actions) == {1, 2, 4}
    expected = log_softmax(logits[allowed])
    assert chisquare(np.bincount(actions)[[1, 2, 4]], np.exp(expected) * 20_000).pvalue > 1e-4
    log_of = dict(zip(actions, log_probs, strict=True))
    np.testing.assert_allclose([log_of[1], log_of[2], log_of[4]], expected, atol=1e-6)


def test_the_greedy_choice_is_the_best_allowed_one() -> None:
    logits = np.array([3, 0.5, -1, 4, 0], np.float32)
    chosen = {
        bits: choose_allowed(logits, allowed_of(bits), 0, greedy=True)[0] for bits in ("11111", "01101")
    }
    assert chosen == {"11111": 3, "01101": 1}
    assert choose_allowed(logits, allowed_of("00100"), 0) == (2, 0.0)


@pytest.mark.parametrize("greedy", [False, True])
def test_a_mask_that_allows_everything_changes_no_bit(greedy: bool) -> None:
    shape = NetworkShape(num_observations=6, num_context=3, hidden_size=11, num_actions=9)
    actor = started(random_snapshot(shape), random_context(shape), greedy=greedy)
    for step, row in enumerate(random_rows(shape, 50)):
        assert actor.act(row, step, np.ones(9, np.bool_)) == actor.act(row, step)


def test_each_of_several_numbers_is_chosen_among_those_it_may_be() -> None:
    """As if each branch had been asked alone, with the random number that belongs to it."""
    shape = NetworkShape(num_observations=6, num_context=0, hidden_size=8, num_actions=7, branches=(3, 4))
    actor = NumbersActor(random_snapshot(shape))
    actor.begin_episode(np.empty(0, np.float32), KEY, greedy=False)
    allowed = allowed_of("0110101")
    seen = set()
    for step, row in enumerate(random_rows(shape, 100)):
        numbers, log_prob = actor.act(row, step, allowed)
        logits = actor.logits(row)
        parts = [
            choose_allowed(logits[:3], allowed[:3], 2 * step),
            choose_allowed(logits[3:], allowed[3:], 2 * step + 1),
        ]
        assert numbers.tolist() == [number for number, _ in parts]
        assert log_prob == pytest.approx(sum(share for _, share in parts), abs=1e-6)
        seen.add(tuple(numbers.tolist()))
    assert seen == {(1, 1), (1, 3), (2, 1), (2, 3)}
