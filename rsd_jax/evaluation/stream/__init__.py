"""Decodes a stream of prompts one after the other while a search for a skip set goes on."""
