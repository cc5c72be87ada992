#!/usr/bin/env bash
# From a fresh clone to a served model: ./serve.sh   (README.md has the settings; Ctrl-C stops everything)
set -euo pipefail
# Relative paths are relative to the caller's folder.
for name in STATE_DIR API_KEYS_FILE MODEL_MAR; do
  case "${!name:-}" in "" | /*) ;; *) export "$name=$PWD/${!name}" ;; esac
done
cd "$(dirname "${BASH_SOURCE[0]}")"
source scripts/venv.sh
ensure_venv serve,archive
[ -n "${MODEL_MAR:-}" ] || .venv/bin/python -m humanseg.serve.build_mar --if-stale
exec .venv/bin/python -m humanseg.serve.main
