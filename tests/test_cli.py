"""The command line: three ways to start one parser, configuration files, and one line for every mistake."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import click
import psutil
import pytest
from awkward_environments import specification
from program import TINY, Program

from workflow_rl import cli, main_job, train_job
from workflow_rl.episode import EnvironmentSpec
from workflow_rl.run_log import read_training_log
from workflow_rl.settings import TrainSettings

SCRIPT = Path(cli.__file__).with_name("executor_async_train_workflow_rl.py")
MODULE = "workflow_rl.executor_async_train_workflow_rl"

# Bad input

BAD_SETTINGS = {
    "--red-agent=GreenAgent": "SleepAgent, mixture, all-three, got GreenAgent",
    "--simulator=minicage": "one of native, cyborg, got minicage",
    "--rules=3.0": "one of 2.1, leaderboard, got 3.0",
    "--workflow=user,user,op_server,op_host,defender": "'user,user,op_server,op_host,defender': expected",
    "--workflow=printer": "each of defender, enterprise, op_server, op_host, user once",
    "--workflow=": "each of defender, enterprise, op_server, op_host, user once",
    "--n-workers=0": "--n-workers must be at least 1, got 0",
    "--n-workers=-2": "--n-workers must be at least 1, got -2",
    "--n-workers=many": "'many' is not a valid integer",
    "--total-episodes=0": "--total-episodes must be at least 1, got 0",
    "--episodes-per-update=-1": "--episodes-per-update must be at least 1, got -1",
    "--max-episodes-per-workflow=0": "--max-episodes-per-workflow must be at least 1, got 0",
    "--patience-updates=0": "--patience-updates must be at least 1, got 0",
    "--evaluation-episodes=1": "--evaluation-episodes must be at least 2, got 1",
    "--max-steps=0": "--max-steps must be at least 1, got 0",
    "--max-steps=1.5": "'1.5' is not a valid integer",
    "--compliance-threshold=1.5": "--compliance-threshold must be at least 0 and at most 1, got 1.5",
    "--compliance-threshold=-0.1": "--compliance-threshold must be at least 0 and at most 1, got -0.1",
    "--compliance-threshold=nan": "--compliance-threshold must be",
    "--alignment-lambda=-1": "--alignment-lambda must be at least 0, got -1",
    "--alignment=bribe": "one of violation, rate, lagrangian, mask, mask-lagrangian, none, got bribe",
    "--compliance=strict": "one of reachable, any-session, got strict",
    "--learning-rate=0": "--learning-rate must be above 0, got 0",
    "--discount=1.01": "--discount must be at least 0 and at most 1, got 1.01",
    "--lag=-1": "--lag must be at least 0, got -1",
    "--collector=dask": "got dask",
    "--seed=-1": "--seed must be at least 0",
    "--seed=18446744073709551616": "got 18446744073709551616",
    "--device=abacus": "abacus",
    "--no-such-flag": "--no-such-flag",
    "unexpected": "unexpected extra argument (unexpected)",
}


@pytest.mark.parametrize(("argument", "complaint"), BAD_SETTINGS.items())
def test_a_bad_setting_is_one_line_and_writes_nothing(
    program: Program, tmp_path: Path, argument: str, complaint: str
) -> None:
    outcome = program("train", argument)
    assert outcome.code == 2
    assert outcome.complaint.startswith("error: ")
    assert complaint in outcome.complaint
    assert outcome.out == ""
    assert list(tmp_path.iterdir()) == []


EXCLUDING = {
    "--simulator=cyborg --rules=leaderboard": (
        "--rules leaderboard needs --simulator native: the reference has no such setting"
    ),
    "--executor=thread --episode-timeout=5": (
        "--episode-timeout 5 needs --executor process: nothing ends a thread"
    ),
    "--executor=thread --simulator=cyborg": (
        "--executor thread cannot play the reference simulator, which draws from random generators that all "
        "threads of a process share; take --executor process"
    ),
    "--universal --workflow=user,op_server,op_host,enterprise,defender": (
        "--universal trains all orders and --workflow one: take one of the two"
    ),
}


@pytest.mark.parametrize(("arguments", "complaint"), EXCLUDING.items())
def test_settings_that_exclude_each_other(
    program: Program, tmp_path: Path, arguments: str, complaint: str
) -> None:
    outcome = program("train", *arguments.split())
    assert (outcome.code, outcome.complaint) == (2, f"error: {complaint}")
    assert list(tmp_path.iterdir()) == []


def test_a_run_directory_that_cannot_be_made(program: Program, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for place in ("file", "file/run"):
        outcome = program("train", *TINY, "--run-dir", place)
        assert outcome.code == 2
        assert outcome.complaint.startswith(f"error: cannot write {place}: ")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "mine"


def test_a_run_directory_that_holds_a_run(program: Program, tmp_path: Path) -> None:
    assert program("train", *TINY, "--run-dir", "run").code == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    outcome = program("train", *TINY, "--run-dir", "run", "--seed", "1")
    assert outcome.code == 2
    assert outcome.complaint == "error: run already holds a run; use --resume run or another --run-dir"
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("place", ["nowhere", "."])
def test_resuming_a_directory_without_a_run(program: Program, tmp_path: Path, place: str) -> None:
    outcome = program("train", "--resume", place)
    assert outcome.code == 2
    assert outcome.complaint == f"error: {place} holds no run to go on with: it has no config.json"
    assert list(tmp_path.iterdir()) == []


def test_resuming_a_complete_run(program: Program) -> None:
    assert program("train", *TINY, "--run-dir", "run").code == 0
    outcome = program("train", "--resume", "run")
    assert outcome.code == 2
    assert "the run in run is complete" in outcome.complaint


def test_an_unknown_command(program: Program) -> None:
    outcome = program("trian")
    assert outcome.code == 2
    assert "No such command 'trian'" in outcome.complaint


def test_the_reference_simulator_is_an_extra(tmp_path: Path) -> None:
    without = "import sys; sys.modules['csle_cyborg'] = None; from workflow_rl.cli import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", without, "train", "--simulator", "cyborg", "--run-dir", "run"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert "not installed: pip install 'workflow-rl[cyborg]'" in line
    assert list(tmp_path.iterdir()) == []


# Failures while running


def train_in(monkeypatch: pytest.MonkeyPatch, environment: EnvironmentSpec) -> None:
    """Let the main job play another environment."""
    for module in (train_job, main_job):
        monkeypatch.setattr(module, "cage2_environment", lambda settings: environment)


@pytest.mark.parametrize("collector", ["sequential", "synchronous", "executor"])
@pytest.mark.parametrize("where", ["reset", "step"])
def test_an_environment_that_raises(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, collector: str, where: str
) -> None:
    train_in(monkeypatch, specification("Failing", where=where))
    given = (f"--collector={collector}", "--n-workers=1", "--run-dir=run", "--seed=6")
    outcome = program("train", *TINY, *given)
    assert outcome.code == 1
    assert f"Failing-v0 raised OSError: lost the licence server in {where} while playing" in outcome.complaint
    assert "episode 0 (run seed 6, workflow " in outcome.complaint
    assert "policy version 0); the worker's traceback is in run/error.log" in outcome.complaint
    log = (tmp_path / "run" / "error.log").read_text()
    assert "Traceback (most recent call last):" in log
    assert 'awkward_environments.py", line' in log


def test_a_constructor_that_raises(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_in(monkeypatch, specification("Failing", where="constructor"))
    outcome = program("train", *TINY, "--run-dir=run")
    assert outcome.code == 2
    assert outcome.complaint.endswith(
        "Failing-v0 cannot be made: OSError: lost the licence server in constructor"
    )
    assert list(tmp_path.iterdir()) == []


def test_an_environment_that_ends_its_workers(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    train_in(monkeypatch, specification("Faulty", fault="exits"))
    outcome = program("train", *TINY, "--collector=executor", "--n-workers=2", "--run-dir=run")
    assert outcome.code == 1
    assert re.search(
        r"episode \d+ \(run seed 0, workflow \d+, policy version 0\) failed 3 times", outcome.complaint
    )
    assert "its worker ended with exit code 3" in outcome.complaint


# Starting


def help_of(*command: str | Path, directory: Path) -> list[str]:
    """The lines of a program's help after the first paragraph, which names the program."""
    ended = subprocess.run(
        [*map(str, command), "--help"],
        cwd=directory,
        env={**os.environ, "COLUMNS": "100"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stderr == ""
    lines = ended.stdout.splitlines()
    assert lines[0].startswith("Usage: ")
    return lines[lines.index("") :]


def test_one_parser_serves_all_three_ways_to_start(tmp_path: Path) -> None:
    console_script = Path(sys.executable).with_name("workflow-rl")
    expected = help_of(console_script, "train", directory=tmp_path)
    assert help_of(sys.executable, SCRIPT, directory=tmp_path) == expected
    assert help_of(sys.executable, "-m", MODULE, directory=SCRIPT.parents[1]) == expected


def test_help_names_every_setting_with_its_default(program: Program) -> None:
    text = " ".join(program("train", "--help").out.split())
    for name in (*TrainSettings().to_flat(), "resume", "config"):
        assert f"--{name.replace('_', '-')}" in text
    assert "[default: 100000]" in text
    assert "B_lineAgent|RedMeanderAgent|SleepAgent|mixture" in text


@pytest.mark.parametrize(("group", "listed"), [([], "evaluate"), (["bench"], "collectors")])
def test_without_a_command_there_is_a_list_of_them(program: Program, group: list[str], listed: str) -> None:
    outcome = program(*group)
    assert (outcome.code, outcome.err) == (0, "")
    assert f"\n  {listed} " in outcome.out
    assert "..." not in outcome.out.partition("Commands:")[2], "each is described in a line"


def test_version(program: Program) -> None:
    outcome = program("--version")
    assert (outcome.code, outcome.out) == (0, f"workflow-rl, version {version('workflow-rl')}\n")


def test_help_and_mistakes_load_no_torch(program: Program, tmp_path: Path) -> None:
    assert program("train", *TINY, "--run-dir", "complete").code == 0
    mistakes = (
        ["train", "--no-such-flag"],
        ["train", "--resume", "nowhere"],
        ["train", "--resume", "complete"],
    )
    code = (
        "import sys; from workflow_rl import cli\ntry: cli.main()\nfinally: assert 'torch' not in sys.modules"
    )
    for arguments, expected in ((["train", "--help"], 0), *((mistake, 2) for mistake in mistakes)):
        ended = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, check=False, cwd=tmp_path
        )
        assert ended.returncode == expected


def test_a_run_without_a_directory_gets_one(program: Program, tmp_path: Path) -> None:
    outcome = program("train", *TINY, "--seed", "4")
    (made,) = (tmp_path / "runs").iterdir()
    assert made.name.endswith("-seed4")
    assert f"results in runs/{made.name}" in outcome.out
    assert outcome.err == ""


# Settings from files


def config_of(run: Path) -> dict[str, object]:
    config: dict[str, object] = json.loads((run / "config.json").read_text())
    return config


def test_the_last_of_a_repeated_flag_wins(program: Program) -> None:
    assert "--lag must be at least 0, got -3" in program("train", "--lag=1", "--lag=-3").complaint
    assert "--workflow" in program("train", "--lag=-3", "--lag=1", "--workflow=printer").complaint


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("settings.toml", 'max_steps = 3\nseed = 8\nhorizon = "end"\nnormalize-advantages = false\n'),
        (
            "settings.json",
            '{"max_steps": 3, "seed": 8, "horizon": "end", "normalize-advantages": false, "workflow": null}',
        ),
    ],
)
def test_a_file_sets_what_the_command_line_does_not(
    program: Program, tmp_path: Path, name: str, content: str
) -> None:
    (tmp_path / name).write_text(content)
    outcome = program("train", *TINY, "--run-dir=run", "--config", name, "--seed=9")
    assert outcome.code == 0
    config = config_of(tmp_path / "run")
    assert (config["seed"], config["max_steps"]) == (9, 4), "given on the command line"
    assert (config["horizon"], config["normalize_advantages"]) == ("end", False), "given in the file"
    assert config["discount"] == 0.99, "given nowhere"


