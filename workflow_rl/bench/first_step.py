"""A process that takes its first step: `python -m workflow_rl.bench.first_step`.

Prints a JSON object of instants of the system-wide monotonic clock, which the process that started this one
compares with its own. Where the compiled code is looked for and kept is decided by NUMBA_CACHE_DIR.
"""

from __future__ import annotations

import json
import sys
import time


def main() -> None:
    """Import, step the Gymnasium environment once, play one compiled episode."""
    from workflow_rl.cage2.env import Cage2Env
    from workflow_rl.compiled_rollout import compile_player

    instants = {"imported": time.monotonic()}
    environment = Cage2Env()
    environment.reset(seed=0)
    environment.step(0)
    instants["stepped"] = time.monotonic()
    compile_player()
    instants["played"] = time.monotonic()
    sys.stdout.write(json.dumps(instants) + "\n")


if __name__ == "__main__":
    main()
