"""Measuring methods and drawing what was measured."""
