"""``sw-anomaly sample`` from a user's side."""

import json

from conftest import refusal


def test_sample_writes_a_folder_that_eval_takes_as_synthetic(run, tmp_path, monkeypatch):
    for name, count in (("TRAIN_GOOD", 3), ("TEST_GOOD", 1), ("TEST_PER_DEFECT", 1)):
        monkeypatch.setattr(f"sw_anomaly.sample.write.{name}", count)
    assert run("sample", "mine").exit_code == 0
    assert "already there" in refusal(run("sample", "mine"))
    assert json.loads(run("eval", "--category", "bottle", "--data", "mine", "--json").stdout)["synthetic"] is True
