"""The policy for several episodes at a time, in one compiled call; each as if it were alone.

Whoever decides centrally for many environments has an observation of each in a row of one array. The kernels
are those of `inference`, row by row, so an episode gets the same bits here as from an `inference.Actor`. One
of A actions is chosen here as the only one of several numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from workflow_rl.compilation import compiled
from workflow_rl.episode import Snapshot
from workflow_rl.inference import actor_of, begin_episode, choose_decimals, choose_numbers, compute_logits


@compiled
def _act_by_numbers(
    policy: Any, branches: Any, episodes: Any, observations: Any, allowed: Any, rows: Any, choices: Any
) -> None:
    """A number for each of `branches` (K,) in each of `rows` (P,).

    Args:
        policy: layers and work space of an `inference.Actor`.
        branches: how many numbers there are to choose from, (K,) int64.
        episodes: what `BatchActor` knows of the episode in each row.
        observations: (rows, O) float32.
        allowed: (rows, A) bool.
        rows: (P,) int64.
        choices: actions (P, K) int16 and log-probabilities (P,) float32; overwritten.
    """
    layers, (hidden1, hidden2, logits, exponentials) = policy
    firsts, keys, greedy, steps = episodes
    actions, log_probs = choices
    for i in range(len(rows)):
        row = rows[i]
        compute_logits(layers, firsts[row], observations[row], hidden1, hidden2, logits)
        numbers, log_probs[i] = choose_numbers(
            logits, allowed[row], exponentials, branches, greedy[row], keys[row], steps[row]
        )
        actions[i] = numbers
        steps[row] += 1


@compiled
def _act_by_decimals(
    policy: Any, log_deviations: Any, episodes: Any, observations: Any, rows: Any, choices: Any
) -> None:
    """As `_act_by_numbers`, with `log_deviations` (A,) instead of branches and actions (P, A) float32."""
    layers, (hidden1, hidden2, means, _) = policy
    firsts, keys, greedy, steps = episodes
    actions, log_probs = choices
    for i in range(len(rows)):
        row = rows[i]
        compute_logits(layers, firsts[row], observations[row], hidden1, hidden2, means)
        numbers, log_probs[i] = choose_decimals(means, log_deviations, greedy[row], keys[row], steps[row])
        actions[i] = numbers
        steps[row] += 1


class BatchActor:
    """One snapshot's policy in up to `num_rows` episodes at a time.

    Args:
        snapshot: the weights.
        num_rows: of the array of observations.
    """

    def __init__(self, snapshot: Snapshot, num_rows: int) -> None:
        actor = actor_of(snapshot)
        self._shape = shape = snapshot.shape
        self._policy = (actor.layers, actor.workspace)
        self._branches = np.array(shape.branches or [shape.num_actions], np.int64)
        self._log_deviations = snapshot.parameters[-shape.num_actions :]
        self._everything = np.ones((num_rows, shape.num_actions), np.bool_)
        self._episodes = (
            np.empty((num_rows, shape.hidden_size), np.float32),
            np.empty(num_rows, np.uint64),
            np.empty(num_rows, np.bool_),
            np.empty(num_rows, np.int64),
        )

    def begin_episode(self, row: int, context: NDArray[np.float32], key: np.uint64, *, greedy: bool) -> None:
        """Start an episode in a row; arguments as in `inference.Actor`."""
        firsts, keys, greedily, steps = self._episodes
        begin_episode(self._policy[0], context, firsts[row])
        keys[row], greedily[row], steps[row] = key, greedy, 0

    def act(
        self,
        observations: NDArray[np.float32],
        rows: NDArray[np.int64],
        allowed: NDArray[np.bool_] | None = None,
    ) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """The next action in some rows, and its log-probability.

        Args:
            observations: shape (num_rows, num_observations) float32.
            rows: those to act in, shape (P,) int64; an episode has begun in each.
            allowed: which actions may be chosen, shape (num_rows, num_actions), at least one in each of
                those rows; `None` allows all.

        Returns:
            Actions, (P,) int16, (P, branches) int16 or (P, num_actions) float32, as the shape of the network
            has it; log-probabilities, (P,) float32.
        """
        log_probs = np.empty(len(rows), np.float32)
        if self._shape.is_gaussian:
            assert allowed is None, "there is a choice of actions to allow"
            decimals = np.empty((len(rows), self._shape.num_actions), np.float32)
            _act_by_decimals(
                self._policy, self._log_deviations, self._episodes, observations, rows, (decimals, log_probs)
            )
            return decimals, log_probs
        numbers = np.empty((len(rows), len(self._branches)), np.int16)
        _act_by_numbers(
            self._policy,
            self._branches,
            self._episodes,
            observations,
            self._everything if allowed is None else allowed,
            rows,
            (numbers, log_probs),
        )
        return (numbers if self._shape.branches else numbers[:, 0]), log_probs
