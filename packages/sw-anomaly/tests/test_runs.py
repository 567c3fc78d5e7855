"""Numbered run folders: nothing is written over, the right checkpoint is found again."""

import numpy as np

from sw_anomaly.detector import IN_CHANNELS, DetectorInfo, UNetDetector
from sw_anomaly.runs import find_checkpoint, list_runs, new_run
from sw_anomaly.training import CHECKPOINT, CONFIG
from sw_anomaly.unet import create_model


def test_runs_are_numbered_upwards_past_gaps_and_other_folders(tmp_path):
    folder = tmp_path / "bottle"
    assert [new_run(folder).name for _ in range(2)] == ["001", "002"]
    (folder / "notes").mkdir()
    (folder / "1207").mkdir()
    assert new_run(folder).name == "1208"
    assert [run.name for run in list_runs(folder)] == ["1208", "1207", "002", "001"]


def test_the_newest_finished_checkpoint_of_the_same_images_is_found(tmp_path):
    info = DetectorInfo("disc", "swnano", "these", 0.5, 0.5)
    detector = UNetDetector(create_model("swnano", IN_CHANNELS), np.zeros((64, 64, 3), dtype=np.uint8), info)
    first, second, third, fourth = (new_run(tmp_path) for _ in range(4))
    for run in (first, second, third):
        detector.save(run / CHECKPOINT)
    (third / CONFIG).touch()
    (third / "training_state.pt").touch()
    (fourth / CHECKPOINT).write_bytes(b"no checkpoint")
    assert find_checkpoint(tmp_path, "these", None) == second / CHECKPOINT
    assert find_checkpoint(tmp_path, "these", "swnano") == second / CHECKPOINT
    assert find_checkpoint(tmp_path, "these", "vanilla") is None
    assert find_checkpoint(tmp_path, "others", None) is None
    assert find_checkpoint(tmp_path / "nothing", "these", None) is None
