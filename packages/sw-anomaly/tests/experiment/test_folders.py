"""Numbered run folders: nothing is written over, the right checkpoint is found again."""

import json
from dataclasses import asdict

import pytest

from sw_anomaly.config import CHECKPOINT, CONFIG, TrainingConfig
from sw_anomaly.experiment.folders import find_checkpoint, find_unfinished, list_runs, new_run
from sw_models.errors import InputError

CONFIGURATION = TrainingConfig("disc", "these", 64)


def finished_run(folder, **changed):
    run = new_run(folder)
    (run / CONFIG).write_text(json.dumps({**asdict(CONFIGURATION), **changed}))
    (run / CHECKPOINT).touch()
    return run


def test_runs_are_numbered_upwards_past_gaps_and_other_folders(tmp_path):
    folder = tmp_path / "bottle"
    assert [new_run(folder).name for _ in range(2)] == ["001", "002"]
    (folder / "notes").mkdir()
    (folder / "1207").mkdir()
    assert new_run(folder).name == "1208"
    assert [run.name for run in list_runs(folder)] == ["1208", "1207", "002", "001"]


@pytest.mark.parametrize("what", ["a dangling link", "a file", "a file that has a number"])
def test_where_no_folder_can_be_made_is_said_and_never_tried_for_ever(tmp_path, what):
    out = tmp_path / "runs"
    if what == "a dangling link":
        out.symlink_to(tmp_path / "unmounted")
    elif what == "a file":
        out.write_text("notes")
    else:
        out.mkdir()
        (out / "001").write_text("notes")
        assert new_run(out).name == "002"
        (out / "003").symlink_to(out / "nowhere")
        assert new_run(out).name == "004"
        return
    for folder in (out, out / "disc"):
        with pytest.raises(InputError, match=r"runs.*(which is not there|want a folder)"):
            new_run(folder)


def test_the_newest_finished_checkpoint_that_is_as_asked_is_found(tmp_path):
    first = finished_run(tmp_path, seed=1)
    second = finished_run(tmp_path, method="bank")
    unfinished = finished_run(tmp_path)
    (unfinished / CHECKPOINT).unlink()
    (new_run(tmp_path) / CHECKPOINT).touch()  # nobody knows of what
    assert find_checkpoint(tmp_path, "these", {}) == second / CHECKPOINT
    assert find_checkpoint(tmp_path, "these", {"method": "auto"}) == first / CHECKPOINT
    assert find_checkpoint(tmp_path, "these", {"seed": 1, "model": "swnano"}) == first / CHECKPOINT
    assert find_checkpoint(tmp_path, "these", {"seed": 2}) is None
    assert find_checkpoint(tmp_path, "others", {}) is None
    assert find_checkpoint(tmp_path / "nothing", "these", {}) is None
    assert find_unfinished(tmp_path, CONFIGURATION) == unfinished
