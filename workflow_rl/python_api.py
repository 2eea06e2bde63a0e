"""The package as a library: the functions of `import workflow_rl as wrl`.

    train, search, train_env, train_defender
                    a command each, its options as keyword arguments; they return a `Run`
    resume          goes on with any of them
    evaluate        scores a policy
    load_policy     a policy to call from a program of one's own

Each does what the command of its name does, and leaves the same directory: `workflow-rl train --n-workers 4`
is `wrl.train(n_workers=4)`. All settings, their defaults and what they allow are in `settings`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from workflow_rl import commands, evaluation_job
from workflow_rl.cores import usable_cores
from workflow_rl.errors import RunDirectoryError, SettingError, WorkflowRLError
from workflow_rl.fork_server import refuse_imported_script
from workflow_rl.loaded_policy import Policy
from workflow_rl.run_directory import ANSWER, SUMMARY, RunDirectory, default_run_directory
from workflow_rl.run_log import (
    LearningRow,
    RankingRow,
    TrainingRow,
    read_learning_log,
    read_ranking,
    read_training_log,
)
from workflow_rl.run_opening import kind_of_run
from workflow_rl.settings import (
    CollectorSettings,
    CommandSettings,
    DefenderTrainSettings,
    EnvironmentTrainSettings,
    FullSearchSettings,
    TrainSettings,
)
from workflow_rl.stored_policy import read_policy

__all__ = [
    "Policy",
    "Run",
    "WorkflowRLError",
    "evaluate",
    "load_policy",
    "resume",
    "search",
    "train",
    "train_defender",
    "train_env",
]

StrPath = str | os.PathLike[str]


class Run(os.PathLike[str]):
    """What a training or a search left on disk; goes wherever a path goes.

    Args:
        path: of its directory.
    """

    def __init__(self, path: StrPath) -> None:
        self.path = Path(path)

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def summary(self) -> Mapping[str, Any]:
        """What came of it, the contents of summary.json (of a search, those of answer.json).

        Raises:
            RunDirectoryError: there is none yet.
        """
        directory = RunDirectory(self.path)
        for name in (ANSWER, SUMMARY):
            content: Mapping[str, Any] | None = directory.read_json(name)
            if content is not None:
                return content
        raise RunDirectoryError(f"{self.path} has no {SUMMARY}: its run is not over, or there was none")

    def updates(self) -> tuple[TrainingRow, ...] | tuple[LearningRow, ...]:
        """A row for each update so far: of `train` its training_log.csv, of `train_env` its learning_log.csv.

        Raises:
            RunDirectoryError: it is missing or damaged.
        """
        is_environment = kind_of_run(self.path) in (EnvironmentTrainSettings, DefenderTrainSettings)
        return read_learning_log(self.path) if is_environment else read_training_log(self.path)

    def ranking(self) -> tuple[RankingRow, ...]:
        """All orders, best first: of `train` its ranking.csv.

        Raises:
            RunDirectoryError: it is missing or damaged.
        """
        return read_ranking(self.path)


def train(*, progress: bool = False, **settings: Any) -> Run:
    """Search for the best workflow, training a policy for each one tried: `workflow-rl train`.

    Examples:
        >>> import workflow_rl as wrl
        >>> run = wrl.train(total_episodes=200, max_episodes_per_workflow=100, n_workers=2, run_dir="demo")
        >>> run.summary["episodes"]
        200
        >>> len(run.updates())
        2

    Args:
        progress: print what the command prints.
        **settings: by name, see `settings.TrainSettings` or `workflow-rl train --help`.

    Returns:
        The run, complete.

    Raises:
        WorkflowRLError: a setting is not allowed, the directory holds a run, an environment failed ...
        KeyboardInterrupt: it was interrupted, after everything was written; `resume` goes on.
    """
    return _start(TrainSettings, settings, progress)


def train_env(env: str, *, progress: bool = False, **settings: Any) -> Run:
    """Train a policy on one Gymnasium environment: `workflow-rl train-env`.

    Examples:
        >>> import workflow_rl as wrl
        >>> run = wrl.train_env("CartPole-v1", total_steps=2000, collector="sequential", run_dir="cartpole")
        >>> run.summary["environment"]
        'CartPole-v1'

    Args:
        env: a registered id, `module:id` or `module:Class`.
        progress: print what the command prints.
        **settings: by name, see `settings.EnvironmentTrainSettings` or `workflow-rl train-env --help`;
            `env_kwargs` may be a mapping.

    Returns:
        As `train`.

    Raises:
        WorkflowRLError: as `train`.
        KeyboardInterrupt: as `train`.
    """
    if isinstance(settings.get("env_kwargs"), Mapping):
        settings["env_kwargs"] = json.dumps(dict(settings["env_kwargs"]))
    return _start(EnvironmentTrainSettings, {"env": env, **settings}, progress)


def search(*, progress: bool = False, **settings: Any) -> Run:
    """Answer which workflow defends best, against each attacker: `workflow-rl search`.

    Args:
        progress: print what the command prints.
        **settings: by name, see `settings.FullSearchSettings` or `workflow-rl search --help`.

    Returns:
        As `train`; its directory holds a run for each attacker.

    Raises:
        WorkflowRLError: as `train`.
        KeyboardInterrupt: as `train`.
    """
    return _start(FullSearchSettings, settings, progress)


def train_defender(*, progress: bool = False, **settings: Any) -> Run:
    """Train one defender against all attackers, which no workflow binds: `workflow-rl train-defender`.

    Args:
        progress: print what the command prints.
        **settings: by name, see `settings.DefenderTrainSettings` or `workflow-rl train-defender --help`.

    Returns:
        As `train`.

    Raises:
        WorkflowRLError: as `train`.
        KeyboardInterrupt: as `train`.
    """
    return _start(DefenderTrainSettings, settings, progress)


def resume(path: StrPath, *, progress: bool = False, **changes: Any) -> Run:
    """Go on with a run that was stopped, whichever function began it: `--resume` of its command.

    Args:
        path: of its directory.
        progress: print what the command prints.
        **changes: settings that may differ from the run's own, such as `n_workers`.

    Returns:
        As `train`.

    Raises:
        SettingError: a setting may not change, since results depend on it.
        WorkflowRLError: as `train`.
        KeyboardInterrupt: as `train`.
    """
    refuse_imported_script()
    launched, run = time.monotonic(), Run(path)
    kind = kind_of_run(run.path)
    if fixed := sorted(set(changes) - kind.neutral_names()):
        allowed = ", ".join(sorted(kind.neutral_names()))
        raise SettingError(f"{fixed[0]} may not change in a run that goes on; those that may: {allowed}")
    console = Console(quiet=not progress)
    return _finished(run, commands.resume(run.path, changes, kind=kind, launched=launched, console=console))


def evaluate(  # noqa: PLR0913  (the options of the command)
    path: StrPath,
    *,
    episodes: int | None = None,
    seed: int = 0,
    greedy: bool | None = None,
    simulator: str | None = None,
    rules: str | None = None,
    workflow: str | None = None,
    protocol: str | None = None,
    n_workers: int | None = None,
    progress: bool = False,
) -> Mapping[str, Any]:
    """Score a policy in fresh episodes: `workflow-rl evaluate`.

    Examples:
        >>> import workflow_rl as wrl
        >>> run = wrl.train_env("CartPole-v1", total_steps=2000, collector="sequential", run_dir="cartpole")
        >>> scores = wrl.evaluate(run, episodes=10)
        >>> scores["episodes"], scores["mean_return"] > 9
        (10, True)

    Args:
        path: a policy file, a run, whose best policy is taken, or the name of a policy of the package.
        episodes: how many, per attacker if there are any.
        seed: of the episodes.
        greedy: take the most probable action instead of sampling; `None` does as the policy's run did when it
            scored it.
        simulator: "native" or "cyborg"; `None` is the one that the policy was trained on.
        rules: "2.1" or "leaderboard"; `None` are those it was trained by.
        workflow: the order that a universal policy is told; `None` is the best one of its run.
        protocol: "cage2" scores as the challenge did.
        n_workers: worker processes; `None` is one for each core.
        progress: print what the command prints.

    Returns:
        What `workflow-rl evaluate --json` writes: what was played, and the scores.

    Raises:
        WorkflowRLError: as `train`.
    """
    refuse_imported_script()
    plan = evaluation_job.EvaluationPlan(
        episodes=episodes,
        seed=seed,
        greedy=greedy,
        simulator=simulator,
        rules=rules,
        workflow=workflow,
        protocol=protocol,
    )
    players = CollectorSettings(n_workers=usable_cores() if n_workers is None else n_workers)
    return evaluation_job.evaluate(Path(path), plan, players, Console(quiet=not progress))


def load_policy(
    path: StrPath,
    *,
    workflow: str | None = None,
    simulator: str | None = None,
    rules: str | None = None,
    seed: int = 0,
) -> Policy:
    """Read a policy to act with.

    Examples:
        >>> import gymnasium
        >>> import workflow_rl as wrl
        >>> run = wrl.train_env("CartPole-v1", total_steps=2000, collector="sequential", run_dir="cartpole")
        >>> policy = wrl.load_policy(run)
        >>> environment = gymnasium.make("CartPole-v1")
        >>> observation, info = environment.reset(seed=0)
        >>> action, _ = policy.predict(observation, deterministic=True)
        >>> environment.action_space.contains(action)
        True
        >>> environments = gymnasium.make_vec("CartPole-v1", num_envs=3)
        >>> observations, infos = environments.reset(seed=0)
        >>> actions, _ = policy.predict(observations)
        >>> actions.shape
        (3,)

    Args:
        path: as in `evaluate`.
        workflow: as in `evaluate`.
        simulator: as in `evaluate`; what `make_environment` builds.
        rules: as in `evaluate`.
        seed: of sampled actions.

    Raises:
        WorkflowRLError: there is no policy, it is damaged, or what is asked for is not possible with it.
    """
    stored = read_policy(Path(path), workflow=workflow, simulator=simulator, rules=rules)
    return Policy(stored, seed=seed)


def _start(kind: type[CommandSettings], values: Mapping[str, Any], progress: bool) -> Run:
    """Run a command in a directory whose name is known before."""
    refuse_imported_script()
    launched = time.monotonic()
    settings = kind.from_flat(values)
    run = Run(settings.run.run_dir or default_run_directory(settings.run.seed))
    settings = replace(settings, run=replace(settings.run, run_dir=run.path))
    return _finished(run, commands.start(settings, launched=launched, console=Console(quiet=not progress)))


def _finished(run: Run, exit_code: int) -> Run:
    if exit_code != 0:
        raise KeyboardInterrupt(f"the run in {run.path} was interrupted; workflow_rl.resume goes on with it")
    return run
