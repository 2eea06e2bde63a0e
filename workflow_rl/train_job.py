"""The main job as a command: what is refused before it, and what is printed after it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from workflow_rl.compiled_rollout import is_player_cached
from workflow_rl.display import RunDisplay
from workflow_rl.environments import NATIVE, cage2_environment
from workflow_rl.errors import SettingError
from workflow_rl.findings import print_ranking, sentences
from workflow_rl.interruption import Interruption
from workflow_rl.main_job import MainJob
from workflow_rl.ppo import torch_device
from workflow_rl.rollout import check_environment
from workflow_rl.run_log import read_ranking
from workflow_rl.run_opening import OpenRun
from workflow_rl.settings import TrainSettings
from workflow_rl.tracing import make_traced_collector
from workflow_rl.workflow import Workflow


def check(settings: TrainSettings) -> None:
    """Refuse what cannot be trained, before anything is written.

    Raises:
        WorkflowRLError: one line for the user.
    """
    if settings.search.workflow is not None:
        Workflow.parse(settings.search.workflow)
        if settings.search.universal:
            raise SettingError("--universal trains all orders and --workflow one: take one of the two")
    if settings.simulator.action_set != "all":
        raise SettingError(
            f"--action-set {settings.simulator.action_set} is for policies without a workflow; take all"
        )
    torch_device(settings.ppo.device)
    check_environment(cage2_environment(settings.simulator))


def carry_out(run: OpenRun[TrainSettings], launched: float, console: Console) -> Mapping[str, Any]:
    """Do the main job, or the rest of it, and print what came of it.

    Args:
        run: opened for this process.
        launched: when the program started, seconds of the monotonic clock.
        console: shows what happens.

    Returns:
        The contents of summary.json.

    Raises:
        WorkflowRLError: one line for the user.
    """
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
    _print_summary(console, settings, directory.path, summary)
    return summary


def _print_summary(console: Console, settings: TrainSettings, path: Path, summary: Mapping[str, Any]) -> None:
    def number(value: float | None, digits: int = 1) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    lines = [
        f"{'done' if summary['is_complete'] else 'interrupted'}: {summary['episodes']} episodes in "
        f"{summary['wall_seconds']:.1f} s; {number(summary['cold_episodes_per_second'])} episodes/s cold, "
        f"{number(summary['warm_episodes_per_second'])} warm",
        f"results in {path}",
    ]
    if summary["best_workflow"] is not None and settings.search.workflow is not None:
        kept = "keeps to it" if summary["best_met_threshold"] else "less than the compliance threshold"
        lines.insert(
            1,
            f"workflow {summary['best_workflow']}: reward {number(summary['best_reward'])} "
            f"± {number(summary['best_reward_standard_error'])}, "
            f"compliance {number(summary['best_compliance'], 3)} ({kept}), "
            f"{number(summary['best_observed_compliance'], 3)} by what blue could see",
        )
    elif summary["best_workflow"] is not None:
        red_agent, ranking = settings.simulator.red_agent, read_ranking(path)
        print_ranking(console, ranking, title=f"orders against {red_agent}, best first")
        lines[1:1] = sentences(ranking, red_agent, summary)
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)
