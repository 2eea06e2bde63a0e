"""Stable-Baselines3: PPO on `SubprocVecEnv`, a process per environment and a barrier at every step.

Its fork server is told to load the library once: by default every worker imports torch for itself, which
takes longer to start and some 150 MB more for each.
"""

from __future__ import annotations

import multiprocessing
from functools import partial

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import SubprocVecEnv
from task import ENDLESS, Task, make_environment, report_update


class _Reports(BaseCallback):
    """A rollout starts when the update on the one before has ended."""

    def _on_rollout_start(self) -> None:
        if self.num_timesteps > 0:
            report_update(self.num_timesteps)

    def _on_step(self) -> bool:
        return True


def main() -> None:
    task = Task.from_command_line()
    ppo = task.ppo
    torch.set_num_threads(ppo.learner_threads)
    multiprocessing.set_forkserver_preload(["stable_baselines3", task.environment.partition(":")[0]])
    environments = SubprocVecEnv(
        [partial(make_environment, task)] * task.n_workers, start_method="forkserver"
    )
    hidden = [ppo.hidden_size] * 2
    model = PPO(
        "MlpPolicy",
        environments,
        n_steps=task.batch_steps // task.n_workers,
        batch_size=ppo.minibatch_size,
        n_epochs=ppo.epochs,
        learning_rate=ppo.learning_rate,
        gamma=ppo.discount,
        gae_lambda=ppo.gae_lambda,
        clip_range=ppo.clip_range,
        ent_coef=ppo.entropy_coefficient,
        vf_coef=ppo.value_coefficient,
        max_grad_norm=ppo.max_gradient_norm,
        policy_kwargs={"net_arch": {"pi": hidden, "vf": hidden}, "activation_fn": torch.nn.Tanh},
        device="cpu",
        seed=0,
    )
    model.learn(ENDLESS, callback=_Reports())


if __name__ == "__main__":
    main()
