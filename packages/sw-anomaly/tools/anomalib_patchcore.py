"""PatchCore here against anomalib's: the same split, network, weights and image size, measured by the same metrics.

make peers
.venvs/peers/bin/python packages/sw-anomaly/tools/anomalib_patchcore.py CATEGORY DATA [--good 32]

The backbone efficientnet_lite0 has the weights of its package; others have the same random weights on both sides.
anomalib's own part is its model as it comes, with as large a core set as here: neighborhoods, choice of the core set, 9
neighbors, its map and score. Its choice takes minutes instead of hours where memory comes in large pages, on Linux by
GLIBC_TUNABLES=glibc.malloc.hugetlb=1. Each difference has a 95 % interval from paired redraws of the test images.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sw_anomaly.data.intensity import learn_intensity
from sw_anomaly.data.layouts import read_category
from sw_anomaly.data.splits import Protocol, make_split
from sw_anomaly.evaluation.compare import RESAMPLES
from sw_anomaly.evaluation.evaluate import evaluate
from sw_anomaly.methods.base import Inspection
from sw_anomaly.methods.patchcore import CORE_SET, PACKAGED, PatchCore, create_backbone
from sw_anomaly.methods.unet.batches import Views
from sw_anomaly.metrics.bootstrap import draw_weights, measure
from sw_anomaly.preprocessing.view import View, choose_image_size

METRICS = {"image_auroc": "image AUROC", "pixel_ap": "pixel AP", "aupro": "AUPRO 0.3", "aupro_05": "AUPRO 0.05"}


class Judge:
    """Something that inspects views, as a detector; its thresholds decide nothing here."""

    image_threshold, pixel_threshold, level = float("1e30"), float("1e30"), 0.0

    def __init__(self, method: Any, view: View, intensity: Any) -> None:
        self.method, self.view, self.intensity = method, view, intensity

    def inspect(self, image: np.ndarray) -> Inspection:
        """Inspect an image."""
        viewed = self.view.apply(self.intensity.levels(image))
        found = self.method.inspect(viewed.pixels)
        return Inspection(found.score, viewed.put_back(found.map))


class Anomalib:
    """anomalib's model on a copy of our backbone."""

    @torch.no_grad()  # nothing is trained
    def __init__(self, backbone: Any, name: str, views: np.ndarray, seed: int) -> None:
        from anomalib.models.image.patchcore.torch_model import PatchcoreModel

        layers = backbone.feature_info.module_name()
        self.model = PatchcoreModel(layers=layers, backbone=name, pre_trained=False)
        self.model.feature_extractor.feature_extractor.load_state_dict(backbone.state_dict())
        config = backbone.pretrained_cfg
        self.mean, self.std = (torch.tensor(config[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
        torch.manual_seed(seed)
        self.model.train()
        self.model.feature_extractor.eval()
        count = sum(len(self.model(self._tensor(view))) for view in views)  # it keeps all of them by itself
        self.model.subsample_embedding(min(CORE_SET / count, 1.0))
        self.model.eval()

    def _tensor(self, view: np.ndarray) -> torch.Tensor:
        return (torch.from_numpy(view).permute(2, 0, 1)[None].float() / 255 - self.mean) / self.std

    @torch.inference_mode()
    def inspect(self, view: np.ndarray) -> Inspection:
        """Inspect a view."""
        found = self.model(self._tensor(view))
        return Inspection(float(found.pred_score), found.anomaly_map[0, 0].numpy())


def main() -> None:
    """Fit both, evaluate both, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("category")
    parser.add_argument("data", type=Path)
    parser.add_argument("--backbone", default=PACKAGED)
    parser.add_argument("--good", type=int, help="so many good images at most, for anomalib chooses from all features")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    category, name, seed = given.category, given.backbone, given.seed
    images = read_category(given.data, category)
    split = make_split(images, Protocol(), seed)
    intensity = learn_intensity(images.train)
    view = View(choose_image_size(images.train[0].pixels().shape[:2]))
    drawn = np.random.default_rng(seed).permutation(len(images.train))[: given.good]
    good = Views([images.train[number] for number in drawn], view, intensity).pixels
    backbone = create_backbone(name, None, seed)
    ours = PatchCore.fit(backbone, good, view.image_size, seed)
    theirs = Anomalib(backbone, f"tf_{name}" if name == PACKAGED else name, good, seed)
    found = [evaluate(Judge(method, view, intensity), split.test) for method in (ours, theirs)]
    weights = draw_weights(found[0].statistics.defective, RESAMPLES)
    redrawn = [measure(one.statistics, weights) for one in found]
    print(f"{category}, {len(good)} good images, {view.image_size} px, {name}, seed {seed}; percent")
    for metric, label in METRICS.items():
        here, there = (100 * getattr(one.overall, metric) for one in found)
        low, high = np.quantile(100 * (redrawn[0][metric] - redrawn[1][metric]), [0.025, 0.975])
        difference = f"{here - there:+5.1f} ({low:+.1f} to {high:+.1f})"
        print(f"{label:12} here {here:5.1f}  anomalib {there:5.1f}  difference {difference}")


if __name__ == "__main__":
    main()
