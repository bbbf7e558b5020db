"""Tables, figures and reports from result rows alone; nothing here imports JAX."""
