"""Sample Factory: APPO; workers step, one process infers for all, the learner does not wait for either.

Each worker takes two environments in turn, so that it steps one while the other waits for its action (the
library's double-buffered sampling). Rollouts are whole episodes. Summaries and checkpoints are put off.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from sample_factory.algo.runners.runner import AlgoObserver, Runner
from sample_factory.cfg.arguments import parse_full_cfg, parse_sf_args
from sample_factory.envs.env_utils import register_env
from sample_factory.train import make_runner
from task import ENDLESS, Task, make_environment, report_update

_NEVER = 1_000_000


class _Reports(AlgoObserver):
    """Each training iteration learns from a batch."""

    def __init__(self, batch_steps: int) -> None:
        self._batch_steps = batch_steps

    def on_training_step(self, runner: Runner, training_iteration_since_resume: int) -> None:  # noqa: ARG002
        report_update(training_iteration_since_resume * self._batch_steps)


def _make_environment(task: Task, *_: Any, **__: Any) -> Any:
    """As Sample Factory calls it: the name, its settings and more follow."""
    return make_environment(task)


def settings_of(task: Task) -> dict[str, Any]:
    """The command line that trains on the task."""
    ppo = task.ppo
    return {
        "env": "task",
        "device": "cpu",
        "seed": 0,
        "num_workers": task.n_workers,
        "num_envs_per_worker": 2,
        "worker_num_splits": 2,
        "rollout": task.episode_steps,
        "batch_size": ppo.minibatch_size,
        "num_batches_per_epoch": task.batch_steps // ppo.minibatch_size,
        "num_epochs": ppo.epochs,
        "shuffle_minibatches": True,
        "learning_rate": ppo.learning_rate,
        "gamma": ppo.discount,
        "gae_lambda": ppo.gae_lambda,
        "ppo_clip_ratio": ppo.clip_range,
        "exploration_loss_coeff": ppo.entropy_coefficient,
        "value_loss_coeff": ppo.value_coefficient,
        "max_grad_norm": ppo.max_gradient_norm,
        "reward_scale": ppo.reward_scale,
        "normalize_input": False,
        "normalize_returns": False,
        "use_rnn": False,
        "actor_critic_share_weights": False,
        "nonlinearity": "tanh",
        "train_for_env_steps": ENDLESS,
        "save_every_sec": _NEVER,
        "save_best_every_sec": _NEVER,
        "experiment_summaries_interval": _NEVER,
    }


def main() -> None:
    task = Task.from_command_line()
    register_env("task", partial(_make_environment, task))
    arguments = [f"--{name}={value}" for name, value in settings_of(task).items()]
    arguments += ["--encoder_mlp_layers", *[str(task.ppo.hidden_size)] * 2]
    parser, _ = parse_sf_args(arguments)
    _, runner = make_runner(parse_full_cfg(parser, arguments))
    runner.register_observer(_Reports(task.batch_steps))
    runner.init()
    sys.exit(runner.run())


if __name__ == "__main__":
    main()
