"""Figures of experiments; matplotlib is imported where it is used."""
