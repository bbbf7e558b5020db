"""Result rows, their files and what is computed from counts; free of JAX."""
