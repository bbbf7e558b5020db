#!/usr/bin/env bash
# Decodes held-out prompts with all methods on the pair that ships with the package.
#
# Usage: bash launch/quickstart.sh [options of launch/quickstart.py, see --help]
#
# The first run makes .venv and installs into it; later runs reuse it and the compiled programs
# in .cache/jax. See launch/env.sh for PYTHON and RSD_JAX_SKIP_INSTALL.
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
setup_environment

export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR:-$RSD_ROOT/.cache/jax}"
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="${JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS:-0.1}"
exec "$RSD_PYTHON" "$RSD_ROOT/launch/quickstart.py" "$@"
