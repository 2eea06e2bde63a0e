"""SAC-discrete beside this project's PPO: what either has learnt after the same number of episodes.

    python benchmarks/rivals/sac_discrete.py --processes 2 --runs sac_discrete.json
    python benchmarks/rivals/sac_discrete.py --red-agent B_lineAgent --episodes 1000 --seeds 3

Both train on the native simulator, bound by no workflow, and their final policies are scored on the same
1,000 fresh episodes, with sampled actions and with the most probable ones. SAC-discrete is TorchRL's, in the
Python environment that TorchRL has for `compare.py`; `learn_sac_discrete.py` says how it is set. What else
the machine does has no influence on what is learnt, only on CPU seconds.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
from learning_task import LearningTask
from python_environments import default_cache, make_python, variables
from systems import FOLDER

import workflow_rl as wrl
from workflow_rl.bench import report
from workflow_rl.bench.runs import Runs, Settings, runs_option
from workflow_rl.cage2.scenario import MIXED_RED_AGENTS
from workflow_rl.workflow import Workflow

PPO, SAC = "workflow-rl PPO", "TorchRL SAC-discrete"
REQUIREMENTS = FOLDER / "requirements" / "torchrl.txt"
QUICK_SIZE = {"episodes": 60, "max_steps": 5, "evaluation_episodes": 2}


@dataclass(frozen=True)
class Learnt:
    """What a training came to.

    Attributes:
        sampled: mean return of fresh episodes with sampled actions, and its standard error.
        greedy: the same with the most probable actions.
        cpu_seconds: of the training.
        settings: of the learner, those that are its defaults left out.
    """

    sampled: dict[str, float]
    greedy: dict[str, float]
    cpu_seconds: float
    settings: dict[str, Any]

    @property
    def score(self) -> float:
        """Mean return with sampled actions, as the main job scores its policies."""
        return self.sampled["reward"]

    @property
    def compliance(self) -> None:
        """There is no workflow to keep to."""


def learn(settings: Settings, cache: Path) -> Learnt:
    """Do one training; its settings are the task's, and the system."""
    task = LearningTask(**{name: value for name, value in settings.items() if name != "system"})
    return learn_ppo(task) if settings["system"] == PPO else learn_sac(task, cache)


def learn_ppo(task: LearningTask) -> Learnt:
    """Train with this project. The policy is told an order, which is all the same to it."""
    settings = {"alignment": "none", "workflow": str(Workflow.from_index(0)), "stop_rule": "budget"}
    with tempfile.TemporaryDirectory() as folder:
        before = time.process_time()
        run = wrl.train(
            **settings,
            red_agent=task.red_agent,
            seed=task.seed,
            total_episodes=task.episodes,
            max_steps=task.max_steps,
            evaluation_episodes=2,  # it is scored below
            collector="sequential",
            run_dir=Path(folder, "run"),
        )
        cpu_seconds = time.process_time() - before
        policy = wrl.load_policy(run, seed=task.seed)
    return Learnt(
        sampled=asdict(task.score(lambda observations: policy.predict(observations)[0])),
        greedy=asdict(task.score(lambda observations: policy.predict(observations, deterministic=True)[0])),
        cpu_seconds=cpu_seconds,
        settings=settings,
    )


def learn_sac(task: LearningTask, cache: Path) -> Learnt:
    """Train with TorchRL in its own Python environment."""
    done = subprocess.run(
        [str(make_python(REQUIREMENTS, cache)), str(FOLDER / "learn_sac_discrete.py"), task.to_json()],
        env=variables(REQUIREMENTS, cache),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return Learnt(**json.loads(done.stdout.splitlines()[-1]))


def compare(tasks: Sequence[LearningTask], runs: Runs, cache: Path, processes: int) -> dict[str, Any]:
    """Train everything and return the figures for the report."""
    make_python(REQUIREMENTS, cache)  # before two processes want to
    settings = [{"system": system, **asdict(task)} for task, system in itertools.product(tasks, (PPO, SAC))]
    learnt = runs.learn(partial(learn, cache=cache), settings, Learnt, processes=processes)
    return {"trainings": [{**given, **asdict(came)} for given, came in zip(settings, learnt, strict=True)]}


@click.command(help=__doc__)
@click.option("--red-agent", multiple=True, type=click.Choice(MIXED_RED_AGENTS), default=MIXED_RED_AGENTS)
@click.option(
    "--episodes", multiple=True, type=click.IntRange(1), default=(2_500, 10_000), help="Of a training."
)
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True)
@click.option(
    "--processes", type=click.IntRange(1), default=1, show_default=True, help="Trainings side by side."
)
@click.option(
    "--cache", type=click.Path(path_type=Path), default=default_cache, help="Of Python environments."
)
@runs_option
@report.json_option
@click.option("--quick", is_flag=True, help="A few short episodes, to see that it runs.")
def main(
    processes: int,
    cache: Path,
    runs_file: Path | None,
    json_file: Path | None,
    quick: bool,
    **chosen: Any,
) -> None:
    tasks = [
        LearningTask(red_agent, seed, **(QUICK_SIZE if quick else {"episodes": episodes}))
        for red_agent, episodes, seed in itertools.product(
            chosen["red_agent"], chosen["episodes"], range(chosen["seeds"])
        )
    ]
    report.run(
        "sac_discrete",
        lambda: compare(tasks, Runs(runs_file), cache, processes),
        own_load=processes,
        json_file=json_file,
    )


if __name__ == "__main__":
    report.run_program(main)
