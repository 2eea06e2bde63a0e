"""Watching shows a run of another process as it goes on, disturbs nothing, and ends when the run does."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from program import call
from rich.console import Console

from workflow_rl.compiled_rollout import compile_player
from workflow_rl.run_directory import LOCK, RunDirectory, is_going_on
from workflow_rl.run_log import read_training_log
from workflow_rl.watch import watch

PROGRAM = (sys.executable, "-c", "from workflow_rl.cli import main; main()")
TINY = (
    "--episodes-per-update=10",
    "--evaluation-episodes=2",
    "--hidden-size=8",
    "--max-steps=10",
    "--collector=sequential",
)
ENDLESS = ("--total-episodes=10000000", "--max-episodes-per-workflow=10000000", "--stop-rule=budget")
PATIENCE_SECONDS = 110.0


@contextmanager
def started(*arguments: str | Path, **streams: int) -> Iterator[subprocess.Popen[str]]:
    """`workflow-rl` in a process of its own."""
    process = subprocess.Popen([*PROGRAM, *map(str, arguments)], text=True, **streams)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for_update(run: Path, number: int = 1) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (run / "training_log.csv").exists() or len(read_training_log(run)) < number:
        assert time.monotonic() < deadline, "no update in time"
        time.sleep(0.05)


def read_until(terminal: int, text: bytes) -> None:
    """Read what a program writes to its terminal until it has written a text."""
    output = b""
    while text not in output:
        ready, _, _ = select.select([terminal], [], [], PATIENCE_SECONDS)
        assert ready, f"not in time; until then {output!r}"
        output += os.read(terminal, 65536)


def seen(run: Path) -> str:
    """What `--once` shows."""
    console = Console(width=160)
    with console.capture() as capture:
        assert watch(run, once=True, console=console) == 0
    return capture.get()


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """SIGINT reaches programs that a test starts, also where a script runs the tests in the background.

    Shells have such jobs ignore it, and programs inherit that unless there is a handler here.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
def test_a_run_of_another_process_is_followed(tmp_path: Path) -> None:
    compile_player()  # before any clock runs: where it has yet to be done, a busy machine takes minutes
    run = tmp_path / "run"
    master, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (40, 200))  # no line is broken
    output = io.StringIO()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with (
        ThreadPoolExecutor() as pool,
        started("train", f"--run-dir={run}", *TINY, *ENDLESS, **quiet) as trainer,
    ):
        wait_for_update(run)
        assert is_going_on(run)
        assert re.search(r"run: workflow-rl train, going on, last update 0:00:0\d ago", seen(run))
        follower = pool.submit(watch, run, once=False, console=Console(file=output, width=160))
        with started("watch", run, stdout=terminal, stderr=terminal) as on_terminal:
            read_until(master, b"going on")
            read_until(master, b"going on")  # it looks again
            on_terminal.send_signal(signal.SIGINT)
            assert on_terminal.wait(PATIENCE_SECONDS) == 0
        assert not follower.done()
        wait_for_update(run, len(read_training_log(run)) + 1)  # the run takes no notice
        trainer.send_signal(signal.SIGINT)
        assert follower.result(PATIENCE_SECONDS) == 0
        trainer.wait(PATIENCE_SECONDS)
    os.close(master)
    os.close(terminal)
    assert not is_going_on(run)
    last = read_training_log(run)[-1]
    shown = " ".join(output.getvalue().split())
    assert "stopped; workflow-rl train --resume" in shown
    assert f"(update {last.update}, {last.episodes} episodes)" in shown
    assert f"{last.total_episodes}/10000000" in shown


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "finished"
    options = ("--total-episodes=60", "--max-episodes-per-workflow=20", "--compliance-threshold=0")
    assert call("train", f"--run-dir={run}", *TINY, *options) == 0
    return run


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of a finished run."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


