"""Faults that the tests inject one by one; the check that a fault names has to detect it."""
