"""TorchRL: PPO with its modules, losses and collectors; the second argument says which collector.

    step-barrier    `Collector` on `ParallelEnv`: all environments step together
    multi-async     `MultiAsyncCollector`: each process plays with its own copy of the policy
    batched-async   `AsyncBatchedCollector`: processes ask a server for their actions, without a barrier

An asynchronous collector goes on while the learner updates. What it hands over next becomes the next batch,
whoever played it. As for Stable-Baselines3, processes come from a fork server that has loaded the library.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Iterator
from functools import partial

import torch
from task import Task, make_environment, report_update
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torchrl.collectors import AsyncBatchedCollector, BaseCollector, Collector, MultiAsyncCollector
from torchrl.envs import GymWrapper, ParallelEnv
from torchrl.modules import MLP, ProbabilisticActor, ValueOperator
from torchrl.modules.inference_server import InferenceServerConfig
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

from workflow_rl.cage2.scenario import NUM_ACTIONS, NUM_OBSERVATION_BITS

_LIBRARY = ("torchrl.collectors", "torchrl.envs", "torchrl.modules", "torchrl.objectives")


def make(task: Task) -> GymWrapper:
    """The environment as TorchRL takes it."""
    return GymWrapper(make_environment(task), categorical_action_encoding=True)


def network(task: Task, outputs: int) -> MLP:
    """Two hidden layers."""
    hidden = [task.ppo.hidden_size] * 2
    return MLP(NUM_OBSERVATION_BITS, outputs, num_cells=hidden, activation_class=torch.nn.Tanh)


def make_actor(task: Task) -> ProbabilisticActor:
    """The policy."""
    return ProbabilisticActor(
        TensorDictModule(network(task, NUM_ACTIONS), ["observation"], ["logits"]),
        in_keys=["logits"],
        distribution_class=torch.distributions.Categorical,
        return_log_prob=True,
    )


def step_barrier(task: Task, actor: ProbabilisticActor) -> BaseCollector:
    """One decision for all environments."""
    environments = ParallelEnv(task.n_workers, partial(make, task))
    return Collector(environments, actor, frames_per_batch=task.batch_steps, total_frames=-1)


def multi_async(task: Task, actor: ProbabilisticActor) -> BaseCollector:
    """A policy in every process; each hands over an equal share of a batch at a time."""
    return MultiAsyncCollector(
        [partial(make, task)] * task.n_workers,
        actor,
        frames_per_batch=task.batch_steps // task.n_workers,
        total_frames=-1,
    )


def batched_async(task: Task, actor: ProbabilisticActor) -> BaseCollector:
    """A policy in a process of its own, that answers whoever asks; shares of a batch as above."""
    collector = AsyncBatchedCollector(
        [partial(make, task)] * task.n_workers,
        policy_factory=partial(make_actor, task),
        frames_per_batch=task.batch_steps,
        env_backend="multiprocessing",
        transport="auto",
        transition_chunk_size=task.batch_steps // task.n_workers,
        server_config=InferenceServerConfig(max_batch_size=task.n_workers, min_batch_size=1, timeout=0.001),
    )
    collector.update_policy_weights_(actor)
    return collector


COLLECTORS: dict[str, Callable[[Task, ProbabilisticActor], BaseCollector]] = {
    "step-barrier": step_barrier,
    "multi-async": multi_async,
    "batched-async": batched_async,
}


def batches(task: Task, collector: BaseCollector) -> Iterator[TensorDict]:
    """Whole batches, of as many parts as the collector hands them over in; time is the last dimension."""
    parts: list[TensorDict] = []
    for part in collector:
        parts.append(part.clone())
        if sum(taken.numel() for taken in parts) >= task.batch_steps:
            yield parts[0] if len(parts) == 1 else torch.stack(parts)
            parts = []


class Learner:
    """PPO's update."""

    def __init__(self, task: Task, actor: ProbabilisticActor) -> None:
        ppo = task.ppo
        critic = ValueOperator(network(task, 1), in_keys=["observation"])
        self._ppo = ppo
        self._advantage = GAE(gamma=ppo.discount, lmbda=ppo.gae_lambda, value_network=critic)
        self._loss = ClipPPOLoss(
            actor,
            critic,
            clip_epsilon=ppo.clip_range,
            entropy_coeff=ppo.entropy_coefficient,
            critic_coeff=ppo.value_coefficient,
            normalize_advantage=ppo.normalize_advantages,
        )
        self._optimizer = torch.optim.Adam(self._loss.parameters(), lr=ppo.learning_rate)

    def update(self, batch: TensorDict) -> None:
        """Learn from a batch."""
        with torch.no_grad():
            self._advantage(batch)
        steps = batch.reshape(-1)
        for _ in range(self._ppo.epochs):
            for chosen in torch.randperm(steps.numel()).split(self._ppo.minibatch_size):
                losses = self._loss(steps[chosen])
                loss = losses["loss_objective"] + losses["loss_critic"] + losses["loss_entropy"]
                self._optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self._loss.parameters(), self._ppo.max_gradient_norm)
                self._optimizer.step()


def main() -> None:
    task = Task.from_command_line()
    torch.set_num_threads(task.ppo.learner_threads)
    multiprocessing.set_forkserver_preload([*_LIBRARY, task.environment.partition(":")[0]])
    multiprocessing.set_start_method("forkserver", force=True)  # the library has chosen spawn
    actor = make_actor(task)
    learner = Learner(task, actor)
    collector = COLLECTORS[sys.argv[2]](task, actor)
    steps = 0
    for batch in batches(task, collector):
        learner.update(batch)
        collector.update_policy_weights_(actor)
        steps += batch.numel()
        report_update(steps)


if __name__ == "__main__":
    main()
