"""Reports on accepted nodes by position, and on categories of prompts."""
