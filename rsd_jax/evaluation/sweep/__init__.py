"""Experiments: many cells, measured in turns with their baseline; a stopped sweep resumes."""
