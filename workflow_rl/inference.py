"""The policy as workers evaluate it: one observation at a time, compiled, without torch.

Bit identity asks for more than the right formula. Batched matrix products give last bits that depend on which
rows share a call, and the C library's `exp` and `tanh` differ between machines. Here every sum is taken in
the order of the inputs (the loop over outputs is the one that vectorises), and exp, log and tanh are our own,
made of IEEE additions, multiplications and divisions, which are exact everywhere. No fastmath, hence no fused
multiply-add. The same row then gives the same action and log-probability on every processor, alone or among
others.

Inputs that are zero are skipped, which changes no bit and saves most of the first layer on binary
observations. The context (the workflow's one-hot) is constant in an episode, so its share of the first layer
is summed once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workflow_rl.compilation import compiled
from workflow_rl.episode import NetworkShape, Snapshot
from workflow_rl.seeding import policy_uniform

_LOG2_E = np.float32(1.44269504088896341)
_LN2_HIGH = np.float32(0.693359375)  # ln 2 in two parts, the first exact in few bits (Cody and Waite 1980)
_LN2_LOW = np.float32(-2.12194440e-4)
_POWERS_OF_TWO = np.exp2(np.arange(-126, 1, dtype=np.float64)).astype(np.float32)
_SMALLEST_EXPONENT = np.float32(-87.0)
_SMALLEST_UNIFORM = 2.0**-54
_HALF_LOG_2_PI = 0.9189385332046727


@compiled
def _exp_of_negative(x: Any) -> Any:
    """exp(x) for float32 x <= 0, below exp(-87) flushed there; Cephes' expf polynomial, error under 2 ulp."""
    x = max(x, _SMALLEST_EXPONENT)
    n = np.floor(x * _LOG2_E + np.float32(0.5))
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    return (p * (r * r) + r + np.float32(1.0)) * _POWERS_OF_TWO[np.int64(n) + 126]


@compiled
def _tanh(x: Any) -> Any:
    """tanh(x) in float32: the rational approximation of Eigen's ptanh, error a few ulp."""
    x = min(max(x, np.float32(-7.90531110763549805)), np.float32(7.90531110763549805))
    s = x * x
    p = np.float32(-2.76076847742355e-16)
    p = p * s + np.float32(2.00018790482477e-13)
    p = p * s + np.float32(-8.60467152213735e-11)
    p = p * s + np.float32(5.12229709037114e-08)
    p = p * s + np.float32(1.48572235717979e-05)
    p = p * s + np.float32(6.37261928875436e-04)
    p = p * s + np.float32(4.89352455891786e-03)
    q = np.float32(1.19825839466702e-06)
    q = q * s + np.float32(1.18534705686654e-04)
    q = q * s + np.float32(2.26843463243900e-03)
    q = q * s + np.float32(4.89352518554385e-03)
    return x * p / q


@compiled
def _log_at_least_one(x: Any) -> Any:
    """log(x) for float64 x >= 1, to about 1e-15: halve into [0.75, 1.5], then the series of 2 artanh."""
    halvings = 0.0
    while x > 1.5:
        x *= 0.5
        halvings += 1.0
    z = (x - 1.0) / (x + 1.0)
    s = z * z
    total = 0.0
    for k in range(23, 0, -2):
        total = total * s + 1.0 / k
    return halvings * 0.6931471805599453 + 2.0 * z * total


@compiled
def normal_quantile(probability: Any) -> Any:
    """The number that a standard normal variable stays below with a probability in (0, 1), float64.

    Rational approximations of P. J. Acklam (2003), relative error below 1.2e-9.
    """
    if 0.02425 <= probability <= 0.97575:
        q = probability - 0.5
        r = q * q
        p = -3.969683028665376e01
        p = p * r + 2.209460984245205e02
        p = p * r - 2.759285104469687e02
        p = p * r + 1.383577518672690e02
        p = p * r - 3.066479806614716e01
        p = p * r + 2.506628277459239e00
        d = -5.447609879822406e01
        d = d * r + 1.615858368580409e02
        d = d * r - 1.556989798598866e02
        d = d * r + 6.680131188771972e01
        d = d * r - 1.328068155288572e01
        return p * q / (d * r + 1.0)
    is_low = probability < 0.5
    q = np.sqrt(2.0 * _log_at_least_one(1.0 / (probability if is_low else 1.0 - probability)))
    p = -7.784894002430293e-03
    p = p * q - 3.223964580411365e-01
    p = p * q - 2.400758277161838e00
    p = p * q - 2.549732539343734e00
    p = p * q + 4.374664141464968e00
    p = p * q + 2.938163982698783e00
    d = 7.784695709041462e-03
    d = d * q + 3.224671290700398e-01
    d = d * q + 2.445134137142996e00
    d = d * q + 3.754408661907416e00
    tail = p / (d * q + 1.0)
    return tail if is_low else -tail


