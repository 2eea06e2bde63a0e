"""TorchRL: SAC-discrete, and what its policy is worth.

Petros Christodoulou, "Soft Actor-Critic for Discrete Action Settings", 2019, arXiv:1910.07207. Started with a
`LearningTask` in JSON; the last line that it prints is what came of it, in JSON.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass

import numpy as np
import torch
from learning_task import LearningTask, Transition
from numpy.typing import NDArray
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
from torchrl.modules import MLP, ProbabilisticActor
from torchrl.objectives import DiscreteSACLoss, SoftUpdate

from workflow_rl.cage2.scenario import NUM_ACTIONS, NUM_OBSERVATION_BITS
from workflow_rl.seeding import Stream
from workflow_rl.settings import PPOSettings


@dataclass(frozen=True)
class SACSettings:
    """How SAC-discrete is set; what it shares with PPO is as there.

    Attributes:
        games: episodes that are played side by side.
        steps_per_update: environment steps for each gradient step.
        batch_size: steps of a gradient step; the first one is made when so many were played.
        buffer_size: steps that are kept.
        learning_rate: Adam's, for actor, critics and entropy weight.
        entropy_weight: of the first gradient step; it then follows the entropy aimed at.
        target_entropy: that is aimed at, as a share of that of uniform choice. 0.98 in the paper, for games
            with at most 18 actions.
        target_rate: by which the target critics follow the critics at a gradient step.
        hidden_size: units of each of two hidden layers of actor and critics.
        discount: of the return.
        reward_scale: rewards are multiplied by this for the learner.
    """

    games: int = 25
    steps_per_update: int = 25
    batch_size: int = 256
    buffer_size: int = 1_000_000
    learning_rate: float = 1e-3
    entropy_weight: float = 0.1
    target_entropy: float = 0.2
    target_rate: float = 0.005
    hidden_size: int = PPOSettings.hidden_size
    discount: float = PPOSettings.discount
    reward_scale: float = PPOSettings.reward_scale


class Learner:
    """Actor, two critics with their targets, an entropy weight, and the steps they learn from."""

    def __init__(self, settings: SACSettings) -> None:
        self._settings = settings
        self._actor = self._network()
        self._loss = DiscreteSACLoss(
            ProbabilisticActor(
                TensorDictModule(self._actor, ["observation"], ["logits"]),
                in_keys=["logits"],
                distribution_class=torch.distributions.Categorical,
            ),
            TensorDictModule(self._network(), ["observation"], ["action_value"]),
            action_space="categorical",
            num_actions=NUM_ACTIONS,
            alpha_init=settings.entropy_weight,
            target_entropy_weight=settings.target_entropy,
        )
        self._loss.make_value_estimator(gamma=settings.discount)
        self._targets = SoftUpdate(self._loss, tau=settings.target_rate)
        self._optimizer = torch.optim.Adam(self._loss.parameters(), lr=settings.learning_rate)
        self._steps = TensorDictReplayBuffer(
            storage=LazyTensorStorage(settings.buffer_size), batch_size=settings.batch_size
        )

    def _network(self) -> MLP:
        hidden = [self._settings.hidden_size] * 2
        return MLP(NUM_OBSERVATION_BITS, NUM_ACTIONS, num_cells=hidden, activation_class=torch.nn.Tanh)

    @torch.no_grad()
    def sampled(self, observations: NDArray[np.int8]) -> NDArray[np.int64]:
        """Actions by chance."""
        logits = self._actor(torch.from_numpy(observations).float())
        return torch.distributions.Categorical(logits=logits).sample().numpy()

    @torch.no_grad()
    def greedy(self, observations: NDArray[np.int8]) -> NDArray[np.int64]:
        """The most probable actions."""
        return self._actor(torch.from_numpy(observations).float()).argmax(-1).numpy()

    def remember(self, step: Transition) -> None:
        """Keep a step; the last one of an episode is no end, since the attack would go on."""
        count = len(step.actions)
        rewards = torch.from_numpy(step.rewards * self._settings.reward_scale).float()
        goes_on = torch.zeros(count, 1, dtype=torch.bool)
        self._steps.extend(
            TensorDict(
                {
                    "observation": torch.from_numpy(step.observations).float(),
                    "action": torch.from_numpy(step.actions),
                    "next": {
                        "observation": torch.from_numpy(step.next_observations).float(),
                        "reward": rewards.unsqueeze(1),
                        "done": goes_on,
                        "terminated": goes_on,
                    },
                },
                [count],
            )
        )

    def update(self) -> None:
        """One gradient step of everything."""
        losses = self._loss(self._steps.sample())
        self._optimizer.zero_grad()
        (losses["loss_actor"] + losses["loss_qvalue"] + losses["loss_alpha"]).backward()
        self._optimizer.step()
        self._targets.step()


def train(task: LearningTask, settings: SACSettings) -> Learner:
    """Play and learn until the episodes are spent."""
    learner = Learner(settings)
    steps = updates = 0
    for first in range(0, task.episodes, settings.games):
        episodes = range(first, min(first + settings.games, task.episodes))
        for step in task.play(Stream.TRAINING_EPISODE, episodes, learner.sampled):
            learner.remember(step)
            steps += len(episodes)
            while settings.batch_size + updates * settings.steps_per_update <= steps:
                learner.update()
                updates += 1
    return learner


def main() -> None:
    task, settings = LearningTask.from_command_line(), SACSettings()
    torch.set_num_threads(1)
    torch.manual_seed(task.seed)
    before = time.process_time()
    learner = train(task, settings)
    outcome = {
        "cpu_seconds": time.process_time() - before,
        "sampled": asdict(task.score(learner.sampled)),
        "greedy": asdict(task.score(learner.greedy)),
        "settings": asdict(settings),
    }
    print(json.dumps(outcome))


if __name__ == "__main__":
    main()
