"""RLlib: PPO on the new API stack; environment runners are Ray actors, with an environment each.

No runner is dropped for being slow (`sample_timeout_s`); each needs a fraction of a core, since it waits.
"""

from __future__ import annotations

from typing import Any

import ray
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.tune.registry import register_env
from task import Task, make_environment, report_update

_NEVER_SECONDS = 100_000.0


def configuration(task: Task) -> PPOConfig:
    """PPO on the task."""
    ppo = task.ppo
    return (
        PPOConfig()
        .environment("task")
        .framework("torch")
        .env_runners(
            num_env_runners=task.n_workers,
            num_cpus_per_env_runner=0,
            rollout_fragment_length=task.batch_steps // task.n_workers,
            batch_mode="truncate_episodes",
            sample_timeout_s=_NEVER_SECONDS,
        )
        .learners(num_learners=0)
        .training(
            train_batch_size_per_learner=task.batch_steps,
            minibatch_size=ppo.minibatch_size,
            num_epochs=ppo.epochs,
            lr=ppo.learning_rate,
            gamma=ppo.discount,
            lambda_=ppo.gae_lambda,
            clip_param=ppo.clip_range,
            entropy_coeff=ppo.entropy_coefficient,
            vf_loss_coeff=ppo.value_coefficient,
            grad_clip=ppo.max_gradient_norm,
        )
        .rl_module(
            model_config=DefaultModelConfig(
                fcnet_hiddens=[ppo.hidden_size] * 2, fcnet_activation="tanh", vf_share_layers=False
            )
        )
        .debugging(seed=0, log_level="ERROR")
    )


def main() -> None:
    task = Task.from_command_line()

    def make(_: dict[str, Any]) -> Any:
        return make_environment(task)

    register_env("task", make)
    ray.init(address="local", include_dashboard=False, log_to_driver=False)
    algorithm = configuration(task).build_algo()
    while True:
        result = algorithm.train()
        report_update(int(result["env_runners"]["num_env_steps_sampled_lifetime"]))


if __name__ == "__main__":
    main()
