"""A hook of mkdocs: the pages that are made from the code whenever the site is built.

    reference/commands.md    what `--help` of every command shows
    reference/settings.md    every setting with type, default and meaning, from the dataclasses of `settings`
    decisions/index.md       the titles of the decisions

and what a page in this folder needs to be one of the site: links that leave the folder lead somewhere in a
checkout only, and become plain text.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from workflow_rl.cli import main_group
from workflow_rl.settings import (
    DefenderTrainSettings,
    EnvironmentTrainSettings,
    FullSearchSettings,
    TrainSettings,
    allowed_values,
    flag,
    value_type,
)

_COMMANDS = (TrainSettings, FullSearchSettings, EnvironmentTrainSettings, DefenderTrainSettings)
_LEAVING = re.compile(r"(?<!!)\[([^\]]+)\]\(\.\./(?:\.\./)*(?:benchmarks|examples|workflow_rl|tests)/[^)]*\)")
_COLUMNS = 90


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    decisions = sorted((Path(config.docs_dir) / "decisions").glob("0*.md"))
    generated = {
        "reference/commands.md": commands_page(),
        "reference/settings.md": settings_page(),
        "decisions/index.md": decisions_page(decisions),
    }
    for place, content in generated.items():
        files.append(File.generated(config, place, content=content))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Keep the words of links that leave the documentation."""
    return _LEAVING.sub(r"\1", markdown)


def decisions_page(decisions: Sequence[Path]) -> str:
    """A list of links."""
    titles = {file.name: file.read_text().splitlines()[0].removeprefix("# ") for file in decisions}
    links = [f"- [{title}]({name})" for name, title in titles.items()]
    return "\n".join(
        [
            "# Decisions",
            "",
            "Why things are as they are, a page each: context, figures, decision.",
            "",
            *links,
            "",
        ]
    )


def commands_page() -> str:
    """The help text of every command."""
    parts = [
        "# Commands",
        "Exit codes: 0 done, 1 a failure while running, 2 bad input (one line says what to do), 130 "
        "interrupted by Ctrl-C, with everything written. `-h` is `--help`; `workflow-rl --version` tells the "
        "version.",
        "## Shell completion",
        "Commands, options and their values are completed once the shell knows how; put the line of yours "
        "into its start-up file:",
        '```bash\neval "$(_WORKFLOW_RL_COMPLETE=bash_source workflow-rl)"    # ~/.bashrc\n```',
        '```zsh\neval "$(_WORKFLOW_RL_COMPLETE=zsh_source workflow-rl)"     # ~/.zshrc\n```',
        "```fish\n_WORKFLOW_RL_COMPLETE=fish_source workflow-rl | source  # ~/.config/fish/config.fish\n```",
    ]
    for name, command in _commands(main_group, "workflow-rl"):
        context = click.Context(command, info_name=name, max_content_width=_COLUMNS, terminal_width=_COLUMNS)
        parts += [f"## {name}", f"```text\n{command.get_help(context)}\n```"]
    return "\n\n".join(parts) + "\n"


def _commands(group: click.Group, name: str) -> Iterator[tuple[str, click.Command]]:
    for word, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _commands(command, f"{name} {word}")
        else:
            yield f"{name} {word}", command


def settings_page() -> str:
    """A table for each group of settings, and which commands have it."""
    parts = [
        "# Settings",
        "Options of the commands, keys of `--config` files and of `config.json`, keyword arguments in "
        "Python: the same names everywhere, with `-` for `_` on the command line.",
        "Settings marked with ◦ change how a run goes and not what comes of it: they may differ when it is "
        "resumed, and the weights are the same.",
    ]
    commands: dict[type[Any], list[str]] = {}
    for settings in _COMMANDS:
        for group in settings.groups().values():
            commands.setdefault(group, []).append(f"`{settings.command}`")
    for group, names in commands.items():
        parts += [
            f"## {group.title}",
            f"{(group.__doc__ or '').strip()} Of {', '.join(names)}.",
            _table(group),
        ]
    return "\n\n".join(parts) + "\n"


def _table(group: type[Any]) -> str:
    rows = ["| option | allowed | default | meaning |", "| --- | --- | --- | --- |"]
    for item in dataclasses.fields(group):
        mark = "" if item.metadata["alters_results"] else " ◦"
        allowed = allowed_values(item).removeprefix("one of ")
        kind = "" if item.metadata["choices"] else value_type(group, item).__name__
        default = "" if item.default is None else f"`{item.default}`"
        words = " ".join(filter(None, (kind, allowed)))
        cells = (f"`{flag(item.name)}`{mark}", words, default, item.metadata["help"])
        rows.append("| " + " | ".join(cell.replace("|", "\\|").replace("<", "&lt;") for cell in cells) + " |")
    return "\n".join(rows)
