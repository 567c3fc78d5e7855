import numpy as np
import pytest
import torch

from sw_seg import registration  # noqa: F401
from sw_seg.metric import ClassIoUMetric


def test_figures_are_those_of_the_definition():
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 3, (4, 10, 10))
    truth[0, :5] = 255
    guess = generator.integers(0, 3, (4, 10, 10))
    metric = ClassIoUMetric()
    metric.dataset_meta = {"classes": ("a", "b", "c", "absent")}
    for t, g in zip(truth, guess, strict=True):
        sample = {"pred_sem_seg": {"data": torch.tensor(g)}, "gt_sem_seg": {"data": torch.tensor(t)}}
        metric.process({}, [sample])
    figures = metric.compute_metrics(metric.results)

    counted = truth != 255
    for i, name in enumerate("abc"):
        both = ((truth == i) & (guess == i)).sum()
        either = (((truth == i) | (guess == i)) & counted).sum()
        assert figures[f"IoU/{name}"] == pytest.approx(100 * both / either)
        assert figures[f"Acc/{name}"] == pytest.approx(100 * both / (truth == i).sum())
    assert figures["mIoU"] == pytest.approx(np.mean([figures[f"IoU/{name}"] for name in "abc"]))
    assert figures["mAcc"] == pytest.approx(np.mean([figures[f"Acc/{name}"] for name in "abc"]))
    assert figures["aAcc"] == pytest.approx(100 * (truth == guess)[counted].mean())
    assert "IoU/absent" not in figures
