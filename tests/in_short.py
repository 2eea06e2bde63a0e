"""Runs a command that a document shows, made short.

    python in_short.py workflow-rl train --total-episodes 100000

trains for a few episodes: of an option given twice the later value holds, so the command line stays as
it is shown, and has more at its end. `test_running_documents.py` puts this in the place of the programs.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

_LEARN = "--total-episodes 40 --episodes-per-update 20 --n-workers 2"
_TRAIN = f"{_LEARN} --max-episodes-per-workflow 20 --evaluation-episodes 2"
_ORDER = "defender,enterprise,op_server,op_host,user"
_TIMED = "--quick --rounds 1 --seconds 0.2 --workers 2 --compare-at 2 --episodes-per-update 2"

MORE_ARGUMENTS = {
    "workflow-rl train": _TRAIN,
    "workflow-rl search": f"{_TRAIN} --unbound-episodes 20 --confirmed-orders 1 --confirmation-episodes 2",
    "workflow-rl train-env": "--total-steps 2000 --evaluation-episodes 2",
    "workflow-rl train-defender": f"{_LEARN} --validation-episodes 2",
    "workflow-rl evaluate": "--episodes 2 --n-workers 2",
    "workflow-rl baselines": "--episodes 2",
    "workflow-rl bench collectors --sections": _TIMED,
    "workflow-rl bench collectors": f"{_TIMED} --sections scaling",
    "workflow-rl doctor": "",
    "workflow-rl export-onnx": "",
    "workflow-rl replay": "",
    "workflow-rl report": "",
    "workflow-rl watch": "",
    "python -c": "",
    "python workflow_rl/executor_async_train_workflow_rl.py": _TRAIN,
    "python benchmarks/alignment.py": "--quick --scheme lagrangian --order balanced",
    "python benchmarks/cluster.py": "--quick",
    "python benchmarks/collection.py": "--quick",
    "python benchmarks/ablation.py": "--quick",
    "python benchmarks/defender_ablation.py": "--quick",
    "python benchmarks/defender_curve.py": "",
    "python benchmarks/ground_truth.py": f"--quick --table t.csv --red-agent B_lineAgent --order {_ORDER}",
    "python benchmarks/lag.py": "--quick",
    "python benchmarks/latency.py": "--quick",
    "python benchmarks/live_search.py": "--quick --strategy random:1 --red-agent B_lineAgent",
    "python benchmarks/rivals/compare.py": "--quick --systems workflow-rl",
    "python benchmarks/rivals/table.py": "",
    "python benchmarks/search_regret.py": "--quick",
    "python benchmarks/stop_rules.py": "--quick",
    "python benchmarks/update.py": "--quick",
}
"""By the first words of a command, the first that fit; nothing where it is short as it is."""

INTERRUPTED = ("workflow-rl train --n-workers 2 --total-episodes 2000 --run-dir stopped-run",)
"""Commands that their document stops with Ctrl-C."""

_PROGRAMS = {
    "python": [sys.executable],
    "workflow-rl": [sys.executable, "-c", "from workflow_rl.cli import main; main()"],
}


def made_short(words: Sequence[str]) -> list[str]:
    """The words of a command with those that make it short; a resumed run keeps its own settings."""
    if " ".join(words) in INTERRUPTED or "--resume" in words:
        return list(words)
    for beginning, more in MORE_ARGUMENTS.items():
        if [*words[: len(beginning.split())]] == beginning.split():
            return [*words, *more.split()]
    sys.exit(f"{' '.join(words)}: {Path(__file__).name} does not say what makes it short")


def run_until_interrupted(command: Sequence[str], directory: Path) -> int:
    """Stop a training with Ctrl-C after its first update; 0 if it ended as it then should."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a script's background jobs ignore it, as would theirs
    with subprocess.Popen(command) as process:
        log = directory / "training_log.csv"
        while not (log.exists() and log.read_text().count("\n") > 1):
            if process.poll() is not None:
                return 1
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
    return 0 if process.returncode == 130 else 1


def main() -> None:
    words = sys.argv[1:]
    program, *arguments = made_short(words)
    command = [*_PROGRAMS[program], *arguments]
    if " ".join(words) in INTERRUPTED:
        sys.exit(run_until_interrupted(command, Path(words[-1])))
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
