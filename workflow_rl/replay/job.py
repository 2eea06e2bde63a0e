"""Shows an episode of a stored policy as a page, as a command."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from workflow_rl.bench.report import check_writable
from workflow_rl.cage2.scenario import RED_AGENT_CHOICES, RED_AGENTS, RED_MIXTURES
from workflow_rl.environments import NATIVE, describe, with_attacker
from workflow_rl.episode import EnvironmentSpec, Snapshot, Ticket
from workflow_rl.errors import SettingError
from workflow_rl.evaluation import evaluation_tickets
from workflow_rl.replay.page import RecordedEpisode, write_page
from workflow_rl.replay.recording import record_episode
from workflow_rl.rollout import Player
from workflow_rl.settings import RunSettings
from workflow_rl.stored_policy import StoredPolicy, read_policy

_USUAL_EPISODES = 100
"""Whose mean reward is named beside that of the episode shown: on the native simulator they take no time."""

_MOST = 2**32 - 1
"""Of episodes and of steps; an episode's number is hashed as 64 bits."""


@dataclass(frozen=True)
class ReplayPlan:
    """Which episode is shown.

    Attributes:
        red_agent: the attacker, one of `RED_AGENT_CHOICES`; `None` is the one that the policy was trained
            against, the first one of a mixture.
        seed: of the evaluation episodes.
        episode: number among them: the one that an evaluation with this seed plays against this attacker.
        max_steps: its length.
        greedy: take the most probable action instead of sampling; `None` does as the run did that scored the
            policy.
        simulator: "native" or "cyborg"; `None` is the one it was trained on.
        rules: see `SimulatorSettings.rules`; `None` are those it was trained on.
        workflow: the order that a universal policy is told; `None` is the best one of its run.
        output: the page; `None` is replay.html in the run's directory, or here for a policy file.

    Raises:
        SettingError: a value is not allowed.
    """

    red_agent: str | None = None
    seed: int = 0
    episode: int = 0
    max_steps: int = 100
    greedy: bool | None = None
    simulator: str | None = None
    rules: str | None = None
    workflow: str | None = None
    output: Path | None = None

    def __post_init__(self) -> None:
        RunSettings(seed=self.seed)  # has the bounds of every seed
        if self.red_agent not in (None, *RED_AGENT_CHOICES):
            raise SettingError(
                f"--red-agent must be one of {', '.join(RED_AGENT_CHOICES)}, got {self.red_agent}"
            )
        for name, value, least in (("episode", self.episode, 0), ("max-steps", self.max_steps, 1)):
            if not least <= value <= _MOST:
                raise SettingError(f"--{name} must be at least {least} and at most {_MOST}, got {value}")


def replay(path: Path, plan: ReplayPlan) -> int:
    """Play an episode and write its page.

    Args:
        path: a policy file, or a run directory, whose best policy is taken.
        plan: which episode.

    Returns:
        The exit code, 0.

    Raises:
        WorkflowRLError: one line for the user.
    """
    output = plan.output or (path if path.is_dir() else Path()) / "replay.html"
    check_writable(output, "--output")
    stored = read_policy(path, workflow=plan.workflow, simulator=plan.simulator, rules=plan.rules)
    stored.require_cage2("replay")
    episode = play(stored, plan)
    write_page(episode, output)
    usual = "" if episode.usual_reward is None else f" (mean of many episodes: {episode.usual_reward:.1f})"
    Console().print(
        f"{output}: {plan.max_steps} steps against {episode.red_agent}, "
        f"reward {episode.frames[-1].total_reward:.1f}{usual}; open it in a browser",
        highlight=False,
        soft_wrap=True,
    )
    return 0


def play(stored: StoredPolicy, plan: ReplayPlan) -> RecordedEpisode:
    """Play the episode that a plan names."""
    red_agent = plan.red_agent or _trained_against(stored.environment)
    environment = with_attacker(stored.environment, red_agent, plan.max_steps)
    greedy = stored.is_greedy if plan.greedy is None else plan.greedy
    snapshot = stored.policy.snapshot(0)
    tickets = partial(
        evaluation_tickets,
        environment,
        snapshot,
        run_seed=plan.seed,
        batch=0,
        workflow=stored.workflow,
        greedy=greedy,
        mask=stored.mask,
    )
    (ticket,) = tickets(episodes=[plan.episode])
    many = tickets(episodes=range(_USUAL_EPISODES)) if environment.id == NATIVE else None
    return RecordedEpisode(
        policy=stored.file.name,
        red_agent=red_agent,
        simulator=describe(environment),
        seed=plan.seed,
        number=plan.episode,
        actions="most probable" if greedy else "sampled",
        workflow=None if stored.workflow is None else tuple(t.label for t in stored.workflow.order),
        compliance=stored.compliance,
        frames=record_episode(ticket, snapshot, stored.compliance),
        usual_reward=None if many is None else _mean_reward(many, snapshot),
    )


def _trained_against(environment: EnvironmentSpec) -> str:
    red_agent = str(dict(environment.kwargs).get("red_agent", RED_AGENTS[0]))
    return RED_MIXTURES.get(red_agent, (red_agent,))[0]


def _mean_reward(tickets: Sequence[Ticket], snapshot: Snapshot) -> float:
    with closing(Player()) as player:
        return float(player.play(tickets, snapshot).returns().mean())
