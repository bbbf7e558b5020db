"""Families of models: networks, cache, checkpoints, loading."""
