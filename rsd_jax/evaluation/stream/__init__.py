"""Instances one after the other, while a search for layers to skip goes on."""
