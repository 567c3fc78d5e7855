"""A task that trains in a second: a regression on noise images."""
