"""Recipes that ship with the package, by name."""
