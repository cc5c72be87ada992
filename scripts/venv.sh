# Sourced by serve.sh, test.sh and build_mar.sh: makes .venv with the pinned packages of pyproject.toml.
# ensure_venv serve,archive    what runs in production
# ensure_venv serve,archive,train,dev   everything
# Nothing is asked of the network when the wanted packages are already there.

source scripts/pins.sh

fail() {
  echo "$(basename "$0"): $*" >&2
  exit 1
}

# The first Python 3.10-3.14 that really starts (version managers leave stubs that do not).
find_python() {
  local candidate
  for candidate in ${PYTHON:-} python3.11 python3.12 python3.13 python3.14 python3.10 python3 python; do
    if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 14))' \
      >/dev/null 2>&1; then
      echo "$candidate"
      return
    fi
  done
  return 1
}

# Two at once in one folder (serve.sh while test.sh still installs) take turns.
ensure_venv() {
  (
    if command -v flock >/dev/null && ! flock --nonblock 9; then
      echo "Another install into this folder is under way; waiting for it." >&2
      flock 9
    fi
    install_venv "$1"
  ) 9<pyproject.toml || exit 1
}

install_venv() {
  local groups=$1 stamp wanted python
  stamp=.venv/.installed
  wanted=$(sha256sum pyproject.toml | cut -d' ' -f1)
  if [ -x .venv/bin/python ] && [ -f "$stamp" ] && .venv/bin/python -c '' 2>/dev/null; then
    local have_hash have_groups group missing=
    read -r have_hash have_groups <"$stamp" || true
    for group in ${groups//,/ }; do
      case ",${have_groups:-}," in *",$group,"*) ;; *) missing=1 ;; esac
    done
    if [ "${have_hash:-}" = "$wanted" ] && [ -z "$missing" ]; then return; fi
    groups=$(echo "$groups,${have_groups:-}" | tr ',' '\n' | sed '/^$/d' | sort -u | paste -sd,)
  fi
  python=$(find_python) || fail "needs Python 3.10 to 3.14 with venv. Install one (Debian: apt install python3 python3-venv) or name it: PYTHON=/path/to/python $0"
  local free
  free=$(df -Pk . | awk 'NR == 2 {print $4}')
  if [ "$free" -lt 3000000 ]; then
    fail "needs 3 GB of free disk for its packages, but $(df -Ph . | awk 'NR == 2 {print $4 " are free on " $6}')."
  fi
  echo "Installing pinned packages into .venv ($groups); the first time this takes a few minutes." >&2
  if ! [ -x .venv/bin/python ] || ! .venv/bin/python -c '' 2>/dev/null; then
    rm -rf .venv
    "$python" -m venv .venv || fail "could not make .venv with $python; see the lines above."
  fi
  local lock
  lock=$(lock_for "$groups") || exit 1
  install_torch
  pip_install --require-hashes -r "$lock"
  pip_install --no-deps --no-build-isolation -e .
  echo "$wanted $groups" >"$stamp"
}

# What is installed is what was locked: each file by its hash. A lock of other pins is refused, not ignored.
lock_for() {
  local lock=locks/serve.txt
  case ",$1," in *,train,* | *,video,* | *,dev,*) lock=locks/all.txt ;; esac
  lock_is_of_these_pins "$lock" ||
    fail "$lock was not made from the pins in pyproject.toml. Run scripts/lock.sh, look at the difference, and commit it."
  echo "$lock"
}

pip_install() {
  .venv/bin/python -m pip install --quiet --disable-pip-version-check "$@" ||
    fail "pip could not install the packages; see its lines above. Is there a network, and disk space?"
}

# PyPI's torch brings gigabytes of CUDA. Where no NVIDIA driver is, its CPU build from PyTorch's own index
# is tried first; where that can't be reached, PyPI's does as well. TORCH_INDEX_URL names another index.
install_torch() {
  local pin
  pin=$(pin_of torch)
  if .venv/bin/python -c "import importlib.metadata as m; assert m.version('torch').split('+')[0] == '${pin#torch==}'" \
    2>/dev/null; then return; fi
  if ! command -v nvidia-smi >/dev/null 2>&1; then
    local quick=(--quiet --disable-pip-version-check --retries 0 --timeout 10 --no-deps)
    quick+=(--index-url "${TORCH_INDEX_URL:-https://download.pytorch.org/whl/cpu}")
    # The files of PyTorch's index are in the lock only where it could be reached when that was made.
    .venv/bin/python -m pip install "${quick[@]}" --require-hashes -r locks/torch-cpu.txt >/dev/null 2>&1 && return
    if .venv/bin/python -m pip install "${quick[@]}" "$pin" >/dev/null 2>&1; then
      echo "$pin is from PyTorch's index, and its file is not in locks/torch-cpu.txt: taken unverified." >&2
      return
    fi
    pip_install --no-deps --require-hashes -r locks/torch-cpu.txt
    case $(.venv/bin/python -c "import importlib.metadata as m; print(m.version('torch'))") in *+cpu) return ;; esac
  fi
  lock_is_of_these_pins locks/cuda.txt || fail "locks/cuda.txt was not made from the pins in pyproject.toml. Run scripts/lock.sh."
  pip_install --require-hashes -r locks/cuda.txt
}
