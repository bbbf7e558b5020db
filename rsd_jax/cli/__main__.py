"""`python -m rsd_jax.cli`: the command line of a checkout that is not installed."""

import sys

from rsd_jax.cli.main import main

sys.exit(main())