def test_the_config_of_a_run_repeats_it(program: Program, tmp_path: Path) -> None:
    assert program("train", *TINY, "--run-dir=first", "--seed=3", "--learning-rate=0.0123").code == 0
    assert program("train", "--config=first/config.json", "--run-dir=second").code == 0
    assert {**config_of(tmp_path / "second"), "run_dir": "first"} == config_of(tmp_path / "first")
    weights = [json.loads((tmp_path / run / "summary.json").read_text()) for run in ("first", "second")]
    assert weights[0]["weights_sha256"] == weights[1]["weights_sha256"]


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("settings.toml", "n_wrokers = 3", "unknown setting 'n_wrokers'"),
        ("settings.toml", "n_workers = 0", "--n-workers must be at least 1, got 0"),
        ("settings.toml", 'n_workers = "many"', "--n-workers must be a whole number, got 'many'"),
        ("settings.toml", "n_workers = 2.5", "--n-workers must be a whole number, got 2.5"),
        ("settings.toml", "n_workers = [1]", "--n-workers must be a whole number, got [1]"),
        ("settings.toml", "n_workers = ", "--config settings.toml: "),
        ("settings.toml", "[search]\nlag = 1", "unknown setting 'search'"),
        ("settings.json", "{", "--config settings.json: "),
        ("settings.json", "[1]", "--config settings.json: "),
        ("settings.json", '{"red_agent": "Nobody"}', "got Nobody"),
    ],
)
def test_a_bad_file_is_one_line_and_writes_nothing(
    program: Program, tmp_path: Path, name: str, content: str, complaint: str
) -> None:
    (tmp_path / name).write_text(content)
    outcome = program("train", "--config", name)
    assert outcome.code == 2
    assert complaint in outcome.complaint
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_file_that_is_not_there(program: Program) -> None:
    outcome = program("train", "--config", "nowhere.toml")
    assert outcome.code == 2
    assert outcome.complaint.startswith("error: --config nowhere.toml cannot be read: No such file")


