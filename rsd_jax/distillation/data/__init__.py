"""Training text: sources, documents, tokens, windows, prompts."""
