"""Measures methods: rates, phase times and accuracies, as result rows."""