def test_a_finished_run_is_shown_at_once(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("watch", run) == 0
    out = capsys.readouterr().out
    assert "complete" in out
    assert re.search(r"orders\s+2 trained, 2 kept to", out)
    assert "60/60" in out
    assert "time left" not in out
    assert out.endswith("\n")


def test_a_run_that_has_yet_to_make_its_first_update(run: Path) -> None:
    for name in ("training_log.csv", "search_log.csv", "ranking.csv", "summary.json"):
        (run / name).unlink()
    with (run / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as a run holds it
        shown = seen(run)
    assert re.search(
        r"run: workflow-rl train, going on, started \d+:\d+:\d+ ago\nno update has been made", shown
    )


def test_a_complete_run_is_over_whoever_holds_its_directory(run: Path) -> None:
    """For all that is known somebody always does, where there are no locks."""
    console = Console(file=io.StringIO(), width=160)
    with RunDirectory.resume(run):
        assert is_going_on(run)
        assert watch(run, once=False, console=console) == 0


def test_files_that_are_being_written_are_read_up_to_there(run: Path) -> None:
    """Whatever the log has been cut to, whole rows are shown and nothing is refused."""
    (run / "summary.json").unlink()
    log = run / "training_log.csv"
    content = log.read_bytes()
    for length in (0, 1, 50, len(content) // 2, len(content) - 1, len(content)):
        log.write_bytes(content[:length])
        rows = read_training_log(run)
        shown = seen(run)
        assert "stopped" in shown
        assert ("time left" in shown) == bool(rows)
        assert (f"{rows[-1].total_episodes}/60" if rows else "no update has been made yet") in shown


def test_a_run_that_was_killed_is_over(run: Path) -> None:
    (run / "summary.json").unlink()
    (run / "lock").touch()  # a lock that nobody holds
    assert "stopped; workflow-rl train --resume" in seen(run)


def test_a_search_shows_the_run_that_goes_on_and_a_line_for_each_other(run: Path, tmp_path: Path) -> None:
    answer = tmp_path / "answer"
    answer.mkdir()
    settings = (run / "config.json").read_text()
    (answer / "config.json").write_text(settings.replace("{", '{"attackers": "B_lineAgent",', 1))
    shutil.copytree(run, answer / "B_lineAgent")
    time.sleep(0.02)
    run.rename(answer / "RedMeanderAgent")
    (answer / "RedMeanderAgent/training_log.csv").touch()
    (answer / "RedMeanderAgent/summary.json").unlink()
    shown = seen(answer)
    lines = [line.strip() for line in shown.splitlines()]
    assert lines[0].endswith("B_lineAgent: workflow-rl train, complete")
    assert "RedMeanderAgent: workflow-rl train, stopped; workflow-rl search --resume" in " ".join(lines)
    assert sum("environment reward" in line for line in lines) == 1


def test_any_environment(tmp_path: Path) -> None:
    run = tmp_path / "cart"
    settings = ("--env=CartPole-v1", "--total-steps=300", "--steps-per-update=60", f"--run-dir={run}")
    assert call("train-env", *settings, "--hidden-size=8", "--collector=sequential") == 0
    shown = seen(run)
    assert re.search(r"return\s+\d+\.\d\d  \(update \d+, \d+ episodes\)", shown)
    assert re.search(r"steps .*\d{3}/300", shown)


def test_a_defender_whose_beginnings_take_episodes_too(tmp_path: Path) -> None:
    run = tmp_path / "defender"
    settings = ("--total-episodes=40", "--beginnings=3", "--beginning-share=0.2", "--lag=0")
    sizes = ("--episodes-per-update=8", "--validation-episodes=2", "--max-steps=5", "--hidden-size=8")
    assert call("train-defender", f"--run-dir={run}", *settings, *sizes, "--collector=sequential") == 0
    (run / "summary.json").unlink()
    shown = seen(run)
    assert re.search(r"episodes .*56/56", shown), "three beginnings of 8 episodes, and the other 32"
    assert re.search(r"time left\s+0:00:00", shown)


def test_bad_input_is_one_line(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("file").touch()
    (run / "search_log.csv").write_text("nonsense\n")
    wrong = {"nowhere": "no directory", "file": "no directory", "empty": "no run", "run": "search_log.csv"}
    for path, complaint in wrong.items():
        capsys.readouterr()
        assert call("watch", path) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert complaint in line
