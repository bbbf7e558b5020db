"""The training run: recipe, step, loop, checkpoints, log."""
