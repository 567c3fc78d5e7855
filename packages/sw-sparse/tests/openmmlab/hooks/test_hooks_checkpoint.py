from collections import Counter, OrderedDict

import numpy as np
import pytest
import torch

pytest.importorskip("mmengine", reason="mmengine is not installed (extra openmmlab)")

from mmengine.logging import HistoryBuffer

from sw_sparse.openmmlab.hooks import AtomicLocalBackend, PlainCheckpointHook


def test_a_checkpoint_holds_nothing_that_needs_code_to_be_read(tmp_path):
    checkpoint = {
        "message_hub": {
            "log_scalars": OrderedDict(loss=HistoryBuffer([1.0], [1])),
            "runtime_info": {"best_score": np.float64(0.5), "steps": np.int64(3), "keep": (1, 2)},
        },
        "meta": {"dataset_meta": {"palette": np.zeros((2, 3), dtype=np.uint8), "classes": ("a", "b")}},
        "param_schedulers": [{"milestones": Counter({3: 1}), "lr": np.float32(0.1)}],
        "state_dict": {"w": torch.ones(2)},
    }
    PlainCheckpointHook().before_save_checkpoint(None, checkpoint)
    torch.save(checkpoint, tmp_path / "c.pth")
    read = torch.load(tmp_path / "c.pth", weights_only=True)
    assert read["message_hub"]["runtime_info"] == {"best_score": 0.5, "steps": 3, "keep": [1, 2]}
    assert read["meta"]["dataset_meta"] == {"palette": [[0, 0, 0], [0, 0, 0]], "classes": ["a", "b"]}
    assert read["param_schedulers"][0]["milestones"] == {3: 1}
    assert torch.equal(read["state_dict"]["w"], torch.ones(2))


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "new" / "c.pth"
    AtomicLocalBackend().put(b"old", path)
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        AtomicLocalBackend().put(b"new", path)
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]
