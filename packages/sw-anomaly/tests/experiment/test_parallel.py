"""Many runs at once: each as if it were alone, refused ones named."""

import json
from dataclasses import replace
from pathlib import Path

from sw_anomaly.experiment import parallel
from sw_anomaly.experiment.parallel import count_workers, run_many
from sw_anomaly.experiment.run import Request, run_one
from sw_models.errors import InputError

OPTIONS = {"method": "bank", "model": "none", "image_size": 64}


def test_runs_in_other_processes_equal_runs_in_this_one(tiny_root, tmp_path):
    requests = [Request(tiny_root, "disc", tmp_path / "many", {**OPTIONS, "seed": seed}) for seed in range(2)]
    requests.append(Request(tiny_root, "missing", tmp_path / "many", OPTIONS))
    outcomes = {}
    for request, outcome in run_many(requests, workers=1):
        outcomes[requests.index(request)] = outcome
    assert isinstance(outcomes[2], InputError)
    assert len({outcomes[0].run, outcomes[1].run}) == 2
    for seed in range(2):
        alone = run_one(Request(tiny_root, "disc", tmp_path / f"alone{seed}", {**OPTIONS, "seed": seed}))
        assert outcomes[seed].result["overall"] == alone.result["overall"]
        assert json.loads((outcomes[seed].run / "results.json").read_text())["seed"] == seed


def test_as_many_processes_as_fit_in_memory_and_on_the_cores(monkeypatch):
    monkeypatch.setattr(parallel.os, "cpu_count", lambda: 4)
    one, two = (Request(Path("data"), "disc", Path("runs"), {"threads": threads}) for threads in (1, 2))
    assert count_workers([one] * 10, memory=7.0) == 2
    assert count_workers([one] * 10, memory=100.0) == 4
    assert count_workers([one] * 3, memory=100.0) == 3
    assert count_workers([one] * 3, memory=0.5) == 1
    assert count_workers([two] * 3, memory=100.0) == 2
    assert count_workers([replace(two, options={})] * 3, memory=100.0) == 2  # the default
