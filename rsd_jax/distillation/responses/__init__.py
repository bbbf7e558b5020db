"""What the target wrote, and what the draft writes: files, windows."""