@compiled
def _add_nonzero_rows(total: Any, inputs: Any, weights: Any) -> None:
    """total[j] += inputs[i] * weights[i, j] in the order of i, for the i whose input is not zero."""
    for i in range(len(inputs)):
        x = np.float32(inputs[i])
        if x != np.float32(0.0):
            for j in range(len(total)):
                total[j] += x * weights[i, j]


@compiled
def _add_rows(total: Any, x: Any, weights: Any) -> None:
    """total[j] += x[i] * weights[i, j] in the order of i.

    Eight rows to a pass: each sum then stays in a register for eight additions, which are still made one
    after the other, and the layer takes a fifth of the time.
    """
    blocks = len(x) // 8 * 8
    for i in range(0, blocks, 8):
        # Named, because the compiler cannot know that writing to `total` leaves `x` as it is.
        x0, x1, x2, x3, x4, x5, x6, x7 = (
            x[i],
            x[i + 1],
            x[i + 2],
            x[i + 3],
            x[i + 4],
            x[i + 5],
            x[i + 6],
            x[i + 7],
        )
        for j in range(len(total)):
            partial = total[j] + x0 * weights[i, j]
            partial = partial + x1 * weights[i + 1, j]
            partial = partial + x2 * weights[i + 2, j]
            partial = partial + x3 * weights[i + 3, j]
            partial = partial + x4 * weights[i + 4, j]
            partial = partial + x5 * weights[i + 5, j]
            partial = partial + x6 * weights[i + 6, j]
            total[j] = partial + x7 * weights[i + 7, j]
    for i in range(blocks, len(x)):
        last = x[i]
        for j in range(len(total)):
            total[j] += last * weights[i, j]


@compiled
def split_parameters(parameters: Any, num_inputs: int, hidden_size: int, num_actions: int) -> Any:
    """Views of `Snapshot.parameters`: (weights1, biases1, weights2, biases2, weights3, biases3)."""
    h = hidden_size
    a = num_inputs * h
    b = a + h
    c = b + h * h
    d = c + h
    e = d + h * num_actions
    return (
        parameters[:a].reshape((num_inputs, h)),
        parameters[a:b],
        parameters[b:c].reshape((h, h)),
        parameters[c:d],
        parameters[d:e].reshape((h, num_actions)),
        parameters[e : e + num_actions],
    )


@compiled
def split_workspace(workspace: Any, hidden_size: int, num_actions: int) -> Any:
    """Views of a work space, float32: first, hidden1 and hidden2, (H,), logits and exponentials, (A,)."""
    h = hidden_size
    a = 3 * h + num_actions
    return workspace[:h], workspace[h : 2 * h], workspace[2 * h : 3 * h], workspace[3 * h : a], workspace[a:]


@compiled
def begin_episode(layers: Any, context: Any, first: Any) -> None:
    """Set `first` (H,) to the first layer's biases plus the context's share, constant over the episode."""
    first[:] = layers[1]
    _add_nonzero_rows(first, context, layers[0][len(layers[0]) - len(context) :])


@compiled
def compute_logits(
    layers: Any, first: Any, observation: Any, hidden1: Any, hidden2: Any, logits: Any
) -> None:
    """The network's output for one observation, written to `logits` (A,)."""
    hidden1[:] = first
    _add_nonzero_rows(hidden1, observation, layers[0])
    for j in range(len(hidden1)):
        hidden1[j] = _tanh(hidden1[j])
    hidden2[:] = layers[3]
    _add_rows(hidden2, hidden1, layers[2])
    for j in range(len(hidden2)):
        hidden2[j] = _tanh(hidden2[j])
    logits[:] = layers[5]
    _add_rows(logits, hidden2, layers[4])


@compiled
def choose_action(logits: Any, exponentials: Any, greedy: bool, key: Any, step: int) -> Any:
    """The action of a step and its log-probability under softmax(logits).

    Sampling inverts the cumulative distribution at the uniform number that belongs to (key, step).
    `exponentials` (A,) float32 is work space.
    """
    action = 0
    for a in range(1, len(logits)):
        if logits[a] > logits[action]:
            action = a
    highest = logits[action]
    for a in range(len(logits)):
        exponentials[a] = _exp_of_negative(logits[a] - highest)
    total = np.float64(0.0)  # not 0.0: numpy would add in float32, numba in float64
    for a in range(len(logits)):
        total += exponentials[a]
    if not greedy:
        target = policy_uniform(key, np.uint64(step)) * total
        action = 0
        reached = np.float64(exponentials[0])
        while reached <= target:  # ends at the last action at the latest, since target < total
            action += 1
            reached += exponentials[action]
    return action, np.float32(np.float64(logits[action] - highest) - _log_at_least_one(total))


