"""Two ways to do the same in one process, in alternation: what makes every collector faster.

Deciding for one observation at a time, by the compiled policy, in numpy and in torch; and playing episodes
with an environment that is kept or built for each.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from workflow_rl.bench.regimes import Regime
from workflow_rl.bench.timing import Figure, Spread, Workload, measure
from workflow_rl.episode import NetworkShape, Snapshot, Ticket
from workflow_rl.inference import Actor
from workflow_rl.policy import ActorCritic
from workflow_rl.rollout import Player
from workflow_rl.seeding import Stream, episode_key

_DECISIONS = 100
"""In one piece of the workloads that decide."""

_LONGEST_SECONDS = 0.5
"""For each of a pair in each round."""


@dataclass(frozen=True)
class Pair:
    """What came of two ways.

    Attributes:
        name: of what is changed.
        change: from what to what.
        times: how many times as fast the second is, by wall time.
    """

    name: str
    change: str
    times: Spread


def measure_pairs(regime: Regime, rounds: int, seconds: float) -> list[Pair]:
    """The pairs that the regime has; decisions are compared for policies that choose one of several actions.

    Args:
        regime: what is played, and by which network.
        rounds: at least 1.
        seconds: for each way in each round, half a second at most.
    """
    seconds = min(seconds, _LONGEST_SECONDS)
    pairs = []
    if not (regime.shape.branches or regime.shape.is_gaussian):
        compiled, *others = measure(_decision_workloads(regime.shape), rounds=rounds, seconds=seconds)
        pairs += [
            Pair("compiled inference", f"a decision in {other.name} to compiled", _faster(compiled, other))
            for other in others
        ]
    kept, anew = measure(_environment_workloads(regime), rounds=rounds, seconds=seconds)
    return [*pairs, Pair("environment kept", "built for each episode to kept", _faster(kept, anew))]


def _decision_workloads(shape: NetworkShape) -> list[Workload]:
    """Decisions on random bits, one observation at a time."""
    torch.set_num_threads(1)  # more would only wait for each other over one row
    policy = ActorCritic(shape)
    snapshot = policy.snapshot(0)
    observations = np.random.default_rng(0).integers(
        2, size=(_DECISIONS, shape.num_observations), dtype=np.uint8
    )
    context = np.zeros(shape.num_context, np.float32)
    actor = Actor(snapshot)
    actor.begin_episode(context, episode_key(0, Stream.TRAINING_EPISODE, 0), greedy=False)
    in_numpy = NumpyPolicy(snapshot)
    inputs = torch.from_numpy(np.hstack([observations, np.tile(context, (_DECISIONS, 1))]).astype(np.float32))

    def in_torch(step: int) -> None:
        with torch.no_grad():
            log_probs = policy.logits(inputs[step : step + 1]).log_softmax(1)
            log_probs[0, torch.multinomial(log_probs.exp(), 1)].item()

    ways: dict[str, Callable[[int], object]] = {
        "compiled": lambda step: actor.act(observations[step], step),
        "numpy": lambda step: in_numpy.act(observations[step], context),
        "torch": in_torch,
    }
    return [Workload(name, _repeated(way)) for name, way in ways.items()]


def _repeated(decide: Callable[[int], object]) -> Callable[[], int]:
    def play() -> int:
        for step in range(_DECISIONS):
            decide(step)
        return _DECISIONS

    return play


class NumpyPolicy:
    """A snapshot's policy as it would be written without a compiler."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._layers: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
        self._draws = np.random.default_rng(0)
        parameters = snapshot.parameters
        for inputs, outputs in snapshot.shape.layer_sizes:
            weights, biases, parameters = np.split(parameters, [inputs * outputs, (inputs + 1) * outputs])
            self._layers.append((weights.reshape(inputs, outputs), biases))

    def act(self, observation: NDArray[np.uint8], context: NDArray[np.float32]) -> tuple[int, float]:
        """An action and its log-probability."""
        values = np.concatenate([observation, context], dtype=np.float32)
        for weights, biases in self._layers[:-1]:
            values = np.tanh(values @ weights + biases)
        weights, biases = self._layers[-1]
        logits = values @ weights + biases
        probabilities = np.exp(logits - logits.max())
        cumulative = np.cumsum(probabilities)
        action = int(np.searchsorted(cumulative, self._draws.random() * cumulative[-1], side="right"))
        return action, float(np.log(probabilities[action] / cumulative[-1]))


def _environment_workloads(regime: Regime) -> list[Workload]:
    """Whole episodes by the package's own player, whose environments are kept or not."""
    snapshot = ActorCritic(regime.shape).snapshot(0)
    numbers = itertools.count()
    keeping = Player()

    def play(player: Player) -> int:
        ticket = Ticket(
            0,
            Stream.TRAINING_EPISODE,
            next(numbers),
            regime.environment,
            0,
            batch=0,
            workflow=regime.workflow,
        )
        return player.play([ticket], snapshot).num_steps

    def play_anew() -> int:
        player = Player()
        steps = play(player)
        player.close()
        return steps

    return [Workload("kept", lambda: play(keeping)), Workload("anew", play_anew)]


def _faster(quick: Figure, slow: Figure) -> Spread:
    """How many times as fast by wall time, round by round."""
    return Spread.of(
        (a.steps / a.wall_seconds) / (b.steps / b.wall_seconds)
        for a, b in zip(quick.samples, slow.samples, strict=True)
    )
