from types import SimpleNamespace

import pytest

pytest.importorskip("mmengine", reason="mmengine is not installed (extra openmmlab)")

from sw_sparse.openmmlab.hooks import ProgressHook


def test_a_file_gets_a_line_from_time_to_time(capsys):
    loss = SimpleNamespace(current=lambda: 0.25)
    hub = SimpleNamespace(get_scalar=lambda name: loss)
    runner = SimpleNamespace(max_iters=400, iter=100, log_dir="runs/x/1", message_hub=hub, hooks=[])
    hook = ProgressHook(interval=0)
    hook.before_train(runner)
    hook.after_train_iter(runner, 0)
    hook.interval = 1e9
    hook.after_train_iter(runner, 0)
    hook.after_val_epoch(runner, {"mIoU": 12.0})
    hook.stop()
    first, line, metric = capsys.readouterr().err.splitlines()
    assert first == "training to iteration 400, log in runs/x/1"
    assert line.startswith("iteration    101 of 400  loss 0.25  ")
    assert line.endswith(" left")
    assert metric == "iteration    100  mIoU 12"
