"""The start-up scripts: what they install, when, with which Python, and what they hand on.

Nothing is downloaded. The scripts run in a copy of the checkout, with a `python3` on the path that notes in a
diary when it is asked to run venv, pip, pytest or a linter, and is the real Python in all else.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).resolve().parent.parent
MAIN_JOB = "run_executor_async_training.sh"
TESTS = "run_tests.sh"
ENVIRONMENT = "scripts/environment.sh"
CHECKS = ".ci/run"
SCRIPTS = (MAIN_JOB, TESTS, ENVIRONMENT, CHECKS)

DIARY_PYTHON = f"""#!/usr/bin/env bash
note() {{ echo "$*" >>"$DIARY"; }}
case "$*" in
"-m venv"*)
    note "venv"
    mkdir -p "${{@: -1}}/bin"
    cp "$0" "${{@: -1}}/bin/python" ;;
"-m pip --version") ;;
"-m pip "*)
    note "install ${{@: -1}}"
    mkdir "$DIARY.busy" || note "two at once"
    sleep "${{PIP_SECONDS:-0}}"
    rmdir "$DIARY.busy"
    [ "${{PIP_IS:-}}" != killed ] || kill -9 $PPID
    [ "${{PIP_IS:-}}" != failing ] ;;
"-m pytest"* | "-m mkdocs"* | "-m ruff"* | "-m mypy"*)
    note "${{*:2}}"
    [[ "$*" != "-m ${{FAILING:-nothing}}"* ]] || exit 5 ;;
*)
    exec "{sys.executable}" "$@" ;;
