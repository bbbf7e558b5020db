"""Reports on rows of streams of prompts."""
