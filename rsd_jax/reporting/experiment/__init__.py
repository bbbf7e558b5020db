"""Rows of the published experiments."""
