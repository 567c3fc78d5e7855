"""``sw-det``: train, test and use detectors."""

from sw_det.task import TASK
from sw_sparse.openmmlab.app import build_app

app = build_app(TASK)

if __name__ == "__main__":
    app()
