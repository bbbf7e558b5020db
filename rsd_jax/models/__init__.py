"""Llama: network, cache, checkpoints, loading."""
