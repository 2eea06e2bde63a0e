"""No trainer: as many processes as workers that step the environment with random actions, and nothing else.

What a trainer is held against where the environment computes, and no ideal can be calculated.
"""

from __future__ import annotations

from task import Task, report_update

from workflow_rl.bench.limit import LimitProcesses
from workflow_rl.episode import EnvironmentSpec

_SECONDS = 2.0


def main() -> None:
    task = Task.from_command_line()
    environment = EnvironmentSpec.of(task.environment, task.environment_arguments)
    steps = 0
    with LimitProcesses(task.n_workers, environment, snapshot=None) as processes:
        while True:
            steps += processes.play(_SECONDS).steps
            report_update(steps)


if __name__ == "__main__":
    main()
