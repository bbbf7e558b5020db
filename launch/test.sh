#!/usr/bin/env bash
# Lint, format, types, tests; ends with the number of XLA compilations and their seconds.
#
# Usage: bash launch/test.sh [pytest arguments, e.g. tests/records/test_rows.py]
#
# The first run makes .venv and installs the test tools into it. See launch/env.sh for PYTHON and
# RSD_JAX_SKIP_INSTALL.
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
setup_environment test
cd "$RSD_ROOT"

failed=()
check() {
  local name="$1"
  shift
  echo "== $name"
  "$RSD_PYTHON" -m "$@" || failed+=("$name")
}

# What several test processes need is compiled by one of them, single operations included. So is what
# a process needs again after it has released its programs.
JAX_COMPILATION_CACHE_DIR="$(mktemp -d)"
export JAX_COMPILATION_CACHE_DIR JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0
trap 'rm -rf "$JAX_COMPILATION_CACHE_DIR" "${types:-}"' EXIT

SECONDS=0
check "ruff check" ruff check .
check "ruff format" ruff format --check .
# mypy has one core and pytest's start another.
types="$(mktemp)"
"$RSD_PYTHON" -m mypy >"$types" 2>&1 &
mypy=$!
# Compilation uses one core at a time: two workers, each with whole files, share programs within.
# After the crash of a worker, pytest-xdist 3.8 with a new one waits for ever at the end.
check "pytest" pytest -n 2 --dist loadfile --max-worker-restart=0 "$@"
echo "== mypy"
wait "$mypy" || failed+=("mypy")
cat "$types"

echo "== ${SECONDS} s in all"
if [ "${#failed[@]}" -gt 0 ]; then
  echo "failed: ${failed[*]}" >&2
  exit 1
fi
echo "all checks passed"
