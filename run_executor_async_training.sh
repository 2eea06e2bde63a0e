#!/usr/bin/env bash
# The main job: searches for the best workflow against B_lineAgent, with 100 workers (threads, and no more than
# there are cores, unless flags say otherwise), 100,000 episodes and 100 episodes per update. --help lists them.
#
#     bash run_executor_async_training.sh [flags]
#
# Works from any directory; the first start makes .venv beside this file.
set -euo pipefail

. "$(dirname "${BASH_SOURCE[0]}")/scripts/environment.sh"
prepare_environment cyborg report

exec "$environment_python" "$checkout/workflow_rl/executor_async_train_workflow_rl.py" "$@"
