"""Episodes per second of this project and of other PPO trainers, on the same work and the same machine.

Every system trains with the same environment, network, batch, epochs and processes, and is started anew in
each round; the systems take turns. A rival lives in a Python environment of its own, which the first
comparison makes. A system that cannot be installed, ends or gets stuck has a row that says so.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import click
from measurement import Died, Run, run_system
from python_environments import InstallationError, default_cache, make_python, pinned_version, variables
from rows import row
from systems import FOLDER, SYSTEMS, System
from task import Task

from workflow_rl import __version__
from workflow_rl.bench import report
from workflow_rl.bench.latency import LATENCY, Waits
from workflow_rl.environments import CYBORG
from workflow_rl.errors import SettingError
from workflow_rl.settings import PPOSettings

_TERMINATED = 128 + signal.SIGTERM
"""Exit code of a program that was asked to end."""


@dataclass(frozen=True)
class Work:
    """What all systems do.

    Attributes:
        task: as the systems are told it.
        ideal: episodes per second if nothing but the environment took time; `None` where it computes.
    """

    task: Task
    ideal: float | None


def latency_work(sigma: float, n_workers: int) -> Work:
    """Steps that wait."""
    waits = Waits(sigma=sigma)
    task = Task(f"workflow_rl.bench.latency:{LATENCY}", asdict(waits), n_workers, waits.num_steps)
    return Work(task, n_workers / waits.mean_episode)


def reference_work(n_workers: int) -> Work:
    """CAGE Challenge 2 on the reference simulator."""
    settings = {"red_agent": "B_lineAgent", "max_steps": 100}
    return Work(Task(f"workflow_rl:{CYBORG}", settings, n_workers, episode_steps=100), ideal=None)


WORKS: dict[str, Callable[[int], Work]] = {
    "light": partial(latency_work, 0.5),
    "heavy": partial(latency_work, 1.25),
    "reference": reference_work,
}
"""By regime, for so many workers."""


def quick_work(work: Work) -> Work:
    """A few short episodes in small batches."""
    (steps,) = {"num_steps", "max_steps"} & work.task.environment_arguments.keys()
    task = replace(
        work.task,
        environment_arguments={**work.task.environment_arguments, steps: 5},
        episode_steps=5,
        batch_steps=60,
        n_workers=2,
        ppo=PPOSettings(minibatch_size=30),
    )
    return replace(work, task=task, ideal=None)


def compare(
    work: Work, systems: Sequence[System], rounds: int, seconds: float, cache: Path
) -> dict[str, Any]:
    """Run the rounds; a system that has died is left out of those that follow."""
    runs: dict[str, list[Run]] = {system.name: [] for system in systems}
    failures: dict[str, str] = {}
    for _ in range(rounds):
        for system in systems:
            if system.name in failures:
                continue
            try:
                runs[system.name].append(run(system, work.task, seconds, cache))
            except InstallationError as error:
                failures[system.name] = f"cannot be installed: {error}"
            except Died as death:
                failures[system.name] = str(death)
    return {
        "ideal_episodes_per_second": work.ideal,
        "task": asdict(work.task),
        "rounds": rounds,
        "watched_seconds": seconds,
        "rows": [
            row(
                head(system),
                runs[system.name],
                failures.get(system.name),
                episode_steps=work.task.episode_steps,
                ideal=work.ideal,
            )
            for system in systems
        ],
    }


def run(system: System, task: Task, seconds: float, cache: Path) -> Run:
    """One system, once.

    Raises:
        InstallationError: its Python environment cannot be made.
        Died: it did not get through it.
    """
    requirements = system.requirements_file
    python = sys.executable if requirements is None else str(make_python(requirements, cache))
    script, *arguments = system.script
    command = [python, str(FOLDER / script), task.to_json(), *arguments]
    return run_system(command, variables(requirements, cache), task.batch_steps, seconds)


def head(system: System) -> dict[str, str]:
    """What a row begins with."""
    requirements = system.requirements_file
    version = __version__ if requirements is None else pinned_version(requirements, system.distribution)
    return {"system": system.name, "version": version, "settings": system.settings}


def chosen(names: str) -> list[System]:
    """The systems of a list with commas.

    Raises:
        SettingError: one is unknown.
    """
    for name in names.split(","):
        if name not in SYSTEMS:
            raise SettingError(f"--systems must be among {', '.join(SYSTEMS)}, got {name!r}")
    return [SYSTEMS[name] for name in names.split(",")]


@click.command(help=__doc__)
@click.option(
    "--systems", default=",".join(SYSTEMS), show_default=True, help="They take turns in this order."
)
@click.option(
    "--regime",
    type=click.Choice(list(WORKS)),
    default="light",
    show_default=True,
    help="Steps that wait, with a light tail (sigma 0.5) or a heavy one (1.25), or the reference simulator.",
)
@click.option("--n-workers", type=click.IntRange(1), default=10, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option(
    "--seconds",
    type=click.FloatRange(0),
    default=30.0,
    show_default=True,
    help="For which each system is watched, rounded up to whole updates, two at least.",
)
@click.option(
    "--cache",
    type=click.Path(path_type=Path),
    default=default_cache,
    help="Where the rivals' Python environments are kept.  [default: in the user's cache folder]",
)
@report.json_option
@click.option("--quick", is_flag=True, help="Two workers and a few short episodes, to see that it runs.")
def main(
    systems: str,
    regime: str,
    n_workers: int,
    rounds: int,
    seconds: float,
    cache: Path,
    json_file: Path | None,
    quick: bool,
) -> None:
    selected = chosen(systems)
    work = WORKS[regime](n_workers)
    if quick:
        work, seconds, rounds = quick_work(work), 0.0, 1
    if work.task.batch_steps % work.task.n_workers:
        raise SettingError(f"--n-workers must divide {work.task.batch_steps} steps, got {n_workers}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(_TERMINATED))  # so that what was started is ended
    report.run(
        "rivals",
        lambda: {"regime": regime, **compare(work, selected, rounds, seconds, cache)},
        own_load=n_workers + 1,
        json_file=json_file,
    )


if __name__ == "__main__":
    report.run_program(main)
