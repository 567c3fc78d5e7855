"""Runs: fitted, evaluated, written down; one, or many at once."""
