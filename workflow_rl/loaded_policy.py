"""A trained policy in somebody else's program: observations in, actions out.

`Policy.predict` has the signature and the meaning of Stable-Baselines3's `BasePolicy.predict`, so whatever
plays a model of that library plays a policy of this one, e.g. its `evaluate_policy`. Actions are computed by
the kernels that play episodes here, without torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from typing import Any, TypeVar

import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import batch_space, iterate
from numpy.typing import NDArray

from workflow_rl.compliance_mask import allowed_by_order
from workflow_rl.episode import context_of
from workflow_rl.errors import SettingError
from workflow_rl.evaluation import evaluation_tickets
from workflow_rl.inference import actor_of
from workflow_rl.rollout import Environment, make_environment
from workflow_rl.seeding import episode_key
from workflow_rl.spaces import interface_of
from workflow_rl.stored_policy import StoredPolicy
from workflow_rl.workflow import Workflow

_State = TypeVar("_State")


class Policy:
    """A policy that was read from a file, ready to act.

    One that was trained under the mask of its workflow (`--alignment mask`) acts under it here too.

    Args:
        stored: what was read.
        seed: of sampled actions; the same calls in the same order then give the same actions.

    Attributes:
        observation_space: of the environment that it was trained on.
        action_space: of the same.
    """

    def __init__(self, stored: StoredPolicy, *, seed: int) -> None:
        self._spec = stored.environment
        self._order = stored.workflow
        with closing(self.make_environment()) as environment:
            self.observation_space: spaces.Space[Any] = environment.observation_space
            self.action_space: spaces.Space[Any] = environment.action_space
            self._interface = interface_of(environment)
        snapshot = stored.policy.snapshot(0)
        (self._ticket,) = evaluation_tickets(
            self._spec,
            snapshot,
            run_seed=seed,
            episodes=[0],
            batch=0,
            workflow=stored.workflow,
            mask=stored.mask,
        )
        self._actor = actor_of(snapshot)
        self._key = episode_key(seed, self._ticket.stream, self._ticket.episode)
        self._num_choices = 0

    @property
    def workflow(self) -> Workflow | None:
        """The order that the policy is told; `None` for a policy that is told none."""
        return self._order

    def make_environment(self) -> Environment:
        """Build an environment of the kind that the policy was trained on, with the same arguments."""
        return make_environment(self._spec)

    def predict(
        self,
        observation: Any,
        state: _State | None = None,
        episode_start: NDArray[np.bool_] | None = None,  # noqa: ARG002  (Stable-Baselines3's signature)
        deterministic: bool = False,
        action_masks: Any = None,
    ) -> tuple[NDArray[Any], _State | None]:
        """Choose the action after an observation, or after each of a batch of them.

        Args:
            observation: of `observation_space`; or several with a leading axis (of each part, for spaces of
                parts), as a vector environment gives them.
            state: returned as it is: the policy has no memory.
            episode_start: not used, for the same reason.
            deterministic: take the most probable action instead of sampling.
            action_masks: what the environment allows, as `info["action_mask"]` has it; one for each of a
                batch; `None` allows all.

        Returns:
            The action, which `step` takes, or one for each of a batch along the first axis; and `state`.

        Raises:
            SettingError: the observation is not of `observation_space`.
            ValueError: an action mask is none.
        """
        size = _batch_size(self.observation_space, observation)
        if size is None:
            return self._actions([observation], [action_masks], deterministic)[0], state
        observations = iterate(batch_space(self.observation_space, size), observation)
        masks = [None] * size if action_masks is None else action_masks
        return self._actions(observations, masks, deterministic), state

    def _actions(
        self, observations: Iterable[Any], masks: Iterable[Any], deterministic: bool
    ) -> NDArray[Any]:
        self._actor.begin_episode(context_of(self._ticket), self._key, greedy=deterministic)
        actions = [
            self._interface.decode(self._choice(observation, mask))
            for observation, mask in zip(observations, masks, strict=True)
        ]
        return np.array(actions, self.action_space.dtype).reshape(-1, *(self.action_space.shape or ()))

    def _choice(self, observation: Any, mask: Any) -> Any:
        seen = self._interface.encode(observation)
        allowed = None if mask is None else self._interface.allowed_by(mask)
        if self._ticket.mask is not None:
            allowed = allowed_by_order(self._ticket, seen)
        choice, _ = self._actor.act(seen, self._num_choices, allowed)
        self._num_choices += 1
        return choice


def _batch_size(space: spaces.Space[Any], observation: Any) -> int | None:
    """How many observations of a space there are; `None` for one that is no batch.

    Raises:
        SettingError: neither fits the space.
    """
    try:
        if isinstance(space, spaces.Dict):
            name, part = next(iter(space.items()))
            return _batch_size(part, observation[name])
        if isinstance(space, spaces.Tuple):
            return _batch_size(space[0], observation[0])
    except (IndexError, KeyError, TypeError) as error:
        raise SettingError(f"expected an observation of {space}, or a batch, got {observation!r}") from error
    shape = np.shape(observation)
    if shape == space.shape:
        return None
    if shape and shape[1:] == space.shape:
        return int(shape[0])
    raise SettingError(f"expected an observation of shape {space.shape}, or a batch, got shape {shape}")
