"""Tables, figures and reports from result rows, and pictures of decoded blocks; without JAX."""
