"""Many runs at once: each as if it were alone, refused ones named, the table right."""

import json

import numpy as np
import pytest

from sw_anomaly.experiment import run as benchmark
from sw_anomaly.experiment.run import Outcome, Request, count_workers, run_many, run_one, summarise
from sw_anomaly.report.html import HEADLINES
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
    monkeypatch.setattr(benchmark.os, "cpu_count", lambda: 4)
    assert count_workers(10, memory=7.0) == 2
    assert count_workers(10, memory=100.0) == 4
    assert count_workers(3, memory=100.0) == 3
    assert count_workers(3, memory=0.5) == 1


def outcome(tmp_path, category, **values):
    overall = {**dict.fromkeys(HEADLINES, 0.5), **values}
    return Outcome(tmp_path, {"category": category, "overall": overall}, {}, None)


def test_the_table_holds_means_and_deviations_over_the_seeds(tmp_path):
    values = [0.7, 0.8, 0.95]
    screws = [outcome(tmp_path, "screw", image_auroc=value) for value in values]
    table = summarise([*screws, outcome(tmp_path, "disc", image_auroc=1.0)])
    assert list(table) == ["disc", "screw", "mean"]
    assert table["screw"]["image_auroc"]["mean"] == pytest.approx(np.mean(values))
    assert table["screw"]["image_auroc"]["deviation"] == pytest.approx(np.std(values, ddof=1))
    assert table["disc"]["image_auroc"] == {"mean": 1.0}
    assert table["mean"]["image_auroc"] == {"mean": pytest.approx((1 + np.mean(values)) / 2)}
