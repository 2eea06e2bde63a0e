"""Where the time of the main job goes when its workers are processes, whose CPU time the kernel tells apart.

The job is run twice by its own script, each time in a new process and a new directory.

1. As users run it. Its wall time is the figure. The kernel's accounts of the learner (main thread, others),
   the fork server and the workers are read every tenth of a second, so at most that is missed of each.
2. Under cProfile. It follows the learner's main thread by wall time, so that waiting counts, and is slower by
   `profiling_slowdown`; its parts are therefore also given as shares. Backward passes run in the main thread
   on the CPU. The executor's own threads, which pickle and unpickle, are not in the profile; run 1 has
   them as `learner_other_threads`, together with TensorBoard's writer.

What the workers' CPU time is made of is found by playing episodes with the trained policy in this process,
once with the policy inside and once with the recorded actions given to the bare rules: the difference is
inference, sampling and recording.
"""

from __future__ import annotations

import json
import pstats
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

import workflow_rl
from workflow_rl.bench import processes, report
from workflow_rl.cage2.env import Cage2Env
from workflow_rl.cage2.observation import observe
from workflow_rl.cage2.state import new_states, reset
from workflow_rl.cage2.step import step
from workflow_rl.compilation import compiled
from workflow_rl.compiled_rollout import play_compiled
from workflow_rl.cores import usable_cores
from workflow_rl.environments import NATIVE
from workflow_rl.episode import EnvironmentSpec, Ticket
from workflow_rl.inference import Actor
from workflow_rl.policy import load_policy
from workflow_rl.seeding import Stream, environment_seed, episode_key

SCRIPT = Path(workflow_rl.__file__).with_name("executor_async_train_workflow_rl.py")

_SAMPLING_SECONDS = 0.1
_REPLAYED_EPISODES = 400

PARTS = {
    "hand out tickets and weights": (
        ("collectors/barrier_free.py", "submit"),
        ("collectors/barrier_free.py", "publish"),
    ),
    "wait for episodes and batch them": (("collectors/barrier_free.py", "collect"),),
    "make policies and optimisers": (
        ("workflow_rl/policy.py", "__init__"),
        ("workflow_rl/ppo.py", "__init__"),
    ),
    "judge fixes": (("workflow_rl/order_training.py", "judge"),),
    "update": (("workflow_rl/ppo.py", "update"),),
    "evaluate orders": (
        ("workflow_rl/evaluation.py", "evaluate_policy"),
        ("workflow_rl/evaluation.py", "score"),
    ),
    "logs and files": (
        ("workflow_rl/run_directory.py", "append_row"),
        ("workflow_rl/run_directory.py", "write_scalars"),
        ("workflow_rl/run_directory.py", "write_bytes"),
    ),
    "display": (("workflow_rl/display.py", "show_update"), ("workflow_rl/display.py", "show_order")),
    "search": (("workflow_rl/order_search.py", "suggest"), ("workflow_rl/order_search.py", "observe")),
}
"""Disjoint parts of the learner's main thread and the functions they are spent in."""

PARTS_OF_AN_UPDATE = {
    "backward": (("torch/_tensor.py", "backward"),),
    "forward": (("workflow_rl/policy.py", "logits"), ("workflow_rl/policy.py", "values")),
    "optimizer": (("torch/optim/adam.py", "step"),),
}
"""Parts of "update"; the rest of it is losses, minibatches and preparation."""

_EVALUATE = ("workflow_rl/evaluation.py", "evaluate_policy")
_RUN = ("workflow_rl/main_job.py", "run")


@dataclass
class Accounts:
    """CPU seconds of a run's processes.

    Attributes:
        learner_main_thread: of the process that was started.
        learner_other_threads: of its other threads: the executor's two and TensorBoard's writer.
        fork_server: start-up that the workers share.
        workers: of all of them together.
    """

    learner_main_thread: float = 0.0
    learner_other_threads: float = 0.0
    fork_server: float = 0.0
    workers: float = 0.0


