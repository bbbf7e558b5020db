"""Reports on rows of decoding outside of the known experiments."""
