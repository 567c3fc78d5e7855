"""The command ``sw-anomaly``: a file per command, what they share in ``common.py``.

Heavy imports wait until a command runs, so that ``--help`` answers at once.
"""

from sw_anomaly.cli.common import app

# isort: off
# in the order in which --help lists them
from sw_anomaly.cli import check, train, evaluate, predict, correct, export, compare, throughput, sample

__all__ = ["app", "check", "compare", "correct", "evaluate", "export", "predict", "sample", "throughput", "train"]
