"""Rows of streams of prompts: a chart of each, and tables."""

from rsd_jax.reporting.stream.section import sections

__all__ = ["sections"]
