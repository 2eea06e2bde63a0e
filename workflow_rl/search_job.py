"""The whole answer: which workflow defends best, how sure that is, and what keeping to one costs.

For each attacker a search, a training that no order binds, and the first orders of the search that differ in
their policies once more, in fresh episodes on the reference simulator. Every training is a run of `train` in
a directory of its own:

    B_lineAgent/  RedMeanderAgent/  ...     the searches
    B_lineAgent-unbound/  ...               the same attackers, and no order
    confirmations.json                      what the reference simulator said so far
    answer.json                             what came of it

A search that was stopped goes on where it was; what is complete is left as it is.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

from rich.console import Console

from workflow_rl import train_job
from workflow_rl.collectors import make_collector
from workflow_rl.cores import usable_cores
from workflow_rl.environments import cage2_environment
from workflow_rl.episode import EnvironmentSpec, Episodes, Snapshot, Ticket
from workflow_rl.equivalent_orders import OrderClasses
from workflow_rl.errors import SettingError
from workflow_rl.evaluation import (
    FIRST_FRESH_EPISODE,
    Score,
    evaluate_policy,
    evaluation_tickets,
    kept_orders,
    score,
)
from workflow_rl.findings import by_policy
from workflow_rl.policy import load_policy
from workflow_rl.rollout import check_environment
from workflow_rl.run_directory import ANSWER, CONFIG, SUMMARY, RunDirectory
from workflow_rl.run_log import RankingRow, read_ranking
from workflow_rl.run_opening import OpenRun, new_run, resumed_run
from workflow_rl.settings import FullSearchSettings, TrainSettings
from workflow_rl.workflow import Workflow

CONFIRMATIONS = "confirmations.json"


@dataclass(frozen=True)
class Confirmation:
    """What an order came to on the reference simulator.

    Attributes:
        workflow: the order.
        policy: file of the policy that serves it, relative to the search's directory.
        score: of fresh episodes.
        kept_orders: all orders that the policy keeps to in them as well as is demanded; of those that no rule
            tells apart one.
    """

    workflow: str
    policy: str
    score: Score
    kept_orders: Sequence[str]


@dataclass(frozen=True)
class AttackerAnswer:
    """What is known about one attacker.

    Attributes:
        red_agent: the attacker.
        ranking: all orders, best first.
        unbound: reward and standard error of the policy that no order binds; `None` if there is none.
        confirmations: of the first orders that differ in their policies, in the order of the ranking.
    """

    red_agent: str
    ranking: Sequence[RankingRow]
    unbound: tuple[float, float] | None
    confirmations: Sequence[Confirmation]


def check(settings: FullSearchSettings) -> None:
    """Refuse what cannot be answered, before anything is written.

    Raises:
        WorkflowRLError: one line for the user.
    """
    for part in _parts(settings, Path()):
        train_job.check(part)
    if settings.answer.confirmed_orders:
        for red_agent in _attackers(settings):
            check_environment(_reference(settings, red_agent))


def carry_out(run: OpenRun[FullSearchSettings], launched: float, console: Console) -> Mapping[str, Any]:
    """Answer, or do the rest of it.

    Args:
        run: opened for this process.
        launched: when the program started, seconds of the monotonic clock.
        console: shows what happens.

    Returns:
        The contents of summary.json; that of an interrupted part if one was.

    Raises:
        WorkflowRLError: one line for the user.
    """
    settings, directory = run.settings, run.directory
    for part in _parts(settings, directory.path):
        console.print(f"-- {part.run.run_dir}", highlight=False, soft_wrap=True)
        summary = _finish(part, launched, console)
        if not summary["is_complete"]:
            return summary
        launched = time.monotonic()
    answers = [_answer_for(settings, directory, red_agent) for red_agent in _attackers(settings)]
    directory.write_json(ANSWER, {"attackers": [asdict(answer) for answer in answers]})
    summary = {"is_complete": True}
    directory.write_json(SUMMARY, summary)
    for answer in answers:
        _print(console, answer)
    console.print(f"results in {directory.path}", highlight=False, soft_wrap=True)
    return summary


def _attackers(settings: FullSearchSettings) -> list[str]:
    names = [name.strip() for name in settings.answer.attackers.split(",")]
    if len(set(names)) < len(names):
        raise SettingError(f"--attackers names each attacker once, got {settings.answer.attackers}")
    return names


def _parts(settings: FullSearchSettings, root: Path) -> Iterator[TrainSettings]:
    """The trainings, in the order in which they are run.

    Raises:
        SettingError: a setting does not go with a search against several attackers.
    """
    if settings.search.workflow is not None or settings.search.universal:
        raise SettingError("workflow-rl search tries all orders: --workflow and --universal are for train")
    for red_agent in _attackers(settings):
        yield _search_settings(settings, root, red_agent)
        if settings.answer.unbound_episodes:
            yield _unbound_settings(settings, root, red_agent)


def _search_settings(settings: FullSearchSettings, root: Path, red_agent: str) -> TrainSettings:
    return TrainSettings(
        simulator=replace(settings.simulator, red_agent=red_agent),
        search=settings.search,
        alignment=settings.alignment,
        ppo=settings.ppo,
        collector=settings.collector,
        run=replace(settings.run, run_dir=root / red_agent, trace=None),
        checkpoints=settings.checkpoints,
    )


def _unbound_settings(settings: FullSearchSettings, root: Path, red_agent: str) -> TrainSettings:
    """One training that no order binds; which one it is told is no matter."""
    bound = _search_settings(settings, root, red_agent)
    episodes = settings.answer.unbound_episodes
    return replace(
        bound,
        search=replace(
            bound.search,
            workflow=str(Workflow.from_index(0)),
            total_episodes=episodes,
            max_episodes_per_workflow=episodes,
            stop_rule="budget",
        ),
        alignment=replace(bound.alignment, alignment="none"),
        run=replace(bound.run, run_dir=root / f"{red_agent}-unbound"),
    )


def _finish(part: TrainSettings, launched: float, console: Console) -> Mapping[str, Any]:
    """Do a training, or the rest of it; returns its summary."""
    path = cast(Path, part.run.run_dir)
    if not (path / CONFIG).exists():
        with new_run(part) as run:
            return train_job.carry_out(run, launched, console)
    summary: dict[str, Any] | None = RunDirectory(path).read_json(SUMMARY)
    if summary is not None and summary["is_complete"]:
        return summary
    neutral = {name: value for name, value in part.to_flat().items() if name in part.neutral_names()}
    with resumed_run(TrainSettings, path, neutral, ()) as run:
        return train_job.carry_out(run, launched, console)


def _answer_for(settings: FullSearchSettings, directory: RunDirectory, red_agent: str) -> AttackerAnswer:
    root = directory.path
    ranking = read_ranking(root / red_agent)
    unbound: dict[str, Any] | None = RunDirectory(root / f"{red_agent}-unbound").read_json(SUMMARY)
    played = [rows[0] for rows in by_policy(ranking) if rows[0].policy is not None]
    return AttackerAnswer(
        red_agent=red_agent,
        ranking=ranking,
        unbound=None if unbound is None else (unbound["best_reward"], unbound["best_reward_standard_error"]),
        confirmations=_confirm(settings, directory, red_agent, played[: settings.answer.confirmed_orders]),
    )


def _confirm(
    settings: FullSearchSettings, directory: RunDirectory, red_agent: str, rows: Sequence[RankingRow]
) -> list[Confirmation]:
    """Play orders once more, on the reference simulator; what an earlier sitting has played stays."""
    found = {confirmation.policy: confirmation for confirmation in _confirmations(directory)}
    files = [f"{red_agent}/{row.policy}" for row in rows]
    missing = [(file, row) for file, row in zip(files, rows, strict=True) if file not in found]
    if missing:
        # It computes all the time, and only processes can play it.
        workers = min(settings.collector.n_workers, usable_cores())
        players = replace(settings.collector, executor="auto", n_workers=workers)
        environment = _reference(settings, red_agent)
        with make_collector(players, environment) as collector:
            for number, (file, row) in enumerate(missing):
                policy, metadata = load_policy(directory.path / file)
                snapshot = policy.snapshot(number)
                tickets = _tickets(settings, environment, snapshot, row, mask=metadata["mask"])
                episodes = evaluate_policy(collector, snapshot, tickets)
                found[file] = _confirmation(settings, red_agent, file, row, episodes)
                directory.write_json(CONFIRMATIONS, [asdict(one) for one in found.values()])
    return [found[file] for file in files]


def _confirmations(directory: RunDirectory) -> list[Confirmation]:
    """Those of earlier sittings."""
    stored = directory.read_json(CONFIRMATIONS) or []
    return [Confirmation(**{**one, "score": Score(**one["score"])}) for one in stored]


def _tickets(
    settings: FullSearchSettings,
    environment: EnvironmentSpec,
    snapshot: Snapshot,
    row: RankingRow,
    *,
    mask: str | None,
) -> list[Ticket]:
    """Fresh episodes of a policy, which is told the order that it was trained for."""
    first = FIRST_FRESH_EPISODE
    return evaluation_tickets(
        environment,
        snapshot,
        run_seed=settings.run.seed,
        episodes=range(first, first + settings.answer.confirmation_episodes),
        batch=snapshot.version,
        workflow=Workflow.parse(cast(str, row.policy_of)),
        mask=mask,
    )


def _confirmation(
    settings: FullSearchSettings, red_agent: str, file: str, row: RankingRow, episodes: Episodes
) -> Confirmation:
    definition = settings.alignment.compliance
    classes = OrderClasses.in_training(red_agent, settings.alignment)
    kept = kept_orders(episodes, classes, definition, threshold=settings.search.compliance_threshold)
    return Confirmation(
        workflow=row.workflow,
        policy=file,
        score=score(episodes, Workflow.parse(row.workflow), definition),
        kept_orders=[str(order.workflow) for order in kept],
    )


def _reference(settings: FullSearchSettings, red_agent: str) -> EnvironmentSpec:
    """The reference simulator, as the search has its attacker play.

    Raises:
        SettingError: it does not play what the settings ask for.
    """
    return cage2_environment(replace(settings.simulator, red_agent=red_agent, simulator="cyborg"))


def _print(console: Console, answer: AttackerAnswer) -> None:
    """Print an answer in short; its run has printed the ranking."""
    best = answer.ranking[0]
    lines = [
        f"-- against {answer.red_agent}",
        f"{best.workflow}: expected to earn {best.reward:.1f} (95 %: {best.lower:.1f} to {best.upper:.1f})",
    ]
    lines += [
        f"{confirmation.workflow}, on the reference simulator: {_earned(confirmation.score)}; "
        f"its policy keeps to {len(confirmation.kept_orders)} of {len(answer.ranking)} orders that differ"
        for confirmation in answer.confirmations
    ]
    if answer.unbound is not None:
        reward, standard_error = answer.unbound
        lines.append(f"no order: {reward:.1f} ± {standard_error:.1f}")
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)


def _earned(result: Score) -> str:
    compliance = "no fixes" if result.compliance is None else f"{result.compliance:.3f}"
    return f"{result.reward:.1f} ± {result.reward_standard_error:.1f}, compliance {compliance}"