@compiled
def choose_allowed(logits: Any, allowed: Any, exponentials: Any, greedy: bool, key: Any, step: int) -> Any:
    """As `choose_action`, among those actions only that `allowed` (A,) bool says; at least one.

    The softmax is over their logits alone, the random number the same. Source: Huang and Ontanon 2022, "A
    closer look at invalid action masking in policy gradient algorithms".
    """
    actions = np.flatnonzero(allowed)
    number = len(actions)
    chosen, log_prob = choose_action(logits[actions], exponentials[:number], greedy, key, step)
    return actions[chosen], log_prob


@compiled
def act(
    layers: Any,
    first: Any,
    observation: Any,
    workspace: Any,
    greedy: bool,
    key: Any,
    step: int,
) -> Any:
    """(action, log-probability) of a step.

    `workspace` is (hidden1, hidden2, logits, exponentials), see `split_workspace`.
    """
    hidden1, hidden2, logits, exponentials = workspace
    compute_logits(layers, first, observation, hidden1, hidden2, logits)
    return choose_action(logits, exponentials, greedy, key, step)


@compiled
def _act_alone(
    parameters: Any,
    sizes: Any,
    workspace: Any,
    observation: Any,
    greedy: bool,
    key: Any,
    step: int,
) -> Any:
    """`act` for a call from Python, where every array is unpacked anew and takes as long as a layer.

    So weights, `sizes` (inputs, hidden units, actions; (3,) int64) and work space are an array each.
    """
    num_inputs, hidden_size, num_actions = sizes[0], sizes[1], sizes[2]
    layers = split_parameters(parameters, num_inputs, hidden_size, num_actions)
    first, hidden1, hidden2, logits, exponentials = split_workspace(workspace, hidden_size, num_actions)
    return act(layers, first, observation, (hidden1, hidden2, logits, exponentials), greedy, key, step)


@compiled
def choose_numbers(
    logits: Any,
    allowed: Any,
    exponentials: Any,
    branches: Any,
    greedy: bool,
    key: Any,
    step: int,
) -> Any:
    """Several independent choices: one number for each of `branches` (K,) int64, whose logits are in a row.

    `allowed` (sum of branches,) bool says which numbers may be chosen, at least one for each branch.

    Returns the numbers (K,) int16, and their log-probability.
    """
    numbers = np.empty(len(branches), np.int16)
    log_prob = np.float32(0.0)
    end = 0
    for i in range(len(branches)):
        start, end = end, end + branches[i]
        numbers[i], share = choose_allowed(
            logits[start:end],
            allowed[start:end],
            exponentials[start:end],
            greedy,
            key,
            step * len(branches) + i,
        )
        log_prob += share
    return numbers, log_prob


@compiled
def choose_decimals(means: Any, log_deviations: Any, greedy: bool, key: Any, step: int) -> Any:
    """Independent normal numbers with these means and logarithms of deviations, both (A,) float32.

    Returns the numbers (A,) float32, and the logarithm of their density.
    """
    numbers = np.empty(len(means), np.float32)
    log_density = np.float64(0.0)
    for i in range(len(means)):
        uniform = policy_uniform(key, np.uint64(step * len(means) + i))
        normal = np.float64(0.0) if greedy else normal_quantile(max(uniform, _SMALLEST_UNIFORM))
        log_deviation = log_deviations[i]
        shrunk = _exp_of_negative(-abs(log_deviation))
        deviation = shrunk if log_deviation < np.float32(0.0) else np.float32(1.0) / shrunk
        numbers[i] = np.float32(np.float64(means[i]) + np.float64(deviation) * normal)
        log_density -= np.float64(0.5) * normal * normal + np.float64(log_deviation) + _HALF_LOG_2_PI
    return numbers, np.float32(log_density)