class Profile:
    """Cumulative wall seconds of functions in a cProfile file."""

    def __init__(self, file: Path) -> None:
        self._stats: dict[Any, Any] = pstats.Stats(str(file)).stats  # type: ignore[attr-defined]  # not in typeshed

    def seconds(self, function: tuple[str, str], *, without_caller: tuple[str, str] | None = None) -> float:
        """Time in a function and all it calls, without what one of its callers caused; 0 if it never ran."""
        total = 0.0
        for key, (_, _, _, cumulative, callers) in self._stats.items():
            if _is(key, function):
                excluded = sum(
                    c[3] for caller, c in callers.items() if without_caller and _is(caller, without_caller)
                )
                total += cumulative - excluded
        return total


def _is(key: tuple[str, int, str], function: tuple[str, str]) -> bool:
    return key[0].endswith(function[0]) and key[2] == function[1]


def run_job(arguments: list[str], *, profile: Path | None) -> tuple[float, Accounts]:
    """Run the script to its end.

    Returns:
        Wall seconds, and what its processes used.

    Raises:
        CalledProcessError: the job failed; its own message is on stderr.
    """
    profiler = [] if profile is None else ["-m", "cProfile", "-o", str(profile)]
    command = [sys.executable, *profiler, str(SCRIPT), *arguments]
    cpu_seconds: dict[tuple[str, int], float] = {}
    started = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as job:
        while job.poll() is None:
            _read_accounts(job.pid, cpu_seconds)
            time.sleep(_SAMPLING_SECONDS)
    seconds = time.monotonic() - started
    if job.returncode != 0:
        raise subprocess.CalledProcessError(job.returncode, command)
    accounts = Accounts()
    for (role, _), used in cpu_seconds.items():
        setattr(accounts, role, getattr(accounts, role) + used)
    return seconds, accounts


def _read_accounts(learner: int, cpu_seconds: dict[tuple[str, int], float]) -> None:
    """Note what every thread and process of the job has used so far, by its role and id."""
    try:
        for thread, used in processes.cpu_seconds_by_thread(learner).items():
            role = "learner_main_thread" if thread == learner else "learner_other_threads"
            cpu_seconds[role, thread] = used
        server = processes.fork_server_of(learner)
        if server is not None:
            cpu_seconds["fork_server", server] = processes.cpu_seconds(server)
            for child in processes.children_of(server):
                cpu_seconds["workers", child] = processes.cpu_seconds(child)
    except OSError:
        return  # one of them ended between being listed and being read; its last reading stands


def breakdown(profile: Profile, wall_seconds: float) -> dict[str, Any]:
    """The learner's main thread in parts, seconds and shares of the profiled run."""
    seconds = {
        part: sum(
            profile.seconds(function, without_caller=None if function == _EVALUATE else _EVALUATE)
            for function in functions
        )
        for part, functions in PARTS.items()
    }
    seconds["start-up, ending and rest"] = wall_seconds - sum(seconds.values())
    update = {
        part: sum(profile.seconds(function) for function in functions)
        for part, functions in PARTS_OF_AN_UPDATE.items()
    }
    return {
        "seconds_before_and_after_the_job": wall_seconds - profile.seconds(_RUN),
        "seconds": seconds,
        "shares": {part: value / wall_seconds for part, value in seconds.items()},
        "update_seconds": {**update, "rest": seconds["update"] - sum(update.values())},
    }


