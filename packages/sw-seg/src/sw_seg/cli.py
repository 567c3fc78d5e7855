"""``sw-seg``: train, test and use segmenters."""

from sw_seg.task import TASK
from sw_sparse.openmmlab.app import build_app

app = build_app(TASK)

if __name__ == "__main__":
    app()
