"""How fast the simulators are, on one core.

    compiled loop   reset, step and observation bits with random actions, no Python in the loop
    with policy     what collectors run: simulate, infer, sample and record (`compiled_rollout.play_compiled`)
    Gymnasium env   one environment stepped from Python with given actions
    vector env      1,000 environments stepped from Python with given actions
    csle-cyborg     the reference simulator, stepped like the Gymnasium environment, on the same actions

All are timed in alternation within one run, compilation apart. The time to the first step, with and without
compiled code on disk, is measured in processes of its own.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import workflow_rl
from workflow_rl.bench import report
from workflow_rl.bench.conditions import Watch
from workflow_rl.bench.timing import Figure, Spread, Workload, measure, ratio
from workflow_rl.cage2.env import Cage2Env
from workflow_rl.cage2.observation import observe
from workflow_rl.cage2.scenario import NUM_ACTIONS, NUM_OBSERVATION_BITS, RED_AGENTS
from workflow_rl.cage2.state import RULE_SETS, GameSettings, new_states, reset
from workflow_rl.cage2.step import step
from workflow_rl.cage2.vector_env import Cage2VectorEnv
from workflow_rl.compilation import compiled
from workflow_rl.compiled_rollout import play_compiled
from workflow_rl.environments import CYBORG, NATIVE
from workflow_rl.episode import WORKFLOW_CONTEXT, EnvironmentSpec, NetworkShape, Snapshot, Ticket
from workflow_rl.errors import MissingExtraError
from workflow_rl.inference import Actor
from workflow_rl.rollout import Environment, make_environment
from workflow_rl.seeding import Stream, environment_seed, mix64, policy_uniform

ROUNDS = 5
COMPILED_FLOOR = 5_000_000.0
POLICY_FLOOR = 400_000.0
GYMNASIUM_FLOOR = 100_000.0
VECTOR_FLOOR = 3_000_000.0
"""Steps per second of wall time on one core that the simulator was built to reach at least."""

GYMNASIUM = "Gymnasium env"
REFERENCE = "csle-cyborg"

_MAX_STEPS = 100
_NUM_ENVIRONMENTS = 1000
_HIDDEN_SIZE = 64
_LOOP_EPISODES = 100
_POLICY_EPISODES = 20
_GIVEN_EPISODES = 16
_WEIGHT_DEVIATION = 0.1
_NO_COLD_START = "left out by --quick"


@dataclass(frozen=True)
class FirstStep:
    """Seconds from the start of a process.

    Attributes:
        imported: until the package is imported.
        stepped: until the first step of the Gymnasium environment is done.
        played: until a whole episode with the policy inside is played.
    """

    imported: float
    stepped: float
    played: float


def run(*, json_file: Path | None, seconds: float, quick: bool) -> int:
    """Measure, print a table, and write a report if one is asked for.

    Args:
        json_file: where the report goes.
        seconds: how long each workload is played in each round.
        quick: only the first attacker under the first rules, and no cold start, which compiles for a while.

    Returns:
        The exit code, 0.

    Raises:
        SettingError: the report cannot be written.
    """
    if json_file is not None:
        report.check_writable(json_file)
    watch = Watch()
    workloads, note = _workloads(quick=quick)
    figures = {figure.name: figure for figure in measure(workloads, rounds=ROUNDS, seconds=seconds)}
    times_as_fast = ratio(figures[GYMNASIUM], figures[REFERENCE]) if REFERENCE in figures else None
    cold, warm = first_steps(with_cold=not quick)
    conditions = watch.conditions(own_load=1.0)
    _print(Console(), list(figures.values()), times_as_fast, note, (cold, warm), conditions.warning)
    if json_file is not None:
        content = {
            "rounds": ROUNDS,
            "seconds_per_round": seconds,
            "figures": [_figure_values(figure) for figure in figures.values()],
            "times_as_fast_as_reference": None if times_as_fast is None else asdict(times_as_fast),
            "reference_note": note,
            "first_step_cold": None if cold is None else asdict(cold),
            "first_step_warm": asdict(warm),
        }
        report.write(json_file, report.document("simulator", conditions, content))
    return 0


def first_steps(*, with_cold: bool) -> tuple[FirstStep | None, FirstStep]:
    """Time to the first step, in fresh processes: compiling everything, and with the compiled code on disk.

    The code is kept in a directory of its own, so that the user's cache is neither used nor changed.

    Args:
        with_cold: measure the process that compiles; without it, the cache that the package has is used, and
            the cold time is `None`.
    """
    if not with_cold:
        _start_and_step(None)
        return None, _start_and_step(None)
    with tempfile.TemporaryDirectory(prefix="workflow-rl-bench-") as cache:
        return _start_and_step(cache), _start_and_step(cache)


def _start_and_step(cache: str | None) -> FirstStep:
    paths = [str(Path(workflow_rl.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    if cache is not None:
        environment["NUMBA_CACHE_DIR"] = cache
    command = [sys.executable, "-m", "workflow_rl.bench.first_step"]
    started = time.monotonic()
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return FirstStep(**{name: instant - started for name, instant in json.loads(done.stdout).items()})


def _workloads(*, quick: bool) -> tuple[list[Workload], str | None]:
    """All workloads, and a note if the reference is not among them."""
    red_agents, rule_sets = (RED_AGENTS[:1], RULE_SETS[:1]) if quick else (RED_AGENTS, RULE_SETS)
    games = [GameSettings(red, _MAX_STEPS, rules) for red in red_agents for rules in rule_sets]
    workloads = [Workload(f"compiled loop, {_title(g)}", _random_loop(g), COMPILED_FLOOR) for g in games]
    workloads += [Workload(f"with policy, {_title(g)}", _policy_loop(g), POLICY_FLOOR) for g in games]
    workloads.append(Workload(GYMNASIUM, _given_actions(_environment(NATIVE)), GYMNASIUM_FLOOR))
    workloads.append(Workload(f"vector env of {_NUM_ENVIRONMENTS}", _vector_loop(), VECTOR_FLOOR))
    try:
        workloads.append(Workload(REFERENCE, _given_actions(_environment(CYBORG))))
    except MissingExtraError as error:
        return workloads, str(error)
    return workloads, None


def _title(game: GameSettings) -> str:
    return f"{game.red_agent}, rules {game.rules}"


def _environment(name: str) -> Environment:
    return make_environment(EnvironmentSpec.of(name, {"max_steps": _MAX_STEPS}))


def _random_loop(game: GameSettings) -> Callable[[], int]:
    states, bits = new_states(game, 1), np.empty(game.num_bits, np.int8)
    numbers = itertools.count()

    def play() -> int:
        _play_randomly(states, _LOOP_EPISODES, np.uint64(next(numbers)), bits)
        return _LOOP_EPISODES * game.max_steps

    return play


@compiled
def _play_randomly(states: NDArray[np.void], num_episodes: int, number: np.uint64, bits: Any) -> float:
    """Play episodes with uniformly random actions in `states[0]`; returns the sum of all rewards."""
    state = states[0]
    total = 0.0
    for e in range(num_episodes):
        key = mix64((number << np.uint64(32)) + np.uint64(e))
        reset(state, environment_seed(key))
        observe(state, bits)
        for t in range(state.max_steps):
            total += step(state, int(policy_uniform(key, np.uint64(t)) * NUM_ACTIONS))
            observe(state, bits)
    return total


def _policy_loop(game: GameSettings) -> Callable[[], int]:
    environment = Cage2Env(game.red_agent, game.max_steps, game.rules)
    shape = NetworkShape(NUM_OBSERVATION_BITS, WORKFLOW_CONTEXT, _HIDDEN_SIZE, NUM_ACTIONS)
    weights = np.random.default_rng(0).normal(0.0, _WEIGHT_DEVIATION, shape.num_parameters)
    actor = Actor(Snapshot(0, shape, weights.astype(np.float32)))
    spec = EnvironmentSpec.of(NATIVE, {})
    batches = itertools.count()

    def play() -> int:
        first = next(batches) * _POLICY_EPISODES
        tickets = [
            Ticket(0, Stream.TRAINING_EPISODE, episode, spec, version=0, batch=0, workflow=0)
            for episode in range(first, first + _POLICY_EPISODES)
        ]
        return play_compiled(environment, tickets, actor).num_steps

    return play


def _given_actions(environment: Environment) -> Callable[[], int]:
    """One episode a piece, the same ones in the same order whatever the environment."""
    episodes = _given_episodes()

    def play() -> int:
        seed, actions = next(episodes)
        environment.reset(seed=seed)
        for action in actions:
            environment.step(action)
        return len(actions)

    return play


def _given_episodes() -> Iterator[tuple[int, list[Any]]]:
    """Seeds and uniformly random actions, drawn once."""
    actions = np.random.default_rng(0).integers(NUM_ACTIONS, size=(_GIVEN_EPISODES, _MAX_STEPS))
    return itertools.cycle(enumerate(actions.tolist()))


def _vector_loop() -> Callable[[], int]:
    """One episode of each environment a piece, the call that resets them included."""
    environments = Cage2VectorEnv(_NUM_ENVIRONMENTS, max_steps=_MAX_STEPS)
    environments.reset(seed=0)
    actions = np.random.default_rng(0).integers(NUM_ACTIONS, size=(_MAX_STEPS + 1, _NUM_ENVIRONMENTS))

    def play() -> int:
        for chosen in actions:
            environments.step(chosen)
        return _MAX_STEPS * _NUM_ENVIRONMENTS

    return play


def _figure_values(figure: Figure) -> dict[str, Any]:
    return {
        "name": figure.name,
        "steps_per_second": asdict(figure.steps_per_second),
        "steps_per_cpu_second": asdict(figure.steps_per_cpu_second),
        "floor": figure.floor,
        "first_seconds": figure.first_seconds,
    }


def _print(
    console: Console,
    figures: Sequence[Figure],
    times_as_fast: Spread | None,
    note: str | None,
    starts: tuple[FirstStep | None, FirstStep],
    warning: str | None,
) -> None:
    table = Table(title=f"steps per second on one core: median of {ROUNDS} rounds (lowest to highest)")
    table.add_column("")
    for heading in ("wall time", "CPU time", "floor", "first, s"):
        table.add_column(heading, justify="right")
    for figure in figures:
        table.add_row(
            figure.name,
            _spread(figure.steps_per_second),
            _short(figure.steps_per_cpu_second.median),
            "" if figure.floor is None else _short(figure.floor),
            f"{figure.first_seconds:.2f}",
        )
    console.print(table)
    if times_as_fast is not None:
        line = f"{GYMNASIUM}, on the same actions: {_spread(times_as_fast)} times as fast as {REFERENCE}"
        console.print(line, highlight=False, soft_wrap=True)
    for line in filter(None, (note, *_start_lines(*starts), warning and f"warning: {warning}")):
        console.print(line, highlight=False, soft_wrap=True)


def _spread(spread: Spread) -> str:
    return f"{_short(spread.median)} ({_short(spread.minimum)} to {_short(spread.maximum)})"


def _short(value: float) -> str:
    """At least three digits, with a prefix."""
    for prefix, size in ((" M", 1e6), (" k", 1e3)):
        if value >= size:
            return f"{value / size:.2f}{prefix}"
    return f"{value:.3g}"


def _start_lines(cold: FirstStep | None, warm: FirstStep) -> Iterator[str]:
    starts = (("nothing compiled yet", cold), ("compiled code on disk", warm))
    for name, start in starts:
        if start is None:
            yield f"{name}: {_NO_COLD_START}"
        else:
            yield (
                f"{name}: imported after {start.imported:.2f} s, first step after {start.stepped:.2f} s, "
                f"first episode with the policy after {start.played:.2f} s"
            )