def test_resuming_says_which_flags_it_ignores(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert program("train", *TINY, "--run-dir=run").code == 0
    (tmp_path / "run" / "summary.json").unlink()
    outcome = program("train", "--resume=run", "--seed=5", "--lag=0", "--n-workers=1")
    assert outcome.code == 0
    assert outcome.complaint == "resuming with the run's own settings; not changed: lag, seed"
    assert config_of(tmp_path / "run")["seed"] == 0


# Ctrl-C


@dataclass
class Started:
    """A run in a session of its own, as on a terminal."""

    process: subprocess.Popen[str]
    path: Path

    def others(self) -> list[psutil.Process]:
        """All other processes of the session that still run."""
        return [
            process
            for process in psutil.process_iter()
            if process.pid != self.process.pid and _session(process) == self.process.pid
        ]

    def settled_workers(self) -> list[psutil.Process]:
        """The workers that have begun to yield to the learner, which they do last before they play."""
        learner = psutil.Process(self.process.pid).nice()
        return [process for process in self.others() if process.nice() > learner]

    def is_alone(self) -> bool:
        """Whether all other processes of the session end, within two seconds."""
        deadline = time.monotonic() + 2.0
        while self.others() and time.monotonic() < deadline:
            time.sleep(0.05)
        return not self.others()

    def interrupt(self) -> None:
        os.killpg(self.process.pid, signal.SIGINT)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60.0
        while not condition():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)


