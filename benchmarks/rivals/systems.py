"""The systems that are compared: the script that trains, its Python environment, how it is set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class System:
    """One row of the table.

    Attributes:
        name: unique, as on the command line.
        script: in this folder; what follows it on the command line, after the task.
        requirements: file of pinned versions under `requirements/`; `None` for the Python that runs the
            comparison, in which this project is installed.
        distribution: whose version the row shows.
        settings: what was chosen for it, in a few words.
    """

    name: str
    script: tuple[str, ...]
    requirements: str | None
    distribution: str
    settings: str

    @property
    def requirements_file(self) -> Path | None:
        """Where its versions are pinned."""
        return None if self.requirements is None else FOLDER / "requirements" / self.requirements


SYSTEMS = {
    system.name: system
    for system in (
        System("step-only", ("step_only.py",), None, "workflow-rl", "no trainer: random actions, no updates"),
        System(
            "workflow-rl",
            ("train_workflow_rl.py", "1"),
            None,
            "workflow-rl",
            "executor collector, lag 1: the defaults",
        ),
        System(
            "workflow-rl-lag-3",
            ("train_workflow_rl.py", "3"),
            None,
            "workflow-rl",
            "executor collector, lag 3",
        ),
        System(
            "stable-baselines3",
            ("train_stable_baselines3.py",),
            "stable_baselines3.txt",
            "stable-baselines3",
            "PPO, SubprocVecEnv, a fork server that has loaded torch",
        ),
        System(
            "sample-factory",
            ("train_sample_factory.py",),
            "sample_factory.txt",
            "sample-factory",
            "APPO, asynchronous, two environments in turn in each worker",
        ),
        System(
            "rllib",
            ("train_rllib.py",),
            "rllib.txt",
            "ray",
            "PPO, new API stack, an environment in each runner",
        ),
        System(
            "torchrl",
            ("train_torchrl.py", "step-barrier"),
            "torchrl.txt",
            "torchrl",
            "PPO, Collector on ParallelEnv",
        ),
        System(
            "torchrl-multi-async",
            ("train_torchrl.py", "multi-async"),
            "torchrl.txt",
            "torchrl",
            "PPO, MultiAsyncCollector, a policy in each worker",
        ),
        System(
            "torchrl-batched-async",
            ("train_torchrl.py", "batched-async"),
            "torchrl.txt",
            "torchrl",
            "PPO, AsyncBatchedCollector, a policy in a process of its own",
        ),
    )
}