esac
"""

SHOWS_ITS_ARGUMENTS = """
import json, os, sys
print(json.dumps({"arguments": sys.argv[1:], "directory": os.getcwd()}))
"""


class Checkout:
    """A copy of the project's scripts, and the place where they are started from."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "a checkout"  # the space is part of the test
        self.programs = directory / "bin"
        self.diary = directory / "diary"
        self.elsewhere = directory / "elsewhere"
        for folder in (self.root / "scripts", self.root / ".ci", self.programs, self.elsewhere):
            folder.mkdir(parents=True)
        for name in (*SCRIPTS, "pyproject.toml", "constraints.txt"):
            shutil.copy(PROJECT / name, self.root / name)
        self.diary.touch()

    def add_program(self, name: str, text: str) -> None:
        (self.programs / name).write_text(text)
        (self.programs / name).chmod(0o755)

    def use_program(self, name: str) -> None:
        found = shutil.which(name)
        assert found, f"{name} is not on this machine"
        (self.programs / name).symlink_to(found)

    def start(
        self, script: str, *arguments: str, path: str | None = None, **variables: str
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", str(self.root / script), *arguments],
            cwd=self.elsewhere,
            env={
                **os.environ,
                "PATH": path or f"{self.programs}{os.pathsep}{os.environ['PATH']}",
                "DIARY": str(self.diary),
                **variables,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(
        self, script: str, *arguments: str, path: str | None = None, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        process = self.start(script, *arguments, path=path, **variables)
        output, errors = process.communicate(timeout=60)
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    def take_diary(self) -> list[str]:
        """What was noted since the last call."""
        lines = self.diary.read_text().splitlines()
        self.diary.write_text("")
        return lines


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    checkout = Checkout(tmp_path)
    checkout.add_program("python3", DIARY_PYTHON)
    for name in ("chromium", "chromedriver"):
        checkout.add_program(name, "#!/bin/sh\n")  # there is nothing to install
    program = checkout.root / "workflow_rl/executor_async_train_workflow_rl.py"
    program.parent.mkdir()
    program.write_text(SHOWS_ITS_ARGUMENTS)
    return checkout


@pytest.fixture
def bare_checkout(tmp_path: Path) -> Checkout:
    """A checkout on a machine with nothing but bash and the few programs the scripts use."""
    checkout = Checkout(tmp_path)
    for name in ("bash", "cat", "dirname"):
        checkout.use_program(name)
    return checkout


def python_of_version(version: str) -> str:
    """The text of a program that is this Python but for the version it reports."""
    pretend = (
        f"import sys, platform; sys.version_info = {tuple(map(int, version.split('.')))}; "
        f"platform.python_version = lambda: '{version}'; exec(sys.argv[1])"
    )
    return f'#!{shutil.which("bash")}\nexec "{sys.executable}" -c "{pretend}" "$2"\n'


@pytest.mark.parametrize("script", SCRIPTS)
def test_bash_accepts_every_script(script: str) -> None:
    subprocess.run(["bash", "-n", PROJECT / script], check=True)


@pytest.mark.parametrize("script", SCRIPTS)
def test_shellcheck_finds_nothing(script: str) -> None:
    places = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    shellcheck = shutil.which("shellcheck", path=places)
    if shellcheck is None:
        pytest.skip("shellcheck is not installed; the extra 'test' brings it")
    found = subprocess.run(
        [shellcheck, "--external-sources", "--source-path=SCRIPTDIR", PROJECT / script],
        capture_output=True,
        text=True,
    )
    assert found.stdout == ""
    assert found.returncode == 0


class TestChoiceOfPython:
    @pytest.mark.parametrize("script", [MAIN_JOB, TESTS])
    def test_an_old_python_is_one_line_and_exit_code_2(self, bare_checkout: Checkout, script: str) -> None:
        bare_checkout.add_program("python3", python_of_version("3.9.18"))
        ended = bare_checkout.run(script, path=str(bare_checkout.programs))
        assert ended.returncode == 2
        assert ended.stderr == f"{script}: Python 3.11 or newer is needed, but python3 is 3.9.18\n"
        assert ended.stdout == ""
        assert not (bare_checkout.root / ".venv").exists()

    def test_no_python_is_one_line_and_exit_code_2(self, bare_checkout: Checkout) -> None:
        ended = bare_checkout.run(MAIN_JOB, path=str(bare_checkout.programs))
        assert ended.returncode == 2
        assert ended.stderr == f"{MAIN_JOB}: Python 3.11 or newer is needed, but python3 is not there\n"

    def test_a_newer_python_is_found_beside_an_old_python3(self, checkout: Checkout) -> None:
        checkout.add_program("python3", python_of_version("3.9.18"))
        checkout.add_program(
            "python3.11", "#!/usr/bin/env bash\nexit 127\n"
        )  # as a version manager's shim does
        checkout.add_program("python3.12", DIARY_PYTHON)
        assert checkout.run(MAIN_JOB).returncode == 0
        assert "venv" in checkout.take_diary()

    def test_an_environment_of_an_old_python_is_left_to_the_user(self, checkout: Checkout) -> None:
        python = checkout.root / ".venv/bin/python"
        python.parent.mkdir(parents=True)
        python.write_text(python_of_version("3.10.1"))
        python.chmod(0o755)
        ended = checkout.run(MAIN_JOB)
        assert ended.returncode == 2
        assert f"{checkout.root}/.venv holds 3.10.1; delete it" in ended.stderr
        assert checkout.take_diary() == []

    def test_an_environment_whose_python_is_gone_is_made_anew(self, checkout: Checkout) -> None:
        checkout.run(MAIN_JOB)
        checkout.take_diary()
        (checkout.root / ".venv/bin/python").unlink()
        assert checkout.run(MAIN_JOB).returncode == 0
        assert checkout.take_diary()[0] == "venv"


class TestInstallation:
    def test_the_first_start_installs_and_says_so_in_one_line(self, checkout: Checkout) -> None:
        ended = checkout.run(MAIN_JOB)
        assert checkout.take_diary() == ["venv", "install setuptools", "install .[cyborg,report]"]
        assert len(ended.stderr.splitlines()) == 1
        assert f"installing into {checkout.root}/.venv" in ended.stderr

    def test_a_second_start_installs_nothing(self, checkout: Checkout) -> None:
        checkout.run(MAIN_JOB)
        checkout.take_diary()
        ended = checkout.run(MAIN_JOB)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert checkout.take_diary() == []

    def test_the_tests_add_their_tools_and_the_main_job_keeps_them(self, checkout: Checkout) -> None:
        checkout.run(MAIN_JOB)
        checkout.take_diary()
        checkout.run(TESTS)
        assert checkout.take_diary() == [
            "install setuptools",
            "install .[box2d,cyborg,ray,figures,report,docs,mlflow,onnx,trackio,wandb,test]",
            "pytest",
        ]
        checkout.run(MAIN_JOB)
        assert checkout.take_diary() == []

    @pytest.mark.parametrize("name", ["constraints.txt", "pyproject.toml"])
    def test_a_changed_lock_installs_anew(self, checkout: Checkout, name: str) -> None:
        checkout.run(MAIN_JOB)
        checkout.take_diary()
        with (checkout.root / name).open("a") as file:
            file.write("# one line more\n")
        checkout.run(MAIN_JOB)
        assert checkout.take_diary() == ["install setuptools", "install .[cyborg,report]"]

    def test_a_moved_checkout_installs_anew(self, checkout: Checkout) -> None:
        checkout.run(MAIN_JOB)
        checkout.take_diary()
        checkout.root = checkout.root.rename(checkout.root.with_name("moved"))
        checkout.run(MAIN_JOB)
        assert "install .[cyborg,report]" in checkout.take_diary()

    def test_a_failed_installation_ends_the_start_and_is_repeated(self, checkout: Checkout) -> None:
        ended = checkout.run(MAIN_JOB, PIP_IS="failing")
        assert ended.returncode == 1
        assert ended.stdout == ""
        assert "the installation failed" in ended.stderr
        checkout.take_diary()
        assert checkout.run(MAIN_JOB).returncode == 0
        assert checkout.take_diary() == ["install setuptools", "install .[cyborg,report]"]

    def test_a_killed_installation_is_repeated(self, checkout: Checkout) -> None:
        checkout.run(MAIN_JOB)
        checkout.run(TESTS, PIP_IS="killed")
        checkout.take_diary()
        assert checkout.run(MAIN_JOB).returncode == 0
        assert checkout.take_diary() == ["install setuptools", "install .[cyborg,report]"]

    def test_two_starts_at_once_install_once_and_both_go_on(self, checkout: Checkout) -> None:
        starts = [checkout.start(MAIN_JOB, PIP_SECONDS="0.5") for _ in range(2)]
        errors = [start.communicate(timeout=60)[1] for start in starts]
        assert [start.returncode for start in starts] == [0, 0]
        assert checkout.take_diary() == ["venv", "install setuptools", "install .[cyborg,report]"]
        assert sum("waiting for it" in text for text in errors) == 1


class TestWhatIsHandedOn:
    def test_flags_are_handed_on(self, checkout: Checkout) -> None:
        ended = checkout.run(MAIN_JOB, "--n-workers", "2", "--run-dir", "a run")
        received = json.loads(ended.stdout)
        assert received["arguments"] == ["--n-workers", "2", "--run-dir", "a run"]
        assert received["directory"] == str(checkout.elsewhere)

    def test_arguments_of_the_tests_reach_pytest(self, checkout: Checkout) -> None:
        checkout.run(TESTS, "-m", "fidelity")
        assert checkout.take_diary()[-1] == "pytest -m fidelity"

    def test_pytests_exit_code_is_the_scripts(self, checkout: Checkout) -> None:
        assert checkout.run(TESTS).returncode == 0
        assert checkout.run(TESTS, FAILING="pytest").returncode == 5


class TestRealProgram:
    @pytest.fixture
    def installed(self, tmp_path: Path) -> Checkout:
        checkout = Checkout(tmp_path)
        checkout.add_program("python3", DIARY_PYTHON)
        (checkout.root / "workflow_rl").symlink_to(PROJECT / "workflow_rl")
        return checkout

    def test_help_lists_the_flags(self, installed: Checkout) -> None:
        ended = installed.run(MAIN_JOB, "--help")
        assert ended.returncode == 0
        assert "--episodes-per-update" in ended.stdout

    def test_a_flag_reaches_the_parser(self, installed: Checkout) -> None:
        ended = installed.run(MAIN_JOB, "--n-workers", "0")
        assert ended.returncode == 2
        assert "--n-workers must be at least 1, got 0" in ended.stderr.splitlines()[-1]


class TestChecks:
    def test_all_checks_run_and_pass(self, checkout: Checkout) -> None:
        ended = checkout.run(CHECKS)
        assert ended.returncode == 0
        use = "documents or packaging or loggers -o faulthandler_timeout=0"
        markers = ["benchmarks", "browser", use]
        tests = ["pytest", *(f"pytest -m {marker}" for marker in markers)]
        linters = ["ruff check .", "ruff format --check .", "mypy"]
        assert checkout.take_diary()[-8:] == [*tests, "mkdocs build --quiet --strict", *linters]
        assert ended.stdout.endswith("all checks passed\n")

    @pytest.mark.parametrize(
        ("failing", "names"),
        [
            ("pytest", ["tests", "benchmarks", "pages", "use"]),
            ("pytest -m", ["benchmarks", "pages", "use"]),
            ("pytest -m browser", ["pages"]),
            ("pytest -m documents", ["use"]),
            ("mkdocs", ["documentation"]),
            ("ruff check", ["ruff check"]),
            ("ruff format", ["ruff format"]),
            ("mypy", ["mypy"]),
        ],
    )
    def test_one_failing_check_fails_them_all(
        self, checkout: Checkout, failing: str, names: list[str]
    ) -> None:
        ended = checkout.run(CHECKS, FAILING=failing)
        assert ended.returncode == 1
        last_lines = ended.stdout.splitlines()[-len(names) :]
        assert last_lines == [f"FAILED: {name} (exit code 5)" for name in names]
        assert checkout.take_diary()[-1] == "mypy"


def test_every_package_of_the_environment_is_pinned_within_its_range() -> None:
    pins = dict(
        line.split("==") for line in (PROJECT / "constraints.txt").read_text().splitlines() if "==" in line
    )
    pins = {canonicalize_name(name): version for name, version in pins.items()}
    for requirement in required_packages():
        name = canonicalize_name(requirement.name)
        assert name in pins, f"{requirement} has no pin"
        assert requirement.specifier.contains(pins[name], prereleases=True), (
            f"{requirement}, pinned {pins[name]}"
        )


def required_packages() -> list[Requirement]:
    """What the project and its extras need, and what that needs in turn, as far as it is installed here."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    waiting = [Requirement(text) for text in (*project["dependencies"], *chain(*extras.values()))]
    found: dict[str, Requirement] = {}
    while waiting:
        requirement = waiting.pop()
        if str(requirement) in found or is_left_to_torch(requirement):
            continue
        found[str(requirement)] = requirement
        waiting += requirements_of(requirement.name)
    return list(found.values())


def requirements_of(name: str) -> list[Requirement]:
    try:
        needed = [Requirement(text) for text in requires(name) or []]
    except PackageNotFoundError:
        return []
    return [item for item in needed if item.marker is None or item.marker.evaluate({"extra": ""})]


def is_left_to_torch(requirement: Requirement) -> bool:
    return re.match(r"nvidia-|cuda-|triton", requirement.name) is not None
