"""Rows of passes with sub-layers skipped: time against bytes."""

from rsd_jax.reporting.skipping.section import sections

__all__ = ["sections"]
