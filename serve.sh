#!/usr/bin/env bash
# From a fresh clone to a served model: ./serve.sh   (README.md has the settings; Ctrl-C stops everything)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source scripts/venv.sh
ensure_venv serve
.venv/bin/python -m serve.build_mar --if-stale
exec .venv/bin/python -m serve.main
