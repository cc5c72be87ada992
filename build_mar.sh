#!/usr/bin/env bash
# Package weights and handler as model_store/human_segmentation.mar. See ./build_mar.sh --help
set -euo pipefail
export CALLED_FROM=$PWD # relative paths are relative to it
cd "$(dirname "${BASH_SOURCE[0]}")"
source scripts/venv.sh
ensure_venv serve,archive
exec .venv/bin/python -m humanseg.serve.build_mar "$@"
