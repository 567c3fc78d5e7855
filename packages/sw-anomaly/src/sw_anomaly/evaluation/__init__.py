"""Detectors scored on labelled images, and compared."""
