import sys
import types

import pytest
import torch

pytest.importorskip("mmcv", reason="mmcv-lite is not installed (extra openmmlab)")

from sw_models.openmmlab import mmcv_ext as compiled_ops

mmcv_ops = pytest.importorskip("mmcv.ops")


def overlap(a, b, offset):
    """Intersection over union of two boxes, by the definition."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]) + offset)
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]) + offset)

    def area(box):
        return (box[2] - box[0] + offset) * (box[3] - box[1] + offset)

    return width * height / (area(a) + area(b) - width * height)


@pytest.mark.parametrize("offset", [0, 1])
def test_nms_keeps_what_no_better_box_covers(offset):
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(60, 2, generator=generator) * 40
    boxes = torch.cat([corner, corner + 2 + torch.rand(60, 2, generator=generator) * 20], dim=1)
    scores = torch.rand(60, generator=generator)
    kept = []
    for i in scores.argsort(descending=True).tolist():
        if all(overlap(boxes[i].tolist(), boxes[k].tolist(), offset) <= 0.4 for k in kept):
            kept.append(i)
    _, indices = mmcv_ops.nms(boxes, scores, 0.4, offset=offset)
    assert indices.tolist() == kept


def sampled(channel, y, x):
    """Bilinear value of a map, 0 further than a pixel outside."""
    height, width = channel.shape
    if y < -1 or y > height or x < -1 or x > width:
        return 0.0
    y, x = min(max(y, 0.0), height - 1), min(max(x, 0.0), width - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    upper = channel[top, left] * (1 - x + left) + channel[top, right] * (x - left)
    lower = channel[bottom, left] * (1 - x + left) + channel[bottom, right] * (x - left)
    return float(upper * (1 - y + top) + lower * (y - top))


@pytest.mark.parametrize("aligned", [True, False])
def test_roi_align_averages_samples_in_each_cell(aligned):
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 2, 9, 11, generator=generator)
    region = [1.0, 2.0, 3.0, 15.0, 13.0]  # image, x1, y1, x2, y2
    scale, cells, samples = 0.5, 2, 2
    shift = 0.5 if aligned else 0.0
    x1, y1, x2, y2 = (value * scale - shift for value in region[1:])
    width, height = (x2 - x1) / cells, (y2 - y1) / cells
    expected = torch.tensor(
        [
            [
                sum(
                    sampled(
                        channel, y1 + (row + (i + 0.5) / samples) * height, x1 + (col + (j + 0.5) / samples) * width
                    )
                    for i in range(samples)
                    for j in range(samples)
                )
                / samples**2
                for row in range(cells)
                for col in range(cells)
            ]
            for channel in maps[1]
        ]
    )
    layer = mmcv_ops.RoIAlign(cells, scale, samples, aligned=aligned)
    assert torch.allclose(layer(maps, torch.tensor([region])).reshape(2, -1), expected, atol=1e-5)


def test_the_gradient_of_roi_align_is_the_transpose_of_it():
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(1, 3, 8, 8, generator=generator, requires_grad=True)
    regions = torch.tensor([[0.0, 1.0, 1.0, 6.0, 7.0], [0.0, 0.0, 2.0, 5.0, 5.0]])
    output = mmcv_ops.RoIAlign(2, 1.0, 2)(maps, regions)
    upstream = torch.randn(output.shape, generator=generator)
    (gradient,) = torch.autograd.grad(output, maps, upstream)
    # linear in the maps, so <A maps, upstream> = <maps, A' upstream>
    assert torch.allclose((output * upstream).sum(), (maps * gradient).sum(), atol=1e-4)


def test_what_has_no_stand_in_says_so_when_it_is_called():
    with pytest.raises(NotImplementedError, match=r"min_area_polygons has no stand-in, a compiled mmcv"):
        mmcv_ops.min_area_polygons(torch.zeros(1, 18))
    with pytest.raises(NotImplementedError, match="pool_mode='max'"):
        mmcv_ops.RoIAlign(2, pool_mode="max")(torch.zeros(1, 1, 4, 4), torch.zeros(1, 5))


def test_it_has_no_names_that_mmcv_does_not_know():
    module = sys.modules["mmcv._ext"]
    assert not hasattr(module, "anything")
    assert hasattr(module, "nms_rotated")


def test_the_stand_in_is_a_module_like_any_other():
    module = sys.modules["mmcv._ext"]
    assert module.__spec__.name == module.__name__ == "mmcv._ext"
    assert not hasattr(module, "__path__")


def test_a_compiled_module_wins(monkeypatch):
    monkeypatch.setitem(sys.modules, "mmcv._ext", types.ModuleType("mmcv._ext"))
    finders = list(sys.meta_path)
    compiled_ops.install()
    assert sys.meta_path == finders
