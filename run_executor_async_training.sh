#!/usr/bin/env bash
# The main job: searches for the best workflow against B_lineAgent with 100 worker processes.
#
#     bash run_executor_async_training.sh [flags]
#
# Flags given here win over the settings below (--help lists them all). Works from any directory; the first
# start makes .venv beside this file.
set -euo pipefail

. "$(dirname "${BASH_SOURCE[0]}")/scripts/environment.sh"
prepare_environment cyborg

exec "$environment_python" "$checkout/workflow_rl/executor_async_train_workflow_rl.py" \
    --n-workers 100 \
    --total-episodes 100000 \
    --episodes-per-update 100 \
    --red-agent B_lineAgent \
    "$@"
