#!/usr/bin/env bash
# Makes the policies that come with the package: trains a defender by each set of rules and puts it in its place.
#
#     bash scripts/train_defenders.sh [directory for the runs]
#
# Run it in an environment with the package installed. On the same type of processor, with the same version of
# torch, it makes the same files to the last bit.
set -euo pipefail

checkout=$(CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
runs=${1:-runs}

for rules in 2.1 leaderboard; do
    workflow-rl train-defender --rules "$rules" --seed 0 --run-dir "$runs/defender-$rules"
    cp "$runs/defender-$rules/policy.safetensors" "$checkout/workflow_rl/defenders/defender-$rules.safetensors"
done
