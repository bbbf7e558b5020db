"""Rows of the published experiments: a figure and tables of best structures."""

from rsd_jax.reporting.experiment.section import sections

__all__ = ["sections"]
