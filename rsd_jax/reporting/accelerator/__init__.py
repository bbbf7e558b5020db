"""Reports on what was measured on an accelerator."""
