#!/usr/bin/env bash
# The test suite, in the environment of the main job plus the test tools.
#
#     bash run_tests.sh [pytest arguments]        for example: bash run_tests.sh -m fidelity
#
# Paths among the arguments are relative to the checkout.
set -euo pipefail

. "$(dirname "${BASH_SOURCE[0]}")/scripts/environment.sh"
prepare_environment box2d cyborg ray figures report docs mlflow onnx trackio wandb test

cd "$checkout"
exec "$environment_python" -m pytest "$@"
