"""This project: the training of `train-env` on the executor collector, at some lag; the rest is default."""

from __future__ import annotations

import json
import sys

from task import ENDLESS, Task, report_update

from workflow_rl.environments import gymnasium_environment, preload_modules
from workflow_rl.fork_server import worker_context
from workflow_rl.settings import EnvironmentTrainSettings


def main() -> None:
    task = Task.from_command_line()
    settings = EnvironmentTrainSettings.from_flat(
        {
            **vars(task.ppo),
            "env": task.environment,
            "env_kwargs": json.dumps(task.environment_arguments),
            "n_workers": task.n_workers,
            "lag": int(sys.argv[2]),
            "steps_per_update": task.batch_steps,
            "total_steps": ENDLESS,
        }
    )
    environment = gymnasium_environment(settings.environment)
    worker_context(preload_modules(environment))  # loads what workers need while this process imports torch
    from workflow_rl.collectors import make_collector
    from workflow_rl.environment_training import EnvironmentTraining

    with make_collector(settings.collector, environment) as collector:
        for report in EnvironmentTraining(settings, collector).run():
            report_update(report.steps)


if __name__ == "__main__":
    main()
