"""Notation, trees, draws, laws and meshes: what every part speaks of."""
