#!/usr/bin/env bash
# Measures on a GPU or TPU, from a plain checkout: nothing is installed, no network is needed.
#
# Usage: bash launch/accelerator.sh [part ...] [--minutes M] [--out DIR] [--drafts DIR ...]
#   [--rehearse]
#
# Parts: check table peers curves choices profile train; all of them if none is named. Runs .venv if
# it is there, else PYTHON (default python3), which needs jax, flax, numpy, safetensors, transformers,
# optax, orbax and tqdm, and torch for the part peers.
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
RSD_JAX_SKIP_INSTALL=1 setup_environment
exec "$RSD_PYTHON" "$RSD_ROOT/launch/accelerator.py" "$@"
