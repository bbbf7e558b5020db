"""Rows of streams of prompts."""
