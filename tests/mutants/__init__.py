"""Faults that the tests inject one by one: each has to be caught by the check that it names."""
