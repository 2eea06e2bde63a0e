"""The command line. Options are generated from `settings`; what runs is imported when its command is called.

Errors are one line on stderr. Exit codes: 0 done, 1 a failure while running, 2 bad input, 130 interrupted.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
import sys
import time
import tomllib
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import click

from workflow_rl import __version__
from workflow_rl.cores import usable_cores
from workflow_rl.environments import (
    cage2_environment,
    executor_of,
    gymnasium_environment,
    preload_modules,
)
from workflow_rl.errors import EpisodeError, SettingError, WorkflowRLError
from workflow_rl.fork_server import worker_context
from workflow_rl.interruption import EXIT_CODE
from workflow_rl.settings import (
    CollectorSettings,
    CommandSettings,
    DefenderTrainSettings,
    EnvironmentTrainSettings,
    FullSearchSettings,
    TrainSettings,
    allowed_values,
    flag,
    value_type,
)

_LAUNCHED = time.monotonic()


def _read_config(
    settings: type[CommandSettings],
    context: click.Context,
    _: click.Parameter,
    path: Path | None,
) -> Path | None:
    """Take a configuration file's values as the defaults of all other options."""
    if path is None:
        return None
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise SettingError(f"--config {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise SettingError(f"--config {path}: {error}") from error
    if not isinstance(values, dict):
        raise SettingError(f"--config {path}: expected a mapping of settings to values, got {values!r}")
    values = {name.replace("-", "_"): value for name, value in values.items()}
    settings.from_flat(_given(values))
    context.default_map = {**(context.default_map or {}), **values}
    return path


def _option(group: Any, item: dataclasses.Field[Any], default: Any) -> click.Option:
    kind = value_type(group, item)
    choices: Sequence[str] = item.metadata["choices"]
    help_text = item.metadata["help"]
    if not choices and (allowed := allowed_values(item)):
        help_text += f" ({allowed})"
    name = flag(item.name)

    def completions(_context: click.Context, _option: click.Parameter, typed: str) -> list[str]:
        return [choice for choice in choices if choice.startswith(typed)]

    return click.Option(
        [item.name, f"{name}/--no-{name[2:]}" if kind is bool else name],
        type=click.Path(path_type=Path) if kind is Path else kind,
        metavar="|".join(choices) or None,
        default=default,
        show_default=default is not None,
        help=help_text,
        shell_complete=completions if choices else None,
    )


def _settings_options(settings: type[CommandSettings], without: Collection[str]) -> Iterator[click.Parameter]:
    """An option for each setting but some, after `--config`."""
    yield click.Option(
        ["--config"],
        type=click.Path(path_type=Path),
        is_eager=True,
        expose_value=False,
        callback=partial(_read_config, settings),
        help="TOML or JSON file of settings: each key is an option's name, e.g. n_workers = 8. "
        "Options on the command line win. A run's config.json is one.",
    )
    for group in settings.defaults().values():
        items = [item for item in dataclasses.fields(group) if item.name not in without]
        yield from (_option(type(group), item, getattr(group, item.name)) for item in items)


def _resume_option(settings: type[CommandSettings]) -> click.Option:
    flags = [flag(name) for name in sorted(settings.neutral_names())]
    return click.Option(
        ["--resume"],
        type=click.Path(path_type=Path),
        metavar="RUN_DIR",
        help="Go on with an interrupted run, with its own settings; only "
        f"{', '.join(flags[:-1])} and {flags[-1]} may differ.",
    )


def _given(values: dict[str, Any]) -> dict[str, Any]:
    """The options that have a value; the others are settings left at theirs."""
    return {name: value for name, value in values.items() if value is not None}


def _changes(
    settings: type[CommandSettings],
    context: click.Context,
    values: dict[str, Any],
) -> tuple[dict[str, Any], list[str]]:
    """What the command line asks of a resumed run: settings that may change, names of those that may not."""
    command_line = click.core.ParameterSource.COMMANDLINE
    given = {name for name in values if context.get_parameter_source(name) is command_line}
    may_change = given & settings.neutral_names()
    return {name: values[name] for name in may_change}, sorted(given - may_change)


def _prepare_workers(settings: CommandSettings) -> None:
    """Let the fork server load what worker processes need while this process imports torch."""
    if isinstance(settings, EnvironmentTrainSettings):
        environment = gymnasium_environment(settings.environment)
    else:
        environment = cage2_environment(settings.simulator)
    if executor_of(settings.collector, environment) == "process":
        worker_context(preload_modules(environment))


_HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}


