"""Reports on the expected tokens of several verifiers on the same trees."""
