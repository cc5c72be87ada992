# Sourced by serve.sh, test.sh and build_mar.sh: creates .venv with the pinned packages of pyproject.toml.
# ensure_venv serve,archive    the production packages
# ensure_venv serve,archive,train,dev   everything
# It does not access the network if the packages are installed.

source "$(dirname "${BASH_SOURCE[0]}")/pins.sh"

fail() {
  echo "$(basename "$0"): $*" >&2
  exit 1
}

# The first working Python 3.10-3.14 (version managers leave broken stubs).
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

# Concurrent installations into one folder (serve.sh while test.sh installs) wait for each other.
ensure_venv() {
  (
    if command -v flock >/dev/null && ! flock --nonblock 9; then
      echo "Another installation into this folder is in progress; waiting for it." >&2
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
  python=$(find_python) || fail "needs Python 3.10 to 3.14 with venv. Install it (Debian: apt install python3 python3-venv), or set PYTHON=/path/to/python $0"
  local free
  free=$(df -Pk . | awk 'NR == 2 {print $4}')
  if [ "$free" -lt 3000000 ]; then
    fail "needs 3 GB of free disk for its packages, but $(df -Ph . | awk 'NR == 2 {print $4 " are free on " $6}')."
  fi
  echo "Installing pinned packages into .venv ($groups); the first time takes a few minutes." >&2
  if ! [ -x .venv/bin/python ] || ! .venv/bin/python -c '' 2>/dev/null; then
    rm -rf .venv
    "$python" -m venv .venv || fail "could not create .venv with $python; see the output above."
  fi
  local lock
  lock=$(lock_for "$groups") || exit 1
  install_torch
  pip_install --require-hashes -r "$lock"
  pip_install --no-deps --no-build-isolation -e .
  echo "$wanted $groups" >"$stamp"
}

# Only locked files are installed, verified by hash. An outdated lock is an error.
lock_for() {
  local lock=locks/serve.txt
  case ",$1," in *,train,* | *,video,* | *,dev,*) lock=locks/all.txt ;; esac
  lock_is_of_these_pins "$lock" ||
    fail "$lock does not match the pins in pyproject.toml. Run scripts/lock.sh, review the diff, and commit it."
  echo "$lock"
}

pip_install() {
  .venv/bin/python -m pip install --quiet --disable-pip-version-check "$@" ||
    fail "pip could not install the packages; see its output above. Check the network and the disk space."
}

# PyPI's torch includes gigabytes of CUDA. Without an NVIDIA driver, the CPU build from PyTorch's own index
# is tried first, with PyPI's as the fallback. TORCH_INDEX_URL selects another index.
install_torch() {
  local pin
  pin=$(pin_of torch)
  if .venv/bin/python -c "import importlib.metadata as m; assert m.version('torch').split('+')[0] == '${pin#torch==}'" \
    2>/dev/null; then return; fi
  if ! command -v nvidia-smi >/dev/null 2>&1; then
    local pip_options=(--quiet --disable-pip-version-check --retries 0 --timeout 10 --no-deps)
    pip_options+=(--index-url "${TORCH_INDEX_URL:-https://download.pytorch.org/whl/cpu}")
    # The lock contains the files of PyTorch's index only if it was reachable when the lock was made.
    .venv/bin/python -m pip install "${pip_options[@]}" --require-hashes -r locks/torch-cpu.txt >/dev/null 2>&1 && return
    if .venv/bin/python -m pip install "${pip_options[@]}" "$pin" >/dev/null 2>&1; then
      echo "warning: installed $pin from PyTorch's index unverified: its file is not in locks/torch-cpu.txt." >&2
      return
    fi
    pip_install --no-deps --require-hashes -r locks/torch-cpu.txt
    case $(.venv/bin/python -c "import importlib.metadata as m; print(m.version('torch'))") in *+cpu) return ;; esac
  fi
  lock_is_of_these_pins locks/cuda.txt || fail "locks/cuda.txt does not match the pins in pyproject.toml. Run scripts/lock.sh."
  pip_install --require-hashes -r locks/cuda.txt
}
