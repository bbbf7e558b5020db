"""Reports on rows of the published experiments."""
