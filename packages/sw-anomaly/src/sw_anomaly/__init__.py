"""Industrial anomaly detection on ShiftwiseConv: see good parts only, find the defects in others."""

from importlib.metadata import version

__version__ = version("sw-anomaly")
