"""The metrics against those of anomalib 2.7.0, which needs an environment of its own.

    uv venv peers && uv pip install --python peers anomalib==2.7.0
    ANOMALIB_PYTHON=peers/bin/python python -m pytest tests/test_metrics_anomalib.py

Where it counts as we do the figures agree to what its single precision leaves. Each test after the first shows one
case in which it does not, and why.
"""

import json
import os
import subprocess

import numpy as np
import pytest
from scipy import ndimage

from sw_anomaly.metrics.ranking import rank_pixels, region_overlap

PYTHON = os.environ.get("ANOMALIB_PYTHON")
pytestmark = pytest.mark.skipif(
    not PYTHON, reason="ANOMALIB_PYTHON does not name the Python of an anomalib environment"
)

PROGRAM = """
import json, sys
import numpy as np, torch
from anomalib.metrics.auroc import _AUROC
from anomalib.metrics.aupr import _AUPR
from anomalib.metrics.aupro import _AUPRO
from anomalib.metrics.f1_score import _F1Max
data = np.load(sys.argv[1])
maps, masks = torch.from_numpy(data["maps"]), torch.from_numpy(data["masks"]).int()
metrics = {"auroc": _AUROC(), "ap": _AUPR(), "f1_max": _F1Max(), "aupro": _AUPRO(), "aupro_05": _AUPRO(fpr_limit=0.05)}
found = {}
for name, metric in metrics.items():
    metric.update(maps, masks)
    found[name] = metric.compute().item()
print(json.dumps(found))
"""


def theirs(tmp_path, maps, masks):
    np.savez(tmp_path / "images.npz", maps=np.stack(maps), masks=np.stack(masks))
    command = [PYTHON, "-c", PROGRAM, str(tmp_path / "images.npz")]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def ours(maps, masks):
    pixels = rank_pixels(maps, masks)
    overlap = region_overlap(pixels, maps, masks)
    return {
        "auroc": pixels.auroc(),
        "ap": pixels.average_precision(),
        "f1_max": pixels.f1_max()[0],
        "aupro": overlap.areas[0.3],
        "aupro_05": overlap.areas[0.05],
    }


@pytest.fixture
def images():
    """Maps in [0, 1] with ties, and masks with several regions in each image, some touching at corners."""
    rng = np.random.default_rng(0)
    masks = [ndimage.gaussian_filter(rng.normal(size=(96, 128)), 3) > 0.12 for _ in range(6)]
    noisy = [ndimage.gaussian_filter(mask + 0.8 * rng.normal(size=mask.shape), 1) for mask in masks]
    return [np.clip(0.3 + 0.4 * one, 0, 1).round(3).astype(np.float32) for one in noisy], masks


def test_scores_between_0_and_1_give_equal_metrics(tmp_path, images):
    assert theirs(tmp_path, *images) == pytest.approx(ours(*images), abs=2e-5)


def test_other_scores_are_squeezed_there_by_a_sigmoid_so_that_high_ones_tie(tmp_path, images):
    """Distances of 30 and 40 both become 1, in AUROC and AP; ours depend on the order of scores only."""
    maps, masks = images
    scaled = [100 * one for one in maps]
    assert ours(scaled, masks) == pytest.approx(ours(*images), abs=1e-12)
    found, wanted = theirs(tmp_path, scaled, masks), ours(*images)
    for name in ("auroc", "ap"):
        assert found[name] < wanted[name] - 0.01, name
    for name in ("f1_max", "aupro", "aupro_05"):
        assert found[name] == pytest.approx(wanted[name], abs=2e-5), name


def test_without_a_defect_there_is_no_overlap_to_measure_but_it_says_0(tmp_path, images):
    maps, masks = images[0], [np.zeros_like(mask) for mask in images[1]]
    assert theirs(tmp_path, maps, masks)["aupro"] == 0
    assert np.isnan(ours(maps, masks)["aupro"])
