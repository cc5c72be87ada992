#!/usr/bin/env bash
# The static checks: style, types, import rules. ./test.sh and pre-commit run them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
.venv/bin/ruff check .
.venv/bin/ruff format --check --quiet . || {
  echo "check.sh: the files above are not formatted; run: .venv/bin/ruff format ." >&2
  exit 1
}
.venv/bin/mypy
.venv/bin/lint-imports >/dev/null || .venv/bin/lint-imports
