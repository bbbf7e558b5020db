"""Reports on rows of passes with skipped sub-layers."""
