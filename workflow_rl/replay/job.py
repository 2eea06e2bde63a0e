"""Shows an episode of a stored policy as a page, as a command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from workflow_rl.bench.report import check_writable
from workflow_rl.cage2.scenario import RED_AGENT_CHOICES
from workflow_rl.environments import describe, with_attacker
from workflow_rl.errors import SettingError
from workflow_rl.evaluation import evaluation_tickets
from workflow_rl.replay.page import RecordedEpisode, write_page
from workflow_rl.replay.recording import record_episode
from workflow_rl.settings import RunSettings
from workflow_rl.stored_policy import StoredPolicy, read_policy


@dataclass(frozen=True)
class ReplayPlan:
    """Which episode is shown.

    Attributes:
        red_agent: the attacker, one of `RED_AGENT_CHOICES`.
        seed: of the evaluation episodes.
        episode: number among them: the one that an evaluation with this seed plays against this attacker.
        max_steps: its length.
        greedy: take the most probable action instead of sampling; `None` does as the run did that scored the
            policy.
        simulator: "native" or "cyborg"; `None` is the one it was trained on.
        rules: see `SimulatorSettings.rules`; `None` are those it was trained on.
        workflow: the order that a universal policy is told; `None` is the best one of its run.
        output: the page.

    Raises:
        SettingError: a value is not allowed.
    """

    red_agent: str = "B_lineAgent"
    seed: int = 0
    episode: int = 0
    max_steps: int = 100
    greedy: bool | None = None
    simulator: str | None = None
    rules: str | None = None
    workflow: str | None = None
    output: Path = Path("replay.html")

    def __post_init__(self) -> None:
        RunSettings(seed=self.seed)  # has the bounds of every seed
        if self.red_agent not in RED_AGENT_CHOICES:
            raise SettingError(
                f"--red-agent must be one of {', '.join(RED_AGENT_CHOICES)}, got {self.red_agent}"
            )
        for name, value, least in (("episode", self.episode, 0), ("max-steps", self.max_steps, 1)):
            if value < least:
                raise SettingError(f"--{name} must be at least {least}, got {value}")
        check_writable(self.output, "--output")


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
    stored = read_policy(path, workflow=plan.workflow, simulator=plan.simulator, rules=plan.rules)
    stored.require_cage2("replay")
    episode = play(stored, plan)
    write_page(episode, plan.output)
    Console().print(
        f"{plan.output}: {plan.max_steps} steps against {plan.red_agent}, "
        f"reward {episode.frames[-1].total_reward:.1f}; open it in a browser",
        highlight=False,
        soft_wrap=True,
    )
    return 0


def play(stored: StoredPolicy, plan: ReplayPlan) -> RecordedEpisode:
    """Play the episode that a plan names."""
    environment = with_attacker(stored.environment, plan.red_agent, plan.max_steps)
    greedy = stored.is_greedy if plan.greedy is None else plan.greedy
    snapshot = stored.policy.snapshot(0)
    (ticket,) = evaluation_tickets(
        environment,
        snapshot,
        run_seed=plan.seed,
        episodes=[plan.episode],
        batch=0,
        workflow=stored.workflow,
        greedy=greedy,
        mask=stored.mask,
    )
    return RecordedEpisode(
        policy=stored.file.name,
        red_agent=plan.red_agent,
        simulator=describe(environment),
        seed=plan.seed,
        number=plan.episode,
        actions="most probable" if greedy else "sampled",
        workflow=None if stored.workflow is None else tuple(t.label for t in stored.workflow.order),
        compliance=stored.compliance,
        frames=record_episode(ticket, snapshot, stored.compliance),
    )