class Actor:
    """One snapshot's policy, ready to choose actions observation by observation."""

    def __init__(self, snapshot: Snapshot) -> None:
        shape = snapshot.shape
        self.shape = shape
        self.version = snapshot.version
        self._parameters = snapshot.parameters
        sizes = (shape.num_observations + shape.num_context, shape.hidden_size, shape.num_actions)
        self._sizes = np.array(sizes, np.int64)
        self._workspace = np.empty(3 * shape.hidden_size + 2 * shape.num_actions, np.float32)
        self.layers = split_parameters(self._parameters, *sizes)
        self._first, *rest = split_workspace(self._workspace, *sizes[1:])
        self.workspace: tuple[NDArray[np.float32], ...] = tuple(rest)
        self._key = np.uint64(0)
        self._greedy = False

    def begin_episode(self, context: NDArray[np.float32], key: np.uint64, *, greedy: bool) -> None:
        """Start an episode.

        Args:
            context: what stays constant over the episode, shape (num_context,) float32.
            key: `seeding.episode_key` of the episode.
            greedy: take the most probable action instead of sampling.
        """
        begin_episode(self.layers, context, self._first)
        self._key = key
        self._greedy = greedy

    def act(
        self, observation: NDArray[np.uint8 | np.float32], step: int, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[Any, float]:
        """The action at `step` (0-based), an int, and its log-probability.

        Args:
            observation: shape (num_observations,), as `spaces.Interface.encode` gives it.
            step: position in the episode; with the key it fixes the random number.
            allowed: which actions may be chosen, shape (num_actions,), at least one; `None` allows all.
        """
        if allowed is None:
            action, log_prob = _act_alone(
                self._parameters,
                self._sizes,
                self._workspace,
                observation,
                self._greedy,
                self._key,
                step,
            )
        else:
            logits = self.logits(observation)
            _, _, _, exponentials = self.workspace
            action, log_prob = choose_allowed(logits, allowed, exponentials, self._greedy, self._key, step)
        return action, log_prob

    def logits(self, observation: NDArray[np.uint8 | np.float32]) -> NDArray[np.float32]:
        """The network's output, shape (num_actions,) float32."""
        hidden1, hidden2, logits, _ = self.workspace
        compute_logits(self.layers, self._first, observation, hidden1, hidden2, logits)
        return logits.copy()


class NumbersActor(Actor):
    """A policy that chooses several numbers in each step."""

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__(snapshot)
        self._branches = np.array(snapshot.shape.branches, np.int64)
        self._all_allowed = np.ones(snapshot.shape.num_actions, np.bool_)

    def act(
        self, observation: NDArray[np.uint8 | np.float32], step: int, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[Any, float]:
        """The numbers at `step`, (branches,) int16, and their log-probability; arguments as in `Actor`."""
        logits = self.logits(observation)
        _, _, _, exponentials = self.workspace
        numbers, log_prob = choose_numbers(
            logits,
            self._all_allowed if allowed is None else allowed,
            exponentials,
            self._branches,
            self._greedy,
            self._key,
            step,
        )
        return numbers, log_prob


class DecimalsActor(Actor):
    """A policy that draws decimal numbers in each step, or takes their means if it is greedy."""

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__(snapshot)
        self._log_deviations = snapshot.parameters[-snapshot.shape.num_actions :]

    def act(
        self, observation: NDArray[np.uint8 | np.float32], step: int, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[Any, float]:
        """The numbers at `step`, (A,) float32, and their log-density; `allowed` has no meaning here."""
        assert allowed is None, "there is a choice of actions to allow"
        means = self.logits(observation)
        numbers, log_density = choose_decimals(means, self._log_deviations, self._greedy, self._key, step)
        return numbers, log_density


def actor_of(snapshot: Snapshot) -> Actor:
    """The actor for the kind of action that a snapshot's policy chooses."""
    if snapshot.shape.is_gaussian:
        return DecimalsActor(snapshot)
    return NumbersActor(snapshot) if snapshot.shape.branches else Actor(snapshot)


def compile_kernels() -> None:
    """Compile the policy, or load it from numba's cache, so that the first episode does not wait for it.

    For every kind of observation and action: what is missing here, each of a hundred workers compiles.
    """
    one = NetworkShape(num_observations=2, num_context=1, hidden_size=2, num_actions=2)
    several, decimal = replace(one, branches=(2,)), replace(one, is_gaussian=True)
    for shape, allowed in ((one, None), (one, np.ones(2, np.bool_)), (several, None), (decimal, None)):
        actor = actor_of(Snapshot(0, shape, np.zeros(shape.num_parameters, np.float32)))
        actor.begin_episode(np.ones(1, np.float32), np.uint64(0), greedy=False)
        for dtype in (np.uint8, np.float32):
            actor.act(np.ones(2, dtype), 0, allowed)