def playing_cost(run_directory: Path) -> dict[str, float]:
    """CPU seconds of an episode with the run's last policy: simulating, and everything else in the player."""
    policy, metadata = load_policy(sorted((run_directory / "policies").glob("*.safetensors"))[-1])
    environment = Cage2Env(**metadata["environment"]["kwargs"])
    spec = EnvironmentSpec.of(NATIVE, metadata["environment"]["kwargs"])
    tickets = [
        Ticket(1, Stream.TRAINING_EPISODE, episode, spec, version=0, batch=0, workflow=0)
        for episode in range(_REPLAYED_EPISODES)
    ]
    actor = Actor(policy.snapshot(0))
    played = play_compiled(environment, tickets, actor)
    actions = played.actions.reshape(len(tickets), -1)
    keys = [episode_key(t.run_seed, t.stream, t.episode) for t in tickets]
    seeds = np.array([environment_seed(key) for key in keys], np.uint64)
    states, bits = new_states(environment.settings, 1), np.empty(environment.settings.num_bits, np.int8)
    rewards = replay(states, seeds, actions, bits)
    if not np.array_equal(rewards, played.rewards.reshape(actions.shape)):
        raise RuntimeError("the replay is not what was played: the comparison would mean nothing")
    playing = _cpu_seconds(lambda: play_compiled(environment, tickets, actor)) / len(tickets)
    simulating = _cpu_seconds(lambda: replay(states, seeds, actions, bits)) / len(tickets)
    return {"simulate": simulating, "infer_sample_record": playing - simulating}


@compiled
def replay(
    states: NDArray[np.void], seeds: NDArray[np.uint64], actions: NDArray[np.int16], bits: NDArray[np.int8]
) -> NDArray[np.float32]:
    """Give recorded actions (E, T) to the rules and look at every observation; returns the rewards (E, T)."""
    state = states[0]
    rewards = np.empty(actions.shape, np.float32)
    for e in range(len(seeds)):
        reset(state, seeds[e])
        observe(state, bits)
        for t in range(actions.shape[1]):
            rewards[e, t] = step(state, actions[e, t])
            observe(state, bits)
    return rewards


def _cpu_seconds(play: Callable[[], object]) -> float:
    started = time.process_time()
    play()
    return time.process_time() - started


def measure(arguments: list[str]) -> dict[str, Any]:
    """Both runs and the playing cost."""
    with tempfile.TemporaryDirectory(prefix="workflow-rl-bench-") as folder:
        plain, profiled, profile = Path(folder, "plain"), Path(folder, "profiled"), Path(folder, "profile")
        wall_seconds, accounts = run_job([*arguments, "--run-dir", str(plain)], profile=None)
        summary = json.loads((plain / "summary.json").read_bytes())
        slow_seconds, _ = run_job([*arguments, "--run-dir", str(profiled)], profile=profile)
        cost = playing_cost(plain)
        parts = breakdown(Profile(profile), slow_seconds)
    episodes = summary["episodes"] + summary["evaluation_episodes"]
    playing = {part: seconds * episodes for part, seconds in cost.items()}
    return {
        "arguments": arguments,
        "wall_seconds": wall_seconds,
        "cpu_seconds": asdict(accounts),
        "summary": {name: value for name, value in summary.items() if name != "policies"},
        "profiling_slowdown": slow_seconds / wall_seconds,
        "learner_main_thread": parts,
        "playing_cpu_seconds_per_episode": cost,
        "worker_cpu_seconds": {**playing, "hand_over_and_start": accounts.workers - sum(playing.values())},
    }


@click.command(help=__doc__)
@click.option("--n-workers", type=click.IntRange(1), default=2, show_default=True)
@click.option("--total-episodes", type=click.IntRange(1), default=10_000, show_default=True)
@report.json_option
@click.option("--quick", is_flag=True, help="Two updates of short episodes, to see that it runs.")
def main(n_workers: int, total_episodes: int, json_file: Path | None, quick: bool) -> None:
    processes.check_supported()
    arguments = ["--executor", "process", "--n-workers", str(n_workers)]
    arguments += ["--total-episodes", str(total_episodes)]
    if quick:
        arguments = ["--executor", "process", "--n-workers", "2", "--total-episodes", "20"]
        arguments += ["--episodes-per-update", "10", "--max-steps", "10", "--evaluation-episodes", "2"]
    report.run(
        "main_job",
        lambda: measure(arguments),
        own_load=max(n_workers, usable_cores()) + 1,
        json_file=json_file,
    )


if __name__ == "__main__":
    report.run_program(main)
