"""What the commands do, once their options are read: train, resume, evaluate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from workflow_rl.cage2.scenario import RED_AGENTS
from workflow_rl.collectors import make_collector
from workflow_rl.compiled_rollout import is_player_cached
from workflow_rl.display import RunDisplay
from workflow_rl.environments import NATIVE, cage2_environment, describe, on_simulator, with_attacker
from workflow_rl.episode import EnvironmentSpec
from workflow_rl.errors import (
    PolicyFileError,
    RunDirectoryError,
    SettingError,
    WorkflowRLError,
)
from workflow_rl.evaluate import HORIZONS, Score, evaluate_policy, evaluation_tickets, score
from workflow_rl.interruption import EXIT_CODE, Interruption
from workflow_rl.main_job import MainJob
from workflow_rl.policy import load_policy
from workflow_rl.ppo import torch_device
from workflow_rl.rollout import make_environment
from workflow_rl.run_log import SUMMARY, RunDirectory
from workflow_rl.run_opening import OpenRun, new_run, resumed_run
from workflow_rl.settings import CollectorSettings, RunSettings, TrainSettings
from workflow_rl.tracing import make_traced_collector
from workflow_rl.workflow import Workflow


def train(settings: TrainSettings, *, launched: float) -> int:
    """Run the main job in a new run directory.

    Args:
        settings: of the run.
        launched: when the program started, seconds of the monotonic clock.

    Returns:
        The exit code: 0, or 130 if it was interrupted.

    Raises:
        WorkflowRLError: one line for the user.
    """
    if settings.search.workflow is not None:
        Workflow.parse(settings.search.workflow)
    torch_device(settings.ppo.device)
    _try_environment(cage2_environment(settings.simulator))  # fails before anything is written
    with new_run(settings) as run:
        return _run(run, launched)


def _try_environment(environment: EnvironmentSpec) -> None:
    """Raise a WorkflowRLError if the environment cannot be made."""
    try:
        make_environment(environment).close()
    except WorkflowRLError:
        raise
    except Exception as error:
        raise SettingError(
            f"{environment.id} cannot be made: its constructor raised {type(error).__name__}: {error}"
        ) from error


def resume(path: Path, changes: Mapping[str, Any], ignored: Sequence[str], *, launched: float) -> int:
    """Go on with an interrupted run.

    Args:
        path: its directory.
        changes: settings that may differ from the run's own.
        ignored: settings that were given and may not; they are named on stderr.
        launched: as in `train`.

    Returns:
        As `train`.

    Raises:
        WorkflowRLError: one line for the user.
    """
    with resumed_run(TrainSettings, path, changes, ignored) as run:
        return _run(run, launched)


def _run(run: OpenRun[TrainSettings], launched: float) -> int:
    console = Console()
    settings, directory = run.settings, run.directory
    environment = cage2_environment(settings.simulator)
    if environment.id == NATIVE and not is_player_cached():
        console.print("compiling the simulator, once for this installation: under a minute")
    with (
        Interruption() as interruption,
        make_traced_collector(settings.collector, environment, settings.run.trace) as collector,
        directory.keeping_traceback(),
        RunDisplay(settings, launched, console) as display,
    ):
        job = MainJob(settings, directory, collector, display, interruption, launched, run.checkpoint)
        summary = job.run()
    _print_summary(console, directory.path, summary)
    return 0 if summary["is_complete"] else EXIT_CODE


def _print_summary(console: Console, path: Path, summary: Mapping[str, Any]) -> None:
    def number(value: float | None, digits: int = 1) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    lines = [
        f"{'done' if summary['is_complete'] else 'interrupted'}: {summary['episodes']} episodes in "
        f"{summary['wall_seconds']:.1f} s; {number(summary['cold_episodes_per_second'])} episodes/s cold, "
        f"{number(summary['warm_episodes_per_second'])} warm",
        f"results in {path}",
    ]
    if summary["best_workflow"] is not None:
        kept = "keeps to it" if summary["best_met_threshold"] else "no order reached the compliance threshold"
        lines.insert(
            1,
            f"best workflow {summary['best_workflow']}: reward {number(summary['best_reward'])} "
            f"± {number(summary['best_reward_standard_error'])}, "
            f"compliance {number(summary['best_compliance'], 3)} ({kept})",
        )
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Evaluation:
    """One cell of the evaluation: an attacker and a horizon."""

    red_agent: str
    horizon: int
    score: Score


@dataclass(frozen=True)
class EvaluationPlan:
    """How a policy is evaluated.

    Attributes:
        episodes: per attacker; each is played to the longest horizon, its first steps count for the others.
        seed: of the evaluation episodes.
        greedy: take the most probable action instead of sampling.

    Raises:
        SettingError: a value is not allowed.
    """

    episodes: int = 100
    seed: int = 0
    greedy: bool = False

    def __post_init__(self) -> None:
        if self.episodes < 2:
            raise SettingError(f"--episodes must be at least 2, got {self.episodes}")
        RunSettings(seed=self.seed)  # has the bounds of every seed


def evaluate(path: Path, plan: EvaluationPlan, *, simulator: str | None, collector: CollectorSettings) -> int:
    """Evaluate a policy against every attacker, at every horizon of the challenge.

    Args:
        path: a policy file, or a run directory, whose best policy is taken.
        plan: what is played.
        simulator: "native" or "cyborg"; `None` is the one it was trained on.
        collector: who plays.

    Returns:
        The exit code, 0.

    Raises:
        WorkflowRLError: one line for the user.
    """
    file = _policy_file(path)
    policy, metadata = load_policy(file)
    try:
        workflow = Workflow.parse(metadata["workflow"])
        environment = EnvironmentSpec.of(metadata["environment"]["id"], metadata["environment"]["kwargs"])
        definition = metadata["compliance"]
    except KeyError as error:
        raise PolicyFileError(f"{file} does not say what it was trained for: {error} is missing") from error
    if simulator is not None:
        environment = on_simulator(environment, simulator)
    _try_environment(environment)
    cells = []
    with make_collector(collector, environment) as players:
        for batch, red_agent in enumerate(RED_AGENTS):
            snapshot = policy.snapshot(batch)
            tickets = evaluation_tickets(
                with_attacker(environment, red_agent, max(HORIZONS)),
                snapshot,
                run_seed=plan.seed,
                episodes=range(plan.episodes),
                batch=batch,
                workflow=workflow,
                greedy=plan.greedy,
            )
            episodes = evaluate_policy(players, snapshot, tickets)
            cells += [
                Evaluation(red_agent, horizon, score(episodes, workflow, definition, horizon=horizon))
                for horizon in HORIZONS
            ]
    title = (
        f"{file.name}: {workflow}\n{describe(environment)}, {plan.episodes} episodes each, seed {plan.seed}"
    )
    _print_evaluation(Console(), title, cells)
    return 0


def _policy_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    summary = RunDirectory(path).read_json(SUMMARY)
    if summary is None or summary["best_policy"] is None:
        raise RunDirectoryError(f"{path} holds no evaluated policy yet; name a policy file instead")
    return path / str(summary["best_policy"])


def _print_evaluation(console: Console, title: str, cells: Sequence[Evaluation]) -> None:
    console.print(title, highlight=False, soft_wrap=True)
    table = Table()
    for heading in ("red agent", "steps", "reward", "compliance"):
        table.add_column(heading, justify="left" if heading == "red agent" else "right")
    for cell in cells:
        result = cell.score
        compliance = (
            "no fixes"
            if result.compliance is None
            else f"{result.compliance:.3f} ± {result.compliance_standard_error:.3f}"
        )
        table.add_row(
            cell.red_agent,
            str(cell.horizon),
            f"{result.reward:.2f} ± {result.reward_standard_error:.2f}",
            compliance,
        )
    console.print(table)
    console.print(
        "± one standard error; shorter horizons are the first steps of the same episodes", soft_wrap=True
    )
