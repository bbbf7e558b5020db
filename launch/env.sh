# Sourced by the launch scripts: one virtual environment at the repository root, installed once.
#
#   setup_environment [extra]   makes .venv if needed, installs this project (with `[extra]`) into it
#                               unless that was done before, and sets RSD_PYTHON
#
# Environment variables:
#   PYTHON                  interpreter that makes the environment; default python3
#   RSD_JAX_SKIP_INSTALL=1  installs nothing: uses .venv as it is, or PYTHON if there is none

RSD_ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
_RSD_VENV="$RSD_ROOT/.venv"

_rsd_fail() {
  echo "error: $*" >&2
  exit 1
}

_rsd_check_version() {
  "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    _rsd_fail "$1 is $("$1" --version 2>&1), but Python 3.11 or newer is needed; $2"
}

_rsd_make_venv() {
  local python="${PYTHON:-python3}"
  command -v "$python" >/dev/null ||
    _rsd_fail "$python was not found; install Python 3.11 or newer, or set PYTHON to one"
  _rsd_check_version "$python" "set PYTHON to one, e.g. PYTHON=python3.12"
  echo "making a virtual environment in .venv ($("$python" --version))"
  "$python" -m venv "$_RSD_VENV" || {
    rm -rf "$_RSD_VENV"
    _rsd_fail "$python cannot make virtual environments; install its venv module (on Debian and" \
      "Ubuntu the package python3-venv), or set PYTHON to another interpreter"
  }
}

# What the installation depends on, and where the repository is (an editable install points to it).
_rsd_fingerprint() {
  "$RSD_PYTHON" - "$RSD_ROOT" <<'PY'
import hashlib, pathlib, sys
root = pathlib.Path(sys.argv[1])
digest = hashlib.sha256(str(root).encode())
for name in ("setup.py", "pyproject.toml"):
    digest.update((root / name).read_bytes())
print(sys.version_info[:2], digest.hexdigest())
PY
}

setup_environment() {
  local extra="${1:-}"
  RSD_PYTHON="$_RSD_VENV/bin/python"
  if [ -n "${RSD_JAX_SKIP_INSTALL:-}" ]; then
    [ -x "$RSD_PYTHON" ] || RSD_PYTHON="$(command -v "${PYTHON:-python3}")" ||
      _rsd_fail "RSD_JAX_SKIP_INSTALL is set, but there is neither .venv nor ${PYTHON:-python3}"
    _rsd_check_version "$RSD_PYTHON" "set PYTHON to one"
    return
  fi
  # An interrupted `python -m venv` leaves an interpreter without pip.
  "$RSD_PYTHON" -m pip --version >/dev/null 2>&1 || {
    rm -rf "$_RSD_VENV"
    _rsd_make_venv
  }
  _rsd_check_version "$RSD_PYTHON" "remove .venv and set PYTHON to one"
  local stamp="$_RSD_VENV/.installed${extra:+-$extra}" fingerprint
  fingerprint="$(_rsd_fingerprint)"
  if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$fingerprint" ]; then
    echo "installing rsd_jax${extra:+[$extra]} into .venv (once; needs the package registry)"
    "$RSD_PYTHON" -m pip install --quiet --disable-pip-version-check \
      -e "$RSD_ROOT${extra:+[$extra]}" ||
      _rsd_fail "the installation failed, see above; run this script again to go on with it"
    echo "$fingerprint" >"$stamp"
  fi
}
