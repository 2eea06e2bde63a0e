"""Where the speed-up comes from: the section `causes` of `workflow-rl bench collectors`.

One factor is changed at a time, from the slowest system to the fastest:

    sequential                       one environment
    synchronous, equal steps         more workers; nobody is ever late, so the barrier costs nothing
    synchronous                      steps differ: all wait for the slowest
    executor, lag 0                  no step barrier, and the policy in the worker instead of the learner
    executor                         no update barrier: workers play while the learner learns

The ratios of neighbours multiply to the ratio of the ends. The policy's place and the step barrier change
together, since whoever waits for nobody has to choose alone; equal steps tell them apart, because there the
barrier costs nothing. What is left of the speed-up is the barrier's.

Three more factors are inside all of this: compiled inference against numpy and torch, environments that are
kept against new ones for each episode, and workers that are kept against new ones for each batch.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from workflow_rl.bench.barrier import slowest_episode_of, slowest_of
from workflow_rl.bench.contest import System, play_rounds
from workflow_rl.bench.figures import foreign_cores
from workflow_rl.bench.regimes import Regime
from workflow_rl.bench.scaling import Contest
from workflow_rl.bench.timing import Figure, Spread, Workload, measure
from workflow_rl.bench.turn import Turn
from workflow_rl.episode import NetworkShape, Snapshot, Ticket
from workflow_rl.inference import Actor
from workflow_rl.policy import ActorCritic
from workflow_rl.rollout import Player
from workflow_rl.seeding import Stream, episode_key

ALONE = "sequential"
EQUAL_SYNCHRONOUS = "synchronous, equal steps"
EQUAL_EXECUTOR = "executor, lag 0, equal steps"
SYNCHRONOUS = "synchronous"
ON_POLICY = "executor, lag 0"
BARRIER_FREE = "executor"

_DECISIONS = 100
"""In one piece of the inference workloads."""

_PAIR_SECONDS = 0.5
"""For each of a pair in each round, at most."""

Turns = Mapping[str, Sequence[Turn]]


@dataclass(frozen=True)
class Factor:
    """One cause.

    Attributes:
        name: what is changed.
        change: from what to what.
        times: how many times as fast, measured.
        theory: the same by theory, `None` if there is none.
        is_in_chain: whether it is one of those whose product is the whole.
    """

    name: str
    change: str
    times: Spread
    theory: float | None
    is_in_chain: bool = False


def measure_causes(contest: Contest, n_workers: int) -> dict[str, Any]:
    """The factors, with so many workers."""
    systems = _systems(contest, n_workers)
    turns = play_rounds(systems, contest.schedule)
    whole = Factor("all together", f"{ALONE} to {BARRIER_FREE}", _ratio(turns, BARRIER_FREE, ALONE), None)
    factors = [
        *_barrier_factors(contest.regime, n_workers, turns),
        *_pair_factors(contest),
        _start_up_factor(turns[BARRIER_FREE]),
    ]
    return {
        "n_workers": n_workers,
        "whole": asdict(whole),
        "foreign_cores": foreign_cores(turn for taken in turns.values() for turn in taken),
        "factors": [asdict(factor) for factor in factors],
        "episodes_per_second": {
            name: asdict(Spread.of(turn.rate for turn in taken)) for name, taken in turns.items()
        },
    }


def _systems(contest: Contest, n_workers: int) -> list[System]:
    alone, synchronous, executor = (
        contest.system(name, n_workers) for name in ("sequential", "synchronous", "executor")
    )
    on_policy = replace(executor, name=ON_POLICY, settings=replace(executor.settings, lag=0))
    systems = [alone, synchronous, on_policy, executor]
    waits = contest.regime.waits
    if waits is not None:
        equal = contest.regime.with_waits(replace(waits, mean_step=waits.mean_step, sigma=0.0, step_times=""))
        systems += [
            replace(synchronous, name=EQUAL_SYNCHRONOUS, regime=equal),
            replace(on_policy, name=EQUAL_EXECUTOR, regime=equal),
        ]
    return systems


def _barrier_factors(regime: Regime, n_workers: int, turns: Turns) -> list[Factor]:
    """The chain; two of its links are one where steps cannot be made equal."""
    last_of_batch = None if regime.waits is None else slowest_episode_of(n_workers, regime.waits)
    no_update_barrier = Factor(
        "no update barrier",
        f"{ON_POLICY} to {BARRIER_FREE}",
        _ratio(turns, BARRIER_FREE, ON_POLICY),
        last_of_batch,
        is_in_chain=True,
    )
    no_step_barrier = Factor(
        "whole episodes in workers",
        f"{SYNCHRONOUS} to {ON_POLICY}",
        _ratio(turns, ON_POLICY, SYNCHRONOUS),
        None,
        is_in_chain=True,
    )
    if regime.waits is None or last_of_batch is None:
        more = Factor(
            "more workers", f"{ALONE} to {SYNCHRONOUS}", _ratio(turns, SYNCHRONOUS, ALONE), None, True
        )
        return [more, no_step_barrier, no_update_barrier]
    slowest = slowest_of(n_workers, regime.waits)
    return [
        Factor(
            "more workers",
            f"{ALONE} to {EQUAL_SYNCHRONOUS}",
            _ratio(turns, EQUAL_SYNCHRONOUS, ALONE),
            float(n_workers),
            is_in_chain=True,
        ),
        Factor(
            "steps that differ, a barrier at each",
            f"{EQUAL_SYNCHRONOUS} to {SYNCHRONOUS}",
            _ratio(turns, SYNCHRONOUS, EQUAL_SYNCHRONOUS),
            1 / slowest,
            is_in_chain=True,
        ),
        replace(no_step_barrier, theory=slowest / last_of_batch),
        *_parts_of_step_barrier(turns, slowest / last_of_batch),
        no_update_barrier,
    ]


def _parts_of_step_barrier(turns: Turns, theory: float) -> list[Factor]:
    places = _ratios(turns, EQUAL_EXECUTOR, EQUAL_SYNCHRONOUS)
    both = _ratios(turns, ON_POLICY, SYNCHRONOUS)
    return [
        Factor(
            "of it: policy in the worker",
            f"{EQUAL_SYNCHRONOUS} to {EQUAL_EXECUTOR}",
            Spread.of(places),
            None,
        ),
        Factor(
            "of it: no step barrier",
            "the rest",
            Spread.of(whole / place for whole, place in zip(both, places, strict=True)),
            theory,
        ),
    ]


def _start_up_factor(turns: Sequence[Turn]) -> Factor:
    times = Spread.of(turn.rate / turn.cold_rate for turn in turns)
    return Factor("workers kept", "started for each batch to kept", times, None)


def _pair_factors(contest: Contest) -> list[Factor]:
    """Two ways to do the same in this process, in alternation."""
    rounds, seconds = contest.schedule.rounds, min(contest.schedule.seconds, _PAIR_SECONDS)
    factors = []
    shape = contest.regime.shape
    if not (shape.branches or shape.is_gaussian):
        contest.schedule.show("inference")
        compiled, in_numpy, in_torch = measure(_decision_workloads(shape), rounds=rounds, seconds=seconds)
        for name, slower in (("numpy", in_numpy), ("torch", in_torch)):
            factors.append(
                Factor(
                    "compiled inference", f"a decision in {name} to compiled", _faster(compiled, slower), None
                )
            )
    contest.schedule.show("environments")
    kept, anew = measure(_environment_workloads(contest.regime), rounds=rounds, seconds=seconds)
    factors.append(Factor("environment kept", "built for each episode to kept", _faster(kept, anew), None))
    return factors


def _decision_workloads(shape: NetworkShape) -> list[Workload]:
    """Decisions on random bits, one observation at a time."""
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


def _ratios(turns: Turns, above: str, below: str) -> list[float]:
    return [a.rate / b.rate for a, b in zip(turns[above], turns[below], strict=True)]


def _ratio(turns: Turns, above: str, below: str) -> Spread:
    return Spread.of(_ratios(turns, above, below))
