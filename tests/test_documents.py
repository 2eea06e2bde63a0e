"""What the documents show is what there is: every command line parses, and what guides show runs."""

from __future__ import annotations

import inspect
import itertools
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from documents import CHECKOUT, Block, blocks, spans

from workflow_rl.cli import main_group
from workflow_rl.settings import (
    DefenderTrainSettings,
    EnvironmentTrainSettings,
    FullSearchSettings,
    TrainSettings,
)

TRAIN_PROGRAMS = ("workflow_rl/executor_async_train_workflow_rl.py", "run_executor_async_training.sh")
"""Programs of the command `train` alone; Python's or bash's first argument."""

SHELL = ("bash", "")
"""Languages of blocks with commands; indented blocks have none, and show commands that take long."""

IS_ASSIGNMENT = re.compile(r"[A-Z_]+=")
"""A variable that is set for one command."""

SETTINGS = {
    kind.command: kind
    for kind in (TrainSettings, EnvironmentTrainSettings, DefenderTrainSettings, FullSearchSettings)
}


def arguments_of(words: list[str]) -> list[str] | None:
    """The arguments of `workflow-rl` that a command line comes to; `None` if it is of another program."""
    program, *arguments = itertools.dropwhile(IS_ASSIGNMENT.match, words)
    if Path(program).name == "workflow-rl":
        return arguments
    if arguments and arguments[0] in TRAIN_PROGRAMS:
        return ["train", *arguments[1:]]
    return None


def shown() -> Iterator[tuple[str, list[str]]]:
    """Where documents and help texts show what call of `workflow-rl`; three dots stand for more options."""
    for block in blocks():
        for words in block.commands() if block.language in SHELL else ():
            if (arguments := arguments_of(words)) is not None:
                yield str(block), [word for word in arguments if word != "..."]
    yield from examples(main_group)


def examples(command: click.Command) -> Iterator[tuple[str, list[str]]]:
    """The examples in the help text of a command and of those below it."""
    for line in inspect.cleandoc(command.help or "").splitlines():
        if line.startswith("  workflow-rl "):
            yield f"workflow-rl {command.name} --help", shlex.split(line)[1:]
    for part in command.commands.values() if isinstance(command, click.Group) else ():
        yield from examples(part)


def command_of(arguments: list[str]) -> tuple[click.Command, list[str]]:
    """The command that is called, and what is left for it."""
    command: click.Command = main_group
    rest = list(arguments)
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        name = rest.pop(0)
        assert name in command.commands, f"there is no command {name}"
        command = command.commands[name]
    return command, rest


def parse(arguments: list[str]) -> None:
    """Read a call as the program would, up to where it would begin to work."""
    command, rest = command_of(arguments)
    try:
        context = command.make_context(command.name, rest)
    except click.exceptions.Exit:  # --help, --version
        return
    if kind := SETTINGS.get(command.name or ""):
        values = {name: value for name, value in context.params.items() if name in kind.names()}
        kind.from_flat({name: value for name, value in values.items() if value is not None})


CALLS = list(shown())
NAMED = list(spans())


@pytest.mark.parametrize(
    ("place", "arguments"), CALLS, ids=[f"{place} {' '.join(words)}" for place, words in CALLS]
)
def test_every_command_line_parses(place: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CHECKOUT)
    parse(arguments)


@pytest.mark.parametrize(
    ("place", "words"), NAMED, ids=[f"{place} {' '.join(words)}" for place, words in NAMED]
)
def test_commands_and_options_that_sentences_name_exist(place: str, words: list[str]) -> None:
    command, rest = command_of(words[1:])
    known = {name for option in command.get_params(click.Context(command)) for name in option.opts}
    assert {word for word in rest if word.startswith("--")} <= known


def test_the_search_for_commands_finds_some() -> None:
    places = {place.split(":")[0] for place, _ in CALLS}
    assert {"README.md", "docs/search.md", "docs/performance.md", "docs/tutorial.md"} <= places
    assert "workflow-rl evaluate --help" in places
    assert len(CALLS) >= 30


def test_an_unknown_flag_does_not_parse() -> None:
    with pytest.raises(click.NoSuchOption):
        parse(["train", "--n-wrokers", "3"])
    with pytest.raises(AssertionError, match="no command"):
        parse(["trian"])


# Running them

MADE_BEFORE = ("demo-run", "demo-run-cyborg")
"""Runs that a document may speak of without showing how they are made."""

