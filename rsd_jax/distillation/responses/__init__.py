"""Text that the target or the draft generates for training: files and windows."""
