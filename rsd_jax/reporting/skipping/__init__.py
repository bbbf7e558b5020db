"""Rows of passes with sub-layers skipped."""
