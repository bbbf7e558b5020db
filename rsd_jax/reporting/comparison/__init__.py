"""Rows of decoding outside of an experiment: bars and a table."""

from rsd_jax.reporting.comparison.section import sections

__all__ = ["sections"]
