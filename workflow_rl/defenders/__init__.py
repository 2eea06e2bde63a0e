"""Trained defenders of CAGE Challenge 2 that come with the package, one for each set of rules.

    defender-2.1             by the rules of CybORG 2.1 as it is now
    defender-leaderboard     by those that the published leaderboard was scored by

`scripts/train_defenders.sh` made the files; their metadata hold the settings, the seed and the validation
that picked each. They are actors alone, for a training begins anew.
"""

from __future__ import annotations

from pathlib import Path

SHIPPED = {file.stem: file for file in sorted(Path(__file__).parent.glob("*.safetensors"))}
"""The policy files by name. A name stands for its file wherever a policy is asked for."""
