"""What the documents show is what there is: every command line parses, and what guides show runs."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import click
import pytest
from documents import CHECKOUT, blocks, spans

from workflow_rl.cli import main_group, train_command
from workflow_rl.settings import EnvironmentTrainSettings, FullSearchSettings, TrainSettings

TRAIN_PROGRAMS = ("workflow_rl/executor_async_train_workflow_rl.py", "run_executor_async_training.sh")
"""Programs of the command `train` alone; Python's or bash's first argument."""

SHELL = ("bash", "")
"""Languages of blocks with commands; indented blocks have none, and show commands that take long."""

SETTINGS = {kind.command: kind for kind in (TrainSettings, EnvironmentTrainSettings, FullSearchSettings)}


def arguments_of(words: list[str]) -> list[str] | None:
    """The arguments of `workflow-rl` that a command line comes to; `None` if it is of another program."""
    program, *arguments = words
    if Path(program).name == "workflow-rl":
        return arguments
    if arguments and arguments[0] in TRAIN_PROGRAMS:
        return ["train", *arguments[1:]]
    return None


def shown() -> Iterator[tuple[str, list[str]]]:
    """Where documents and help texts show what call of `workflow-rl`."""
    commands = [
        (str(block), words) for block in blocks() if block.language in SHELL for words in block.commands()
    ]
    for place, words in chain(commands, spans(), examples(main_group)):
        arguments = arguments_of(words)
        if arguments is not None and not is_only_named(arguments):
            yield place, [_filled_in(word) for word in arguments if word != "..."]


def examples(command: click.Command) -> Iterator[tuple[str, list[str]]]:
    """The examples in the help text of a command and of those below it."""
    for line in inspect.cleandoc(command.help or "").splitlines():
        if line.startswith("  workflow-rl "):
            yield f"workflow-rl {command.name} --help", shlex.split(line)
    for part in command.commands.values() if isinstance(command, click.Group) else ():
        yield from examples(part)


def is_only_named(arguments: list[str]) -> bool:
    """A sentence may name a command without all that it takes."""
    return len(arguments) <= 2 and not any(word.startswith("-") for word in arguments)


def _filled_in(word: str) -> str:
    """A single capital letter stands for a number."""
    return "1" if len(word) == 1 and word.isupper() else word


def parse(arguments: list[str]) -> None:
    """Read a call as the program would, up to where it would begin to work."""
    command: click.Command = main_group
    while isinstance(command, click.Group):
        if not arguments:
            return
        name, *arguments = arguments
        if name == "--version":
            return
        assert name in command.commands, f"there is no command {name}"
        command = command.commands[name]
    try:
        context = command.make_context(command.name, list(arguments))
    except click.exceptions.Exit:  # --help
        return
    if kind := SETTINGS.get(command.name or ""):
        given = {name: value for name, value in context.params.items() if name != "resume"}
        kind.from_flat({name: value for name, value in given.items() if value is not None})


CALLS = list(shown())


@pytest.mark.parametrize(
    ("place", "arguments"), CALLS, ids=[f"{place} {' '.join(words)}" for place, words in CALLS]
)
def test_every_command_line_parses(place: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CHECKOUT)
    parse(arguments)


def test_the_search_for_commands_finds_some() -> None:
    places = {place.split(":")[0] for place, _ in CALLS}
    assert {"README.md", "docs/search.md", "docs/performance.md", "docs/cluster.md"} <= places
    assert "workflow-rl evaluate --help" in places
    assert len(CALLS) >= 30


def test_an_unknown_flag_does_not_parse() -> None:
    with pytest.raises(click.NoSuchOption):
        parse(["train", "--n-wrokers", "3"])
    with pytest.raises(AssertionError, match="no command"):
        parse(["trian"])
    assert train_command.name == "train"