@click.group(context_settings=_HELP_OPTIONS, invoke_without_command=True)
@click.version_option(__version__, prog_name="workflow-rl")
@click.pass_context
def main_group(context: click.Context) -> None:
    """Train cyber-defence agents that keep to a workflow."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def _run_command(
    settings: type[CommandSettings], *, without: Collection[str] = ()
) -> Callable[[Callable[[], None]], click.Command]:
    """Make a command that starts a run or goes on with one; the function's docstring is its help.

    Args:
        settings: of its runs.
        without: settings that have no option.
    """

    def make(described: Callable[[], None]) -> click.Command:
        command = click.Command(
            settings.command,
            context_settings=_HELP_OPTIONS,
            params=[*_settings_options(settings, without), _resume_option(settings)],
            callback=click.pass_context(partial(_start_or_resume, settings)),
            help=inspect.getdoc(described),
        )
        main_group.add_command(command)
        return command

    return make


def _start_or_resume(
    kind: type[CommandSettings], context: click.Context, /, resume: Path | None, **values: Any
) -> NoReturn:
    if resume is None:
        settings = kind.from_flat(_given(values))
        _prepare_workers(settings)
        from workflow_rl import commands

        context.exit(commands.start(settings, launched=_LAUNCHED))
    from workflow_rl import commands

    changes, ignored = _changes(kind, context, values)
    context.exit(commands.resume(resume, changes, ignored, kind=kind, launched=_LAUNCHED))


@_run_command(TrainSettings)
def train_command() -> None:
    """Search for the best workflow. The main job: a policy is trained for each one that is tried.

    \b
    Examples:
      workflow-rl train --n-workers 4 --total-episodes 2000
      workflow-rl train --workflow op_server,enterprise,defender,op_host,user
      workflow-rl train --resume runs/2026-11-23-101500-seed0
    """


@_run_command(FullSearchSettings, without=("red_agent", "workflow", "universal", "trace"))
def search_command() -> None:
    """Answer which workflow defends best. Against each attacker, beside no workflow, on both simulators.

    \b
    Examples:
      workflow-rl search --run-dir answer
      workflow-rl search --attackers B_lineAgent --total-episodes 20000 --confirmation-episodes 1000
      workflow-rl search --resume answer
    """


@_run_command(EnvironmentTrainSettings)
def train_environment_command() -> None:
    """Train a policy on a Gymnasium environment. The collectors and the learner are those of train.

    \b
    Examples:
      workflow-rl train-env --env CartPole-v1 --n-workers 2
      workflow-rl train-env --config examples/cartpole.toml --n-workers 2
      workflow-rl train-env --env my_package.games:Labyrinth --env-kwargs '{"size": 9}'
      workflow-rl train-env --resume runs/2026-11-23-101500-seed0
    """


@_run_command(DefenderTrainSettings)
def train_defender_command() -> None:
    """Train one defender against all attackers. It plays CAGE Challenge 2, and no workflow binds it.

    \b
    Examples:
      workflow-rl train-defender --rules 2.1 --run-dir my-defender
      workflow-rl train-defender --rules leaderboard --seed 1
      workflow-rl train-defender --resume my-defender
    """


@main_group.command("evaluate")
@click.argument("path", type=click.Path(path_type=Path), metavar="RUN_DIR|POLICY_FILE|NAME")
@click.option(
    "--protocol",
    metavar="cage2|robustness",
    help="cage2: as the challenge was scored: nine cells of an attacker and a horizon, their sum, and what "
    "was published. robustness: attackers that take over from each other, observations that get lost.",
)
@click.option(
    "--episodes",
    type=int,
    help="Episodes, per attacker if there are any (at least 2), by the protocol per cell.  [default: 100, by "
    "the protocol 1000]",
)
@click.option("--seed", default=0, show_default=True, help="Seed of the evaluation episodes.")
@click.option(
    "--greedy/--sampled",
    default=None,
    help="Take the most probable action, or sample as in training; default: as the policy's run scored it, "
    "sampled by train and greedy by train-env.",
)
@click.option("--simulator", help="native or cyborg; default: the one the policy was trained on.")
@click.option("--rules", help="2.1 or leaderboard; default: those the policy was trained by.")
@click.option(
    "--workflow",
    metavar="ORDER",
    help="Order that a policy of train --universal is told; default: the best one of its run.",
)
@click.option("--n-workers", type=int, help="Worker processes.  [default: one for each core]")
@click.option(
    "--collector", default="executor", show_default=True, help="executor, ray, synchronous or sequential."
)
@click.option("--ray-address", help="Cluster for --collector ray: host:port or auto; default: this machine.")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), metavar="FILE", help="Write the scores here too."
)
@click.option("--traceback", is_flag=True, help="If the environment raises, print the worker's traceback.")
def evaluate_command(
    path: Path,
    n_workers: int | None,
    collector: str,
    ray_address: str | None,
    traceback: bool,
    **plan: Any,
) -> None:
    """Score a policy on fresh episodes. One of train plays each attacker for 30, 50 and 100 steps.

    A run directory stands for the run's best policy, a name for a policy that comes with the package:
    defender-2.1 or defender-leaderboard.

    \b
    Examples:
      workflow-rl evaluate defender-2.1 --protocol cage2
      workflow-rl evaluate demo-run --episodes 1000
      workflow-rl evaluate demo-run --protocol cage2 --json scores.json
      workflow-rl evaluate demo-run/policies/000-workflow-000.safetensors --simulator cyborg
    """
    from rich.console import Console

    from workflow_rl import evaluation_job

    n_workers = usable_cores() if n_workers is None else n_workers
    players = CollectorSettings(collector=collector, n_workers=n_workers, ray_address=ray_address)
    try:
        evaluation_job.evaluate(path, evaluation_job.EvaluationPlan(**plan), players, Console())
    except EpisodeError as error:
        if not traceback:
            raise EpisodeError(f"{error}; --traceback shows where") from error
        click.echo(error.worker_traceback, err=True)
        raise


@main_group.command("replay")
@click.argument("path", type=click.Path(path_type=Path), metavar="RUN_DIR|POLICY_FILE|NAME")
@click.option(
    "--red-agent",
    help="The attacker; default: the one that the policy was trained against, the first one of a mixture.",
)
@click.option("--seed", default=0, show_default=True, help="Seed of the evaluation episodes.")
@click.option(
    "--episode",
    default=0,
    show_default=True,
    help="Number among them: the one that evaluate, with this seed, plays against this attacker.",
)
@click.option("--max-steps", default=100, show_default=True, help="Length of the episode.")
@click.option(
    "--greedy/--sampled",
    default=None,
    help="Take the most probable action, or sample as in training; default: as the policy's run scored it.",
)
@click.option("--simulator", help="native or cyborg; default: the one the policy was trained on.")
@click.option("--rules", help="2.1 or leaderboard; default: those the policy was trained by.")
@click.option(
    "--workflow",
    metavar="ORDER",
    help="Order that a policy of train --universal is told; default: the best one of its run.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The page; default: replay.html in the run's directory, or here for a policy file.",
)
@click.pass_context
def replay_command(context: click.Context, /, path: Path, **plan: Any) -> None:
    """Write a page that shows an episode. Step by step: the attack, and how a policy answers it.

    \b
    Examples:
      workflow-rl replay runs/2026-11-23-101500-seed0
      workflow-rl replay answer/B_lineAgent --red-agent RedMeanderAgent --seed 3 --output attack.html
      workflow-rl replay defender-2.1
    """
    from workflow_rl.replay import job

    context.exit(job.replay(path, job.ReplayPlan(**plan)))


@main_group.command("report")
@click.argument("paths", type=click.Path(path_type=Path), nargs=-1, required=True, metavar="RUN_DIR...")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The page, with a directory of its charts as PNGs beside it; default: report.html in the directory "
    "of a single run, or here for several.",
)
@click.pass_context
def report_command(context: click.Context, /, paths: tuple[Path, ...], output: Path | None) -> None:
    """Write a page about runs. It shows what they learnt, how fast and why, beside each other.

    \b
    Examples:
      workflow-rl report runs/2026-11-23-101500-seed0
      workflow-rl report short-run long-run --output comparison.html
    """
    from workflow_rl.report import job

    context.exit(job.report(paths, output))


@main_group.command("watch")
@click.argument("path", type=click.Path(path_type=Path), metavar="RUN_DIR")
@click.option("--once", is_flag=True, help="Show the run as it is now, and end.")
@click.pass_context
def watch_command(context: click.Context, /, path: Path, once: bool) -> None:
    """Follow a run from another terminal. Until it is over, or until Ctrl-C, which does not disturb it.

    \b
    Examples:
      workflow-rl watch runs/2026-11-23-101500-seed0
      workflow-rl watch --once answer
    """
    from rich.console import Console

    from workflow_rl.watch import watch

    context.exit(watch(path, once=once, console=Console()))


@main_group.command("export-onnx", context_settings=_HELP_OPTIONS)
@click.argument("path", type=click.Path(path_type=Path), metavar="RUN_DIR|POLICY_FILE|NAME")
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@click.option(
    "--workflow",
    metavar="ORDER",
    help="Order that a policy of train --universal is told; default: the best one of its run.",
)
@click.pass_context
def export_onnx_command(context: click.Context, /, path: Path, file: Path, workflow: str | None) -> None:
    """Write a policy's network as an ONNX file. Observations go in, logits and the best action come out.

    \b
    Examples:
      workflow-rl export-onnx defender-2.1 defender.onnx
    """
    from workflow_rl import onnx_export

    context.exit(onnx_export.export_onnx(path, file, workflow=workflow))


@main_group.command("baselines")
@click.option("--episodes", default=100, show_default=True, help="Episodes of each (at least 2).")
@click.option("--seed", default=0, show_default=True, help="Seed of the evaluation episodes.")
@click.option("--simulator", default="native", show_default=True, help="native or cyborg.")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), metavar="FILE", help="Write the scores here too."
)
@click.pass_context
def baselines_command(context: click.Context, /, **plan: Any) -> None:
    """Score policies that learnt nothing. Sleep, random, and greedy restoring in six hand-made orders.

    \b
    Example:
      workflow-rl baselines --episodes 1000 --json baselines.json
    """
    from workflow_rl import baseline_job

    context.exit(baseline_job.score_baselines(baseline_job.BaselinePlan(**plan)))


@main_group.command("doctor")
@click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the findings here too.",
)
@click.pass_context
def doctor_command(context: click.Context, /, json_file: Path | None) -> None:
    """Check what a run needs of this machine. Says how many workers to use.

    Exit code 1 if something is missing without which nothing runs.

    \b
    Examples:
      workflow-rl doctor
      workflow-rl doctor --json doctor.json
    """
    from rich.console import Console

    from workflow_rl import doctor
    from workflow_rl.bench.report import check_writable, write

    if json_file is not None:
        check_writable(json_file)
    diagnosis = doctor.diagnose()
    doctor.show(Console(), diagnosis)
    if json_file is not None:
        write(json_file, diagnosis.to_json())
    context.exit(0 if diagnosis.can_run else 1)


@main_group.group("bench", invoke_without_command=True)
@click.pass_context
def bench_group(context: click.Context) -> None:
    """Measure speed on this machine."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@bench_group.command("simulator")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), metavar="FILE", help="Write the report here too."
)
@click.option("--seconds", type=float, help="Time for each figure in each round.  [default: 0.5]")
@click.option("--quick", is_flag=True, help="One attacker, 0.02 s each, no compilation from scratch.")
@click.pass_context
def bench_simulator_command(
    context: click.Context, json_file: Path | None, seconds: float | None, quick: bool
) -> None:
    """Steps per second of the simulators. The native one and the reference, on one core.

    \b
    Example:
      workflow-rl bench simulator --quick
    """
    from workflow_rl.bench import simulator

    if seconds is None:
        seconds = 0.02 if quick else 0.5
    if not 0 < seconds < math.inf:
        raise SettingError(f"--seconds must be above 0, got {seconds}")
    context.exit(simulator.run(json_file=json_file, seconds=seconds, quick=quick))