def _session(process: psutil.Process) -> int | None:
    """The session of a process, `None` if it has ended."""
    try:
        return None if process.status() == psutil.STATUS_ZOMBIE else os.getsid(process.pid)
    except (ProcessLookupError, psutil.NoSuchProcess):
        return None


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Started]]:
    started: list[Started] = []

    def run(*flags: str) -> Started:
        path = tmp_path / "run"
        command = [sys.executable, str(SCRIPT), "--n-workers=2", f"--run-dir={path}", *flags]
        process = subprocess.Popen(
            command, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(Started(process, path))
        return started[-1]

    yield run
    for one in started:
        for process in one.others():
            process.kill()
        one.process.kill()
        one.process.communicate()


def test_one_ctrl_c_finishes_the_update_and_writes_everything(start: Callable[..., Started]) -> None:
    run = start("--episodes-per-update=20", "--max-steps=10")
    log = run.path / "training_log.csv"
    run.wait_until(lambda: log.exists() and len(log.read_text().splitlines()) > 3)
    run.interrupt()
    out, err = run.process.communicate(timeout=30.0)
    assert run.process.returncode == 130
    assert err == ""
    assert "interrupted: " in out
    assert run.is_alone()
    summary = json.loads((run.path / "summary.json").read_text())
    assert summary["is_complete"] is False
    assert summary["episodes"] == read_training_log(run.path)[-1].total_episodes
    assert list((run.path / "policies").glob("interrupted-*"))


def test_a_second_ctrl_c_stops_at_once(start: Callable[..., Started]) -> None:
    run = start("--simulator=cyborg", "--episodes-per-update=1000")
    run.wait_until(lambda: len(run.settled_workers()) == 2)
    before = run.settled_workers()
    run.interrupt()
    time.sleep(1.0)
    assert run.process.poll() is None, "the update is not finished yet"
    assert run.settled_workers() == before, "workers leave Ctrl-C to the learner"
    run.interrupt()
    _, err = run.process.communicate(timeout=5.0)
    assert run.process.returncode == 130
    assert "Traceback" not in err
    assert run.is_alone()


def _commands(group: click.Group, name: str) -> Iterator[tuple[str, click.Command]]:
    for word, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _commands(command, f"{name} {word}")
        else:
            yield f"{name} {word}", command


@pytest.mark.parametrize(("name", "command"), list(_commands(cli.main_group, "workflow-rl")))
def test_every_command_shows_an_example_of_itself(name: str, command: click.Command) -> None:
    shown = command.get_help(click.Context(command, info_name=name, terminal_width=200)).splitlines()
    assert any(line.startswith(f"    {name} ") for line in shown)


def test_shells_complete_commands_options_and_values() -> None:
    def completed(words: str) -> str:
        program = "import sys; sys.argv = ['workflow-rl']; from workflow_rl.cli import main; main()"
        number = str(len(words.split()) - 1)
        asked = {"_WORKFLOW_RL_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": number}
        command = [sys.executable, "-c", program]
        return subprocess.run(command, env={**os.environ, **asked}, capture_output=True, text=True).stdout

    assert "plain,train-env\n" in completed("workflow-rl tr")
    assert completed("workflow-rl train --n-w") == "plain,--n-workers\n"
    assert completed("workflow-rl train --red-agent B") == "plain,B_lineAgent\n"
