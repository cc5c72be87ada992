#!/usr/bin/env bash
# Compare the served model with its limit and its peers:
#   ./benchmarks/run.sh [--quick] [--only race,sweep,...] [--data ../shared/data]
# Writes benchmarks/RESULTS.md and benchmarks/plots/. Wants a quiet machine; says in RESULTS.md how quiet it was.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/venv.sh
ensure_venv serve
.venv/bin/python -m humanseg.serve.build_mar --if-stale

tools=()
command -v wrk >/dev/null || tools+=(wrk)
command -v h2load >/dev/null || tools+=(nghttp2-client)
if [ ${#tools[@]} -gt 0 ]; then
  [ "$(id -u)" = 0 ] || fail "needs wrk and h2load. Debian: sudo apt-get install ${tools[*]}"
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${tools[@]}" >/dev/null
fi

# bench_venv NAME REQUIREMENTS: an environment of its own, made anew when the requirements change.
bench_venv() {
  local venv=benchmarks/.venv/$1 wanted
  wanted=$(sha256sum "$2" | cut -d' ' -f1)
  if [ "$(cat "$venv/.installed" 2>/dev/null)" = "$wanted" ]; then return; fi
  echo "Installing $2 into $venv; the first time this takes a few minutes." >&2
  [ -x "$venv/bin/python" ] || "$(find_python)" -m venv "$venv"
  local pin
  pin=$(grep -o '^torch==[^ ]*' "$2") || pin=
  if [ -n "$pin" ] && ! command -v nvidia-smi >/dev/null; then # as in scripts/venv.sh: spare CUDA's gigabytes
    "$venv/bin/pip" install --quiet --disable-pip-version-check --retries 0 --timeout 10 --no-deps \
      --index-url "${TORCH_INDEX_URL:-https://download.pytorch.org/whl/cpu}" "$pin" >/dev/null 2>&1 || true
  fi
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$2" || fail "pip could not install $2"
  echo "$wanted" >"$venv/.installed"
}
bench_venv peers benchmarks/requirements.txt
bench_venv rembg benchmarks/requirements-rembg.txt
if [[ " $* " = *" --data"* ]]; then bench_venv rim benchmarks/requirements-rim.txt; fi
exec benchmarks/.venv/peers/bin/python -m benchmarks.run "$@"
