"""What exact per-region overlap costs: seconds and memory for 100 score maps of 1024x1024.

python packages/sw-anomaly/tools/aupro_cost.py
"""

from __future__ import annotations

import resource
import time

import numpy as np
from scipy import ndimage

from sw_anomaly.metrics.bootstrap import bootstrap, collect
from sw_anomaly.metrics.ranking import rank_pixels, region_overlap

IMAGES, SIDE = 100, 1024


def main() -> None:
    """Draw maps and masks, measure, print."""
    rng = np.random.default_rng(0)
    maps, masks = [], []
    for number in range(IMAGES):
        smooth = ndimage.gaussian_filter(rng.normal(size=(SIDE // 4, SIDE // 4)).astype(np.float32), 6)
        smooth = np.kron(smooth, np.ones((4, 4), dtype=np.float32))
        masks.append(smooth > 0.07 if number % 4 else np.zeros((SIDE, SIDE), dtype=bool))
        maps.append(smooth + 0.05 * rng.standard_normal((SIDE, SIDE), dtype=np.float32))
    share = np.mean([mask.mean() for mask in masks])
    print(f"{IMAGES} maps of {SIDE}x{SIDE}, {share:.1%} of the pixels defective; memory so far {peak_memory():.2f} GB")

    start = time.perf_counter()
    pixels = rank_pixels(maps, masks)
    areas = region_overlap(pixels, maps, masks).areas
    print(f"AUPRO {areas}: {time.perf_counter() - start:.1f} s, memory at most {peak_memory():.2f} GB")

    start = time.perf_counter()
    pixels.auroc(), pixels.average_precision(), pixels.f1_max()
    print(f"pixel AUROC, AP and F1-max: {time.perf_counter() - start:.1f} s more")

    start = time.perf_counter()
    scores, defective = [float(one.max()) for one in maps], [bool(mask.any()) for mask in masks]
    bootstrap(
        collect([str(n) for n in range(IMAGES)], defective, scores, maps, masks, pixels, [one > 0.2 for one in maps])
    )
    print(f"intervals of all metrics: {time.perf_counter() - start:.1f} s more, memory at most {peak_memory():.2f} GB")


def peak_memory() -> float:
    """Return the most memory that this process has had, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    main()
