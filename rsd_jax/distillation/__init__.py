"""Training of target and draft: data, losses, the training loop and the export to a model pair."""
