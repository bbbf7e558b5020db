"""The tests; helpers that several of them share are modules of this folder."""

import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[1]
"""Of the repository."""
