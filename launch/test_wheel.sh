#!/usr/bin/env bash
# Builds the wheel and tries it away from the checkout, in an environment that has nothing else.
#
# Usage: bash launch/test_wheel.sh
#
# Without a package index, or with RSD_JAX_SKIP_INSTALL=1, the environment reads the packages that
# the wheel needs from .venv, so a requirement that pyproject.toml does not name is not noticed. See
# launch/env.sh for PYTHON.
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
given_skip="${RSD_JAX_SKIP_INSTALL:-}"
RSD_JAX_SKIP_INSTALL=1 setup_environment

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/source"
# A copy: files of an earlier build in the checkout would get into the wheel.
tar -C "$RSD_ROOT" -cf - --exclude=__pycache__ \
  LICENSE README.md configs pyproject.toml rsd_jax setup.py | tar -C "$folder/source" -xf -

has_index() {
  [ -z "$given_skip" ] && PIP_RETRIES=1 "$RSD_PYTHON" -m pip download --quiet --no-deps \
    --disable-pip-version-check --dest "$folder/probe" filelock >/dev/null 2>&1
}

venv="$folder/venv"
"$RSD_PYTHON" -m venv "$venv"
quiet=(--quiet --disable-pip-version-check)
if has_index; then
  echo "building the wheel, and installing it with all that it needs"
  "$RSD_PYTHON" -m pip wheel "${quiet[@]}" --no-deps --wheel-dir "$folder/dist" "$folder/source"
  "$venv/bin/pip" install "${quiet[@]}" --no-compile "$folder"/dist/*.whl
elif ! "$RSD_PYTHON" -c 'import setuptools as s; assert int(s.__version__.split(".")[0]) >= 78' 2>/dev/null; then
  echo "left out: the wheel cannot be built without a package index, as setuptools is missing or old"
  exit
else
  echo "left out: requirements of the wheel are not installed; it reads the packages of $RSD_PYTHON"
  "$RSD_PYTHON" -m pip wheel "${quiet[@]}" --no-deps --no-build-isolation --no-index \
    --wheel-dir "$folder/dist" "$folder/source"
  "$venv/bin/pip" install "${quiet[@]}" --no-deps --no-index "$folder"/dist/*.whl
  packages() { "$1" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }
  packages "$RSD_PYTHON" >"$(packages "$venv/bin/python")/packages.pth"
fi

cp "$RSD_ROOT/tests/decode_with_wheel.py" "$folder"
cd "$folder"
unset PYTHONPATH
export XDG_CACHE_HOME="$folder/cache"
"$venv/bin/python" decode_with_wheel.py
"$venv/bin/rsd" check
"$venv/bin/rsd" evaluate --dry_run | tail -n 3
echo "the wheel works; ${SECONDS} s"
