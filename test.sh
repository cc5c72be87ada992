#!/usr/bin/env bash
# All checks and tests: ./test.sh   The fast ones: ./test.sh --quick   Further arguments are passed to pytest.
# Two processes share the test files; -n 0 runs them in one, e.g. for --pdb or a single test.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source scripts/venv.sh
ensure_venv serve,archive,train,dev
# Settings of a running server or an AWS account must not affect the tests.
unset INFERENCE_PORT MANAGEMENT_PORT METRICS_PORT GRPC_INFERENCE_PORT GRPC_MANAGEMENT_PORT WORKERS STATE_DIR \
  API_KEYS_FILE MODEL_MAR LOG_REQUESTS INFERENCE_ADDRESS METRICS_ADDRESS STOP_DEADLINE HUMANSEG_URL HUMANSEG_MANAGEMENT_URL \
  "${!ARCHIVE_@}" "${!AWS_@}"
arguments=(-n 2 --dist loadfile --no-loadscope-reorder)
if [ "${1:-}" = --quick ]; then
  arguments+=(-m "not slow")
  shift
fi
scripts/check.sh
.venv/bin/python -m humanseg.serve.build_mar --if-stale
exec .venv/bin/python -m pytest "${arguments[@]}" "$@"
