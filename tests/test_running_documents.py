"""What the documents show runs: every command, made short by `in_short.py`, and every program.

A document's blocks run in a directory of their own, in the order in which they stand, so that a later command
finds the runs of an earlier one; then the commands that its sentences name. A shell reads them as they are
shown.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import in_short
import pytest
from documents import CHECKOUT, DOCUMENTS, Block, blocks, spans

from workflow_rl.cli import main_group

MADE_BEFORE = ("demo-run", "demo-run-cyborg")
"""Runs that a document may speak of without showing how they are made."""

NOT_RUN = {
    "bash run_tests.sh": "the tests themselves; tests/test_scripts.py starts the script",
    ".ci/run": "all of the tests",
    "pytest": "tests",
    "pip install": "marker packaging installs",
    "ray ": "needs several machines; marker ray starts clusters on this one",
    "export RAY_AUTH_MODE": "the same",
    "workflow-rl train --collector ray --ray-address auto": "the same",
    "workflow-rl train --resume RUN_DIR": "speaks of any run",
    "python benchmarks/rivals/sac_discrete.py": "installs TorchRL; marker rivals runs it",
    "python benchmarks/rivals/table.py REPORT.json ...": "speaks of any report",
}
"""Beginnings of commands that are not run here, and why."""

SHORTER_PYTHON = {
    '"CartPole-v1", n_workers=2)': '"CartPole-v1", n_workers=2, total_steps=2000)',
}
"""What stands in a program, and what takes its place."""


def is_call(span: Block) -> bool:
    """Whether a sentence shows what to type in; a command's or a script's name alone only speaks of it."""
    return not re.fullmatch(r"workflow-rl [a-z-]+( collectors| simulator)?|python \S+", span.text)


def shown_in(document: Path) -> list[Block]:
    """Commands and programs of a document, in the order in which they run."""
    found = [*blocks(), *filter(is_call, spans())]
    return [block for block in found if block.document == document and block.language in ("bash", "python")]


SHOWN = {document: shown for document in DOCUMENTS if (shown := shown_in(document))}


def lines_to_run(block: Block) -> list[str]:
    return [line for line in block.lines() if not line.lstrip().startswith(tuple(NOT_RUN))]


def test_exceptions_are_shown() -> None:
    lines = [line for shown in SHOWN.values() for block in shown for line in block.lines()]
    for beginning in (*NOT_RUN, *in_short.MORE_ARGUMENTS, *in_short.INTERRUPTED, *SHORTER_PYTHON):
        assert any(beginning in line for line in lines), f"no document shows {beginning} any more"


def test_every_command_can_be_made_short() -> None:
    commands = [
        shlex.split(line, comments=True)
        for shown in SHOWN.values()
        for block in shown
        if block.language == "bash"
        for line in lines_to_run(block)
    ]
    programs = [words for words in commands if words[:1] in (["workflow-rl"], ["python"])]
    assert len(programs) >= 70
    for words in programs:
        in_short.made_short(words)  # or it exits
    with pytest.raises(SystemExit, match="does not say what makes it short"):
        in_short.made_short(["python", "benchmarks/new.py"])


def test_of_an_option_given_twice_the_later_value_holds() -> None:
    shorter = in_short.made_short(["workflow-rl", "evaluate", "demo-run", "--episodes", "1000"])
    assert shorter[:5] == ["workflow-rl", "evaluate", "demo-run", "--episodes", "1000"]
    assert main_group.commands["evaluate"].make_context("evaluate", shorter[2:]).params["episodes"] == 2


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the programs that documents call."""
    directory = tmp_path_factory.mktemp("programs")
    for name in ("workflow-rl", "python"):
        write_program(directory / name, f'exec "{sys.executable}" "{in_short.__file__}" {name} "$@"')
    return directory


def write_program(file: Path, line: str) -> None:
    file.write_text(f"#!/bin/sh\n{line}\n")
    file.chmod(0o755)


@pytest.fixture(scope="module")
def made_before(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("made")
    for name in MADE_BEFORE:
        run(["workflow-rl", "train", "--run-dir", name], directory, programs)
    return directory


@pytest.fixture
def place(programs: Path, tmp_path: Path) -> Path:
    """A directory that has of a checkout what commands speak of, and nothing that they could spoil."""
    for name in ("examples", "workflow_rl"):
        (tmp_path / name).symlink_to(CHECKOUT / name)
    for name in ("benchmarks", "docs/figures"):
        shutil.copytree(CHECKOUT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "bin").symlink_to(programs)
    write_program(tmp_path / "run_executor_async_training.sh", 'exec workflow-rl train "$@"')
    return tmp_path


def run(command: list[str], directory: Path, programs: Path) -> None:
    """Run a command; modules of a guide are found in its directory."""
    import_path = [str(directory), *filter(None, [os.environ.get("PYTHONPATH")])]
    variables = {
        **os.environ,
        "PATH": os.pathsep.join([str(programs), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join(import_path),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, timeout=600, env=variables, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stdout[-1000:]}{done.stderr[-2000:]}"


def run_commands(block: Block, directory: Path, programs: Path) -> None:
    """Run what a shell is shown, up to its first failure."""
    run(["bash", "-euo", "pipefail", "-c", "\n".join(lines_to_run(block))], directory, programs)


def run_program(block: Block, directory: Path, programs: Path) -> None:
    """Run a program as somebody would type it in, or as the module that its guide makes of it."""
    program = block.text
    for long, short in SHORTER_PYTHON.items():
        program = program.replace(long, short)
    module = re.match(r"# (\w+\.py)\n", program)
    if module:
        (directory / module[1]).write_text(program)
    run([sys.executable, module[1]] if module else [sys.executable, "-c", program], directory, programs)


@pytest.mark.documents
@pytest.mark.parametrize("document", SHOWN, ids=str)
def test_what_a_document_shows_runs(document: Path, programs: Path, made_before: Path, place: Path) -> None:
    text = (CHECKOUT / document).read_text()
    for name in MADE_BEFORE:
        if name in text and not re.search(rf"--run-dir {name}\s", text):
            shutil.copytree(made_before / name, place / name)
    for block in SHOWN[document]:
        (run_commands if block.language == "bash" else run_program)(block, place, programs)