@bench_group.command("collectors")
@click.option(
    "--regime",
    metavar="latency|reference|native",
    help="latency: steps that wait and use almost no CPU time. reference: csle-cyborg. native: ours.  "
    "[default: latency]",
)
@click.option("--env", help="Measure on a Gymnasium environment instead: an id, module:id or module:Class.")
@click.option(
    "--env-kwargs", default="{}", show_default=True, help="Its constructor's arguments, a JSON object."
)
@click.option("--sigma", type=float, help="latency: deviation of log step times.  [default: 0.5]")
@click.option("--mean-step-ms", type=float, help="latency: mean step time in milliseconds.  [default: 5.6]")
@click.option(
    "--reset-seconds", type=float, help="latency: mean time of a reset; they take 0.5 to 1.5 of it."
)
@click.option(
    "--step-times",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="latency: step times measured elsewhere, in seconds, separated by white space or commas.",
)
@click.option(
    "--sections",
    help="Of scaling (by number of workers), four (with Ray), causes (of the speed-up) and tails (of step "
    "times), separated by commas.  [default: all]",
)
@click.option(
    "--collector",
    multiple=True,
    help="Compare only this one, and others given the same way, with one environment alone; measures the "
    "section scaling unless --sections says otherwise.",
)
@click.option("--workers", help="Worker counts, separated by commas.  [default: 10,25,50,100]")
@click.option("--compare-at", type=click.IntRange(1), help="Workers of the section four.  [default: 25]")
@click.option("--lag", type=click.IntRange(0), default=2, show_default=True, help="Of executor and ray.")
@click.option(
    "--episodes-per-update",
    type=click.IntRange(1),
    help="Episodes of an update.  [default: as many as workers]",
)
@click.option("--rounds", type=click.IntRange(1), help="Turns of each system.  [default: 5]")
@click.option("--seconds", type=float, help="Counted in each turn, at least.  [default: 5]")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), metavar="FILE", help="Write the report here too."
)
@click.option(
    "--plots", type=click.Path(path_type=Path), metavar="DIR", help="Draw charts (PNG) into this directory."
)
@click.option("--quick", is_flag=True, help="Few workers, one short round: under two minutes.")
@click.pass_context
def bench_collectors_command(
    context: click.Context, /, json_file: Path | None, plots: Path | None, **options: Any
) -> None:
    """Compare the collectors. By number of workers, and where the speed-up comes from.

    \b
    Examples:
      workflow-rl bench collectors --sigma 1.25 --json collectors.json
      workflow-rl bench collectors --regime reference --workers 2,10
      workflow-rl bench collectors --env CartPole-v1 --workers 2
    """
    from workflow_rl.bench.plan import Options

    asked = Options(**options)
    regime, plan = asked.to_regime(), asked.to_plan()
    worker_context(preload_modules(regime.environment))  # loads what workers need, while torch loads here
    from workflow_rl.bench import collectors

    context.exit(collectors.run(regime, plan, json_file=json_file, plots=plots))


def train_program() -> NoReturn:
    """The train command as a program of its own."""
    _run(train_command)


def main() -> NoReturn:
    """The `workflow-rl` program."""
    _run(main_group)


def _run(command: click.Command) -> NoReturn:
    try:
        code = command.main(standalone_mode=False)
    except click.ClickException as error:
        _fail(error.format_message(), 2)
    except WorkflowRLError as error:
        _fail(str(error), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        sys.exit(EXIT_CODE)
    sys.exit(code)


def _fail(message: str, code: int) -> NoReturn:
    click.echo("error: " + " ".join(message.split()), err=True)
    sys.exit(code)
