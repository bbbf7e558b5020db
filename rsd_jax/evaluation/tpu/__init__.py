"""Programs compiled for TPUs that are not attached, and what their text shows."""
