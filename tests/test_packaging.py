"""The package as others get it: built, installed into an empty environment, used far from the checkout."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.packaging

CHECKOUT = Path(__file__).parents[1]

SMOKE_TEST = """
import gymnasium
import workflow_rl as wrl

policy = wrl.load_policy("run")
environment = gymnasium.make("workflow_rl/Cage2-v0")
observation, _ = environment.reset(seed=0)
action, _ = policy.predict(observation, deterministic=True)
environment.step(action)
assert "site-packages" in wrl.__file__, wrl.__file__
"""

TINY = "--total-episodes 10 --episodes-per-update 5 --evaluation-episodes 2 --max-steps 4 --n-workers 2"


def run(*command: str | Path, directory: Path) -> str:
    done = subprocess.run(list(map(str, command)), cwd=directory, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was made of it."""
    folder = tmp_path_factory.mktemp("built")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, CHECKOUT, directory=folder)
    return folder


def wheel_of(folder: Path) -> Path:
    (wheel,) = folder.glob("*.whl")
    return wheel


def test_the_wheel_holds_every_file_of_the_package(built: Path) -> None:
    tracked = set(run("git", "ls-files", "workflow_rl", directory=CHECKOUT).splitlines())
    with zipfile.ZipFile(wheel_of(built)) as wheel:
        packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
        information = {Path(name).name for name in wheel.namelist() if ".dist-info/" in name}
    assert packed == tracked
    assert {"LICENSE", "METADATA", "entry_points.txt"} <= information


def test_the_source_distribution_names_its_licence_and_its_story(built: Path) -> None:
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as source:
        names = {name.partition("/")[2] for name in source.getnames()}
    assert {"LICENSE", "README.md", "pyproject.toml", "workflow_rl/py.typed"} <= names


def test_it_works_in_an_empty_environment(built: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "environment", with_pip=True)
    programs = tmp_path / "environment" / ("Scripts" if sys.platform == "win32" else "bin")
    constraints = CHECKOUT / "constraints.txt"
    install = ("-m", "pip", "install", "--quiet", "--constraint", constraints, wheel_of(built))
    run(programs / "python", *install, directory=tmp_path)
    program = programs / "workflow-rl"
    assert run(program, "--version", directory=tmp_path).startswith("workflow-rl, version ")
    assert "ready to train" in run(program, "doctor", directory=tmp_path)
    assert "done: 10 episodes" in run(program, "train", "--run-dir", "run", *TINY.split(), directory=tmp_path)
    run(program, "replay", "run", "--output", "replay.html", directory=tmp_path)
    run(programs / "python", "-c", SMOKE_TEST, directory=tmp_path)
