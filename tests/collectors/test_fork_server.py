"""What workers find when they start: the learner's main module, loaded once for all of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import os
from pathlib import Path

import gymnasium

with Path("imports").open("a") as file:
    file.write(f"{os.getpid()}\\n")
gymnasium.register("InScript-v0", "gymnasium.envs.classic_control.cartpole:CartPoleEnv", max_episode_steps=5)

from workflow_rl.cli import main
"""
GUARDED = 'if __name__ == "__main__":\n    main()\n'
UNGUARDED = "main()\n"
AS_A_LIBRARY = """
import workflow_rl

workflow_rl.train_env("InScript-v0", n_workers=3, total_steps=200, run_dir="run")
"""
ARGUMENTS = [
    "train-env",
    "--env",
    "InScript-v0",
    "--n-workers",
    "3",
    "--total-steps",
    "200",
    "--run-dir",
    "run",
]


def run_script(directory: Path, ending: str) -> subprocess.CompletedProcess[str]:
    """Train with three workers from a script that registers the environment."""
    (directory / "script.py").write_text(SCRIPT + ending)
    return subprocess.run(
        [sys.executable, "script.py", *ARGUMENTS],
        cwd=directory,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_script_is_imported_once_for_all_workers(tmp_path: Path) -> None:
    run = run_script(tmp_path, GUARDED)
    assert run.returncode == 0, run.stderr
    assert len((tmp_path / "imports").read_text().split()) == 2  # by itself and by the fork server


@pytest.mark.parametrize("ending", [UNGUARDED, AS_A_LIBRARY])
def test_a_script_without_a_guard_ends_with_an_error(tmp_path: Path, ending: str) -> None:
    run = run_script(tmp_path, ending)
    assert run.returncode != 0
    assert "if __name__ == '__main__'" in run.stderr
    assert "already holds a run" not in run.stderr, "it has begun anew in a worker"
