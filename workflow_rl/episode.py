"""All that crosses a process boundary: tickets and snapshots go out, episodes come back.

    ticket   = (run seed, stream, episode index, workflow, environment, policy version)
    episodes = play(tickets, snapshot[version])      same bits, wherever and whenever they are played

Axis letters: T steps of an episode, E episodes, N = sum of T, O observation length, A actions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from workflow_rl.errors import EpisodeError
from workflow_rl.seeding import Stream
from workflow_rl.workflow import NUM_HOST_TYPES, Workflow

WORKFLOW_CONTEXT = NUM_HOST_TYPES * NUM_HOST_TYPES
"""Length of the context that tells the policy its workflow: the flattened one-hot."""


@dataclass(frozen=True, slots=True)
class EnvironmentSpec:
    """What to build: a Gymnasium id and the keyword arguments of its constructor."""

    id: str
    kwargs: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of(cls, id: str, kwargs: Mapping[str, Any]) -> Self:
        """The spec with its keyword arguments in a fixed order, so that equal specs compare equal."""
        return cls(id, tuple(sorted(kwargs.items())))


@dataclass(frozen=True, slots=True)
class Ticket:
    """All that decides an episode, except the weights that its `version` names.

    Attributes:
        run_seed: seed of the run.
        stream: training or evaluation; the two share no random numbers.
        episode: index within the stream, never reused in a run.
        environment: what is played.
        version: the snapshot that plays.
        batch: the batch the episode belongs to.
        workflow: index of the order the policy is told, 0..119; `None` for a policy without workflow.
        greedy: take the most probable action instead of sampling.
        mask: mask the fixes that violate the workflow by what blue observes, under this definition of
            compliance (see `compliance_mask`); `None` masks nothing.
    """

    run_seed: int
    stream: Stream
    episode: int
    environment: EnvironmentSpec
    version: int
    batch: int
    workflow: int | None = None
    greedy: bool = False
    mask: str | None = None

    def __str__(self) -> str:
        workflow = "" if self.workflow is None else f", workflow {self.workflow}"
        return f"episode {self.episode} (run seed {self.run_seed}{workflow}, policy version {self.version})"


def context_of(ticket: Ticket) -> NDArray[np.float32]:
    """What the policy is told for a whole episode: the workflow's one-hot, (25,) float32, or nothing.

    Not to be written to: episodes share it.
    """
    return _context(ticket.workflow)


@cache  # made anew for each, it takes a thirtieth of the time of an episode of the native simulator
def _context(workflow: int | None) -> NDArray[np.float32]:
    return np.empty(0, np.float32) if workflow is None else Workflow.from_index(workflow).one_hot().ravel()


@dataclass(frozen=True, slots=True)
class NetworkShape:
    """Sizes of the actor that workers evaluate, and what its outputs mean.

    Observation and context go in. What comes out is, by the kind of action,

        one of A            A logits                                 neither of the last two attributes is set
        several numbers     logits of each, one after the other      `branches`: how many of each
        decimal numbers     the mean of each                         `is_gaussian`; deviations are parameters
    """

    num_observations: int
    num_context: int
    hidden_size: int
    num_actions: int
    branches: tuple[int, ...] = ()
    is_gaussian: bool = False

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The shape that `dataclasses.asdict` and JSON made `values` of."""
        return cls(**{**values, "branches": tuple(values.get("branches", ()))})

    @property
    def layer_sizes(self) -> tuple[tuple[int, int], ...]:
        """(inputs, outputs) of the three layers."""
        h = self.hidden_size
        return ((self.num_observations + self.num_context, h), (h, h), (h, self.num_actions))

    @property
    def num_parameters(self) -> int:
        """Weights and biases of all layers, and the deviations of decimal actions."""
        deviations = self.num_actions if self.is_gaussian else 0
        return sum((inputs + 1) * outputs for inputs, outputs in self.layer_sizes) + deviations


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """The actor's weights after `version` updates.

    Attributes:
        version: unique within a run; grows with every update.
        shape: sizes of the network.
        parameters: shape (num_parameters,) float32: for each layer its weights, [input, output] in C order,
            then its biases; at the end the logarithms of the deviations of decimal actions. The critic stays
            with the learner.
    """

    version: int
    shape: NetworkShape
    parameters: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Episodes:
    """One or more played episodes, as flat arrays: what a worker sends back, and what a batch is made of.

    Attributes:
        tickets: length E.
        lengths: steps of each episode, (E,) int32.
        observations: (N + E, O) uint8 or float32; each episode's T observations, then its final one.
        actions: what the policy chose, (N,) int16; (N, branches) int16 for several numbers a step, (N, A)
            float32 for decimal numbers.
        forbidden: what action masks ruled out, the environment's or the workflow's, packed bits,
            (N, ceil(A / 8)) uint8, see `pack_forbidden`; (N, 0) if there were none.
        log_probs: log-probability of each action under the policy that played, (N,) float32.
        rewards: the environment's reward, unscaled, (N,) float32.
        compromised: `alignment.compromised_types` before each fix, 0 at other steps, (N,) uint8.
        terminated: whether the episode ended by itself rather than at a time limit, (E,) bool.
        started: start of play, seconds of the system-wide monotonic clock, (E,) float64.
        seconds: wall time of play, (E,) float32.
        worker: process id of the player, or number of its thread where threads play, (E,) int32.
    """

    tickets: tuple[Ticket, ...]
    lengths: NDArray[np.int32]
    observations: NDArray[Any]
    actions: NDArray[Any]
    forbidden: NDArray[np.uint8]
    log_probs: NDArray[np.float32]
    rewards: NDArray[np.float32]
    compromised: NDArray[np.uint8]
    terminated: NDArray[np.bool_]
    started: NDArray[np.float64]
    seconds: NDArray[np.float32]
    worker: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.tickets)

    @property
    def num_steps(self) -> int:
        """N, the steps of all episodes."""
        return len(self.actions)

    @property
    def is_acted_upon(self) -> NDArray[np.bool_]:
        """Which observations a step follows, (N + E,) bool: all but each episode's final one."""
        result = np.ones(self.num_steps + len(self), np.bool_)
        result[np.cumsum(self.lengths + 1) - 1] = False
        return result

    @classmethod
    def concatenate(cls, parts: Sequence[Episodes]) -> Episodes:
        """Join episodes, in the order given."""
        if len(parts) == 1:
            return parts[0]
        return Episodes(
            tickets=tuple(ticket for part in parts for ticket in part.tickets),
            forbidden=_join_forbidden([part.forbidden for part in parts]),
            **{
                name: np.concatenate([getattr(part, name) for part in parts])
                for name in cls.__slots__
                if name not in ("tickets", "forbidden")
            },
        )

    def step_slices(self) -> list[slice]:
        """Where each episode's steps are in the arrays of length N."""
        ends = np.cumsum(self.lengths)
        return [slice(int(end - length), int(end)) for end, length in zip(ends, self.lengths, strict=True)]

    def require_finite(self) -> None:
        """Refuse what would turn every weight into no number.

        Raises:
            EpisodeError: an observation or a reward is infinite or no number; names the first.
        """
        for name, values, lengths in (
            ("an observation", self.observations, self.lengths + 1),
            ("a reward", self.rewards, self.lengths),
        ):
            is_finite = np.isfinite(values)
            if not is_finite.all():
                row = int(np.argwhere(~is_finite)[0, 0])
                episode = int(np.searchsorted(np.cumsum(lengths), row, side="right"))
                ticket, step = self.tickets[episode], row - int(lengths[:episode].sum())
                raise EpisodeError(
                    f"{ticket.environment.id} gave {name} that is not finite at step {step} of {ticket}"
                )

    def returns(self) -> NDArray[np.float64]:
        """Undiscounted sum of the environment's reward of each episode, (E,) float64."""
        starts = np.cumsum(self.lengths) - self.lengths
        return np.add.reduceat(self.rewards.astype(np.float64), starts)


def pack_forbidden(allowed: Sequence[NDArray[np.bool_] | None]) -> NDArray[np.uint8]:
    """`Episodes.forbidden` of steps at which certain actions were allowed, (A,) bool, or all of them."""
    masks = [mask for mask in allowed if mask is not None]
    if not masks:
        return np.empty((len(allowed), 0), np.uint8)
    everything = np.ones_like(masks[0])
    return np.packbits(~np.array([everything if mask is None else mask for mask in allowed]), axis=1)


def unpack_forbidden(forbidden: NDArray[np.uint8], num_actions: int) -> NDArray[np.bool_]:
    """Which of A actions each row of packed bits rules out, (rows, A) bool."""
    if forbidden.shape[1] == 0:
        return np.zeros((len(forbidden), num_actions), np.bool_)
    return np.unpackbits(forbidden, axis=1, count=num_actions).view(np.bool_)


def _join_forbidden(parts: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Episodes without masks beside others that have them rule nothing out."""
    width = max(part.shape[1] for part in parts)
    return np.concatenate(
        [part if part.shape[1] == width else np.zeros((len(part), width), np.uint8) for part in parts]
    )
