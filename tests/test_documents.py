"""What the documents show is what there is: every call of `workflow-rl` parses, with its options."""

from __future__ import annotations

import inspect
import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from documents import CHECKOUT, blocks, spans

from workflow_rl.cli import main_group
from workflow_rl.settings import (
    DefenderTrainSettings,
    EnvironmentTrainSettings,
    FullSearchSettings,
    TrainSettings,
)

TRAIN_PROGRAMS = ("workflow_rl/executor_async_train_workflow_rl.py", "run_executor_async_training.sh")
"""Programs of the command `train` alone; Python's or bash's first argument."""

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
        for words in block.commands() if block.language == "bash" else ():
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
NAMED = [(str(span), shlex.split(span.text)) for span in spans() if span.text.startswith("workflow-rl ")]


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
