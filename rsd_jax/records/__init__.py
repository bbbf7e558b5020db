"""Result rows, their files, and metrics computed from counts; free of JAX."""