SHORTER = {
    "train": "--total-episodes 40 --episodes-per-update 20 --max-episodes-per-workflow 20 "
    "--evaluation-episodes 2 --n-workers 2",
    "search": "--total-episodes 40 --episodes-per-update 20 --max-episodes-per-workflow 20 --n-workers 2 "
    "--evaluation-episodes 2 --unbound-episodes 20 --confirmed-orders 1 --confirmation-episodes 2",
    "train-env": "--total-steps 2000 --evaluation-episodes 2",
    "train-defender": "--total-episodes 40 --episodes-per-update 20 --validation-episodes 2 --n-workers 2",
    "evaluate": "--episodes 2 --n-workers 2",
    "baselines": "--episodes 2",
}
"""What makes a call short; an option given twice has the later value. A resumed run has its own settings."""

SHORTER_PYTHON = {
    '"CartPole-v1", n_workers=2)': '"CartPole-v1", n_workers=2, total_steps=2000)',
}
"""What stands in a program, and what takes its place."""

STOPPED = "train --n-workers 2 --total-episodes 2000 --run-dir stopped-run"
"""A call that the document stops with Ctrl-C."""

NOT_RUN = {
    "bash run_tests.sh": "the tests themselves; tests/test_scripts.py starts the script",
    ".ci/run": "all of the tests",
    "pip install": "marker packaging installs",
    "ray ": "needs several machines; marker ray starts clusters",
    "export ": "the same",
    "workflow-rl train --collector ray": "the same",
    "workflow-rl bench": "marker benchmarks runs it in short",
    "workflow-rl train-env --config examples/lunarlander.toml": "needs Box2D; marker learning trains it",
}
"""Beginnings of commands that are not run here, and why."""

PROGRAM = [sys.executable, "-c", "from workflow_rl.cli import main; main()"]


def guides() -> list[Path]:
    """Documents with a fenced block of commands or of Python."""
    found = (block.document for block in blocks() if block.language in ("bash", "python"))
    return list(dict.fromkeys(found))


def in_short(arguments: list[str]) -> list[str]:
    """A call, and what makes it short."""
    return arguments if "--resume" in arguments else [*arguments, *SHORTER.get(arguments[0], "").split()]


def run(command: list[str], directory: Path) -> None:
    done = subprocess.run(
        command,
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=300,
        env=environment(directory),
    )
    assert done.returncode == 0, f"{command}: {done.stdout[-1000:]}{done.stderr[-2000:]}"


def environment(directory: Path) -> dict[str, str]:
    """Modules of a guide are found in its directory."""
    import_path = [str(directory), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(import_path), "OMP_NUM_THREADS": "1"}


def run_until_interrupted(arguments: list[str], directory: Path) -> None:
    """Stop a training with Ctrl-C after its first update."""
    command = [*PROGRAM, *arguments]
    with subprocess.Popen(
        command, cwd=directory, stdout=subprocess.DEVNULL, env=environment(directory)
    ) as process:
        log = directory / arguments[-1] / "training_log.csv"
        while not (log.exists() and log.read_text().count("\n") > 1):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
    assert process.returncode == 130


def run_commands(block: Block, directory: Path) -> None:
    for words in block.commands():
        arguments = arguments_of(words)
        if any(" ".join(words).startswith(beginning) for beginning in NOT_RUN):
            continue
        assert arguments is not None, f"{block} shows {words}: run it in this test, or say in NOT_RUN why not"
        if " ".join(arguments) == STOPPED:
            run_until_interrupted(arguments, directory)
        else:
            run([*PROGRAM, *in_short(arguments)], directory)


def run_python(block: Block, directory: Path) -> None:
    """Run a program as somebody would type it in, or as the module that its guide makes of it."""
    program = block.text
    for long, short in SHORTER_PYTHON.items():
        program = program.replace(long, short)
    if module := re.match(r"# (\w+\.py)\n", program):
        (directory / module[1]).write_text(program)
        run([sys.executable, module[1]], directory)
    else:
        run([sys.executable, "-c", program], directory)


@pytest.fixture(scope="module")
def made_before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    for name in MADE_BEFORE:
        run([*PROGRAM, *in_short(["train", "--run-dir", name])], folder)
    return folder


@pytest.mark.documents
@pytest.mark.parametrize("document", guides(), ids=str)
def test_what_a_document_shows_runs(document: Path, made_before: Path, tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(CHECKOUT / "examples")
    text = (CHECKOUT / document).read_text()
    for name in MADE_BEFORE:
        if not re.search(rf"--run-dir {name}\s", text):
            shutil.copytree(made_before / name, tmp_path / name)
    for block in blocks():
        if block.document == document and block.language == "bash":
            run_commands(block, tmp_path)
        elif block.document == document and block.language == "python":
            run_python(block, tmp_path)
