"""Rows of decoding outside of an experiment."""
