"""Experiments: many cells, measured in turns with their baseline, resumed where they stopped."""
