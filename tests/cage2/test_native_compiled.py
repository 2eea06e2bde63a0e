"""Compiled and interpreted rules are the same, and compiled code is kept where that is possible."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import workflow_rl

PACKAGE = Path(workflow_rl.__file__).parent

PLAY_AND_HASH = """
import hashlib, warnings
import numpy as np
warnings.simplefilter("ignore", RuntimeWarning)  # numpy warns where 64-bit hashes wrap around, as they should
from workflow_rl.cage2.batch import observe_all, red_access_all, reset_all, step_all
from workflow_rl.cage2.scenario import RED_AGENTS
from workflow_rl.cage2.state import GameSettings, new_states

digest = hashlib.sha256()
for red_agent in RED_AGENTS:
    for rules, observation in (("2.1", "official"), ("leaderboard", "corrected")):
        memories = {"scan_memory": True, "decoy_memory": True, "recency_memory": True}
        settings = GameSettings(red_agent, 60, rules, observation, **memories)
        states = new_states(settings, 3)
        reset_all(states, np.arange(3).astype(np.uint64), np.ones(3, np.bool_))
        bits, access = np.zeros((3, settings.num_bits), np.int8), np.zeros((3, 13), np.int8)
        rewards, truncations = np.zeros(3), np.zeros(3, np.bool_)
        generator = np.random.default_rng(0)
        for _ in range(100):
            actions = generator.integers(145, size=3)
            step_all(states, actions, 1, rewards, truncations, bits, bits)
            red_access_all(states, access)
            for array in (bits, access, rewards, truncations):
                digest.update(array.tobytes())
print(digest.hexdigest())
"""


def run(code: str, root: Path = PACKAGE.parent, **environment: str) -> str:
    """What the code prints when the package is imported from `root`."""
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_interpreted_rules_give_the_same_bits():
    assert run(PLAY_AND_HASH, NUMBA_DISABLE_JIT="1") == run(PLAY_AND_HASH)


def copy_of_the_package(folder: Path) -> Path:
    shutil.copytree(PACKAGE, folder / "workflow_rl", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def test_it_runs_where_no_cache_can_be_written(tmp_path):
    root = copy_of_the_package(tmp_path)
    folders = [folder for folder in (root / "workflow_rl").rglob("*") if folder.is_dir()]
    for folder in (root / "workflow_rl", *folders):
        (folder / "__pycache__").write_text("a file where numba wants a folder")
    code = "from workflow_rl.cage2.host_set import size\nprint(size(0b1011), size.stats.cache_path)"
    printed = run(code, root, HOME=os.devnull, XDG_CACHE_HOME=f"{os.devnull}/cache")
    assert printed == "3 None\n"


def test_a_change_in_another_file_makes_compiled_code_stale(tmp_path):
    root = copy_of_the_package(tmp_path)
    code = (
        "import numpy as np\n"
        "from workflow_rl.cage2.batch import red_access_all\n"
        "from workflow_rl.cage2.state import GameSettings, new_states\n"
        "access = np.zeros((1, 13), np.int8)\n"
        "red_access_all(new_states(GameSettings(), 1), access)\n"
        "print(access.sum(), sum(red_access_all.stats.cache_hits.values()))"
    )
    before = [run(code, root), run(code, root)]
    with (root / "workflow_rl" / "rollout.py").open("a") as not_imported:
        not_imported.write("# one line more\n")
    before.append(run(code, root))
    changed = root / "workflow_rl" / "cage2" / "observation.py"
    changed.write_text(changed.read_text().replace("else NO_ACCESS", "else USER_ACCESS"))
    assert [*before, run(code, root)] == ["0 0\n", "0 1\n", "0 1\n", "13 0\n"]
