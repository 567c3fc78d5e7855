"""``sw-seg``: train, test and use segmenters."""

from sw_experiment.commands import build_app
from sw_seg.task import TASK

app = build_app(TASK)

if __name__ == "__main__":
    app()
