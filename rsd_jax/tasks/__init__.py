"""Prompts and references to decode and score against."""
