"""Stand-ins for MMCV's operators beside their published formulas, written as loops."""

import math

import pytest
import torch

pytest.importorskip("mmcv", reason="mmcv-lite is not installed (extra openmmlab)")

import sw_models.openmmlab  # noqa: F401

mmcv_ops = pytest.importorskip("mmcv.ops")


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sampled(channel, y, x):
    """Bilinear value of a map, 0 outside."""
    total = 0.0
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < channel.shape[0] and 0 <= column < channel.shape[1]:
                total += float(channel[row, column]) * (1 - abs(y - row)) * (1 - abs(x - column))
    return total


@pytest.mark.parametrize("modulated", [False, True])
def test_deformable_convolution(modulated):
    """Each tap of the kernel reads where its offset points (and counts as much as its mask says)."""
    x, weight = random(1, 4, 5, 6), random(2, 2, 3, 3, seed=1)  # two groups
    offset = random(1, 2 * 2 * 9, 3, 3, seed=2)  # two groups of offsets; a stride of 2
    mask = random(1, 2 * 9, 3, 3, seed=3).sigmoid()
    bias = random(2, seed=4)
    if modulated:
        found = mmcv_ops.modulated_deform_conv2d(x, offset, mask, weight, bias, 2, 1, 1, 2, 2)
    else:
        found = mmcv_ops.deform_conv2d(x, offset, weight, 2, 1, 1, 2, 2)
    assert found.shape == (1, 2, 3, 3)
    for out in range(2):
        for row in range(3):
            for column in range(3):
                total = float(bias[out]) if modulated else 0.0
                for inner in range(2):
                    channel = 2 * out + inner  # of the group
                    group = channel // 2  # of the offsets
                    for tap in range(9):
                        dy, dx = offset[0, group * 18 + 2 * tap : group * 18 + 2 * tap + 2, row, column].tolist()
                        y, z = 2 * row - 1 + tap // 3 + dy, 2 * column - 1 + tap % 3 + dx
                        factor = float(mask[0, group * 9 + tap, row, column]) if modulated else 1.0
                        total += float(weight[out, inner].flatten()[tap]) * factor * sampled(x[0, channel], y, z)
                assert float(found[0, out, row, column]) == pytest.approx(total, abs=1e-9)


def test_modulated_convolution_reads_the_beginning_of_larger_offsets():
    """MMCV does not compare their size with the output's, and DyHead gives those of the level below."""
    x, weight = random(2, 2, 3, 4), random(2, 2, 3, 3, seed=1)
    offset, mask = random(2, 18, 6, 8, seed=2), random(2, 9, 6, 8, seed=3)
    first = [torch.stack([one.flatten()[: n * 12].view(n, 3, 4) for one in m]) for m, n in ((offset, 18), (mask, 9))]
    found = mmcv_ops.modulated_deform_conv2d(x, offset.requires_grad_(), mask, weight, None, 1, 1)
    assert torch.equal(found, mmcv_ops.modulated_deform_conv2d(x, *first, weight, None, 1, 1))
    found.sum().backward()
    assert offset.grad.flatten(1)[:, : 18 * 12].any()
    assert not offset.grad.flatten(1)[:, 18 * 12 :].any()
    with pytest.raises(RuntimeError, match="offset"):
        mmcv_ops.modulated_deform_conv2d(x, offset[:, :, :1], mask, weight, None, 1, 1)


def smooth(name):
    """Return a function of MMCV's whose stand-in is differentiable, and inputs in double precision."""
    if name == "deform_conv":
        return lambda x, o, w: mmcv_ops.deform_conv2d(x, o, w, 1, 1), (
            random(1, 2, 4, 4), 0.3 + 0.1 * random(1, 18, 4, 4, seed=1), random(2, 2, 3, 3, seed=2),
        )  # fmt: skip
    if name == "modulated_deform_conv":
        return lambda x, o, m, w, b: mmcv_ops.modulated_deform_conv2d(x, o, m, w, b, 1, 1, 1, 1, 1), (
            random(1, 2, 4, 4), 0.3 + 0.1 * random(1, 18, 4, 4, seed=1), random(1, 9, 4, 4, seed=2),
            random(2, 2, 3, 3, seed=3), random(2, seed=4),
        )  # fmt: skip
    if name == "carafe":
        return lambda x, m: mmcv_ops.carafe(x, m, 3, 2, 2), (random(1, 4, 3, 3), random(1, 18, 6, 6, seed=1))
    if name == "sigmoid_focal_loss":
        target = torch.tensor([0, 2, 3])
        return lambda x: mmcv_ops.sigmoid_focal_loss(x, target, 2.0, 0.25, None, "sum"), (random(3, 3),)
    if name == "deform_roi_pool":
        regions = torch.tensor([[0.0, 1, 1, 9, 11]], dtype=torch.float64)
        return lambda x, o: mmcv_ops.deform_roi_pool(x, regions, o, (2, 2), 0.5, 2, 0.1), (
            random(1, 2, 8, 8), 0.3 * random(1, 2, 2, 2, seed=1),
        )  # fmt: skip
    if name == "psa_mask":
        return lambda x: mmcv_ops.psa_mask.psa_mask(x, 1, (3, 5)), (random(1, 15, 3, 4),)
    if name == "active_rotated_filter":
        return lambda x: mmcv_ops.active_rotated_filter(x, quarter_turns()), (random(2, 1, 1, 3, 3),)
    target = torch.tensor([0, 2, 1])
    return lambda x: mmcv_ops.softmax_focal_loss(x, target, 2.0, 0.25, None, "sum"), (random(3, 3),)


@pytest.mark.parametrize(
    "name",
    [
        "deform_conv",
        "modulated_deform_conv",
        "carafe",
        "sigmoid_focal_loss",
        "softmax_focal_loss",
        "deform_roi_pool",
        "psa_mask",
        "active_rotated_filter",
    ],
)
def test_gradients_are_the_slopes_of_the_results(name):
    function, inputs = smooth(name)
    inputs = [one.requires_grad_() for one in inputs]
    assert torch.autograd.gradcheck(function, inputs)


def test_focal_losses():
    logits, target, weight = random(4, 3), torch.tensor([0, 1, 2, 3]), torch.tensor([1.0, 2.0, 3.0]).double()
    found = mmcv_ops.sigmoid_focal_loss(logits, target, 1.5, 0.3, None, "none")
    for n in range(4):
        for c in range(3):
            p = 1 / (1 + math.exp(-float(logits[n, c])))
            wanted = -0.3 * (1 - p) ** 1.5 * math.log(p) if target[n] == c else -0.7 * p**1.5 * math.log(1 - p)
            assert float(found[n, c]) == pytest.approx(wanted)
    classes = target[:3]
    found = mmcv_ops.softmax_focal_loss(logits[:3], classes, 1.5, 0.3, weight, "none")
    for n, c in enumerate(classes.tolist()):
        p = float(logits[n].softmax(0)[c])
        assert float(found.flatten()[n]) == pytest.approx(float(weight[c]) * -0.3 * (1 - p) ** 1.5 * math.log(p))


def test_roi_pooling_takes_the_largest_value_of_each_cell():
    maps = random(2, 3, 8, 8).requires_grad_()
    regions = torch.tensor([[1.0, 0, 0, 7, 7], [0, 2, 2, 5, 5]], dtype=torch.float64)
    found = mmcv_ops.RoIPool(2, 1.0)(maps, regions)
    assert torch.equal(found[0, :, 0, 0], maps[1, :, :4, :4].amax((1, 2)))
    assert torch.equal(found[1, :, 1, 1], maps[0, :, 4:6, 4:6].amax((1, 2)))
    upstream = random(*found.shape, seed=1)
    (gradient,) = torch.autograd.grad(found, maps, upstream)
    assert gradient.sum() == pytest.approx(float(upstream.sum()))
    assert (gradient != 0).sum() <= upstream.numel()
    assert torch.equal(gradient[1, 0, :4, :4].flatten().nonzero()[0], maps[1, 0, :4, :4].argmax().reshape(1))


def test_reassembled_features():
    x, masks = random(1, 4, 3, 3), random(1, 2 * 9, 6, 6, seed=1)
    found = mmcv_ops.carafe(x, masks, 3, 2, 2)
    for channel in range(4):
        for row in range(6):
            for column in range(6):
                total = 0.0
                for tap in range(9):
                    y, z = row // 2 + tap // 3 - 1, column // 2 + tap % 3 - 1
                    if 0 <= y < 3 and 0 <= z < 3:
                        total += float(x[0, channel, y, z] * masks[0, channel // 2 * 9 + tap, row, column])
                assert float(found[0, channel, row, column]) == pytest.approx(total)
    assert torch.allclose(mmcv_ops.carafe_naive(x, masks, 3, 2, 2), found)


def iou(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
    return width * height / (sum(areas) - width * height)


def boxes_and_scores(count=30):
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(count, 2, generator=generator) * 30
    return torch.cat([corner, corner + 5 + 15 * torch.rand(count, 2, generator=generator)], 1), torch.rand(
        count, generator=generator
    )


@pytest.mark.parametrize("method", ["naive", "linear", "gaussian"])
def test_soft_nms(method):
    boxes, scores = boxes_and_scores()
    found, indices = mmcv_ops.soft_nms(boxes, scores, 0.3, 0.5, 0.05, method)
    left = {i: float(score) for i, score in enumerate(scores)}
    wanted = []
    while left:
        best = max(left, key=left.get)
        wanted.append((best, left.pop(best)))
        for i in list(left):
            overlap = iou(boxes[best].tolist(), boxes[i].tolist())
            if method == "gaussian":
                left[i] *= math.exp(-(overlap**2) / 0.5)
            elif overlap >= 0.3:
                left[i] *= 0 if method == "naive" else 1 - overlap
            if left[i] < 0.05:
                del left[i]
    assert indices.tolist() == [i for i, _ in wanted]
    assert found[:, 4].tolist() == pytest.approx([score for _, score in wanted], abs=1e-5)


def test_groups_of_boxes():
    boxes, scores = boxes_and_scores()
    groups = mmcv_ops.nms_match(torch.cat([boxes, scores[:, None]], 1), 0.3)
    assert sorted(i for group in groups for i in group.tolist()) == list(range(len(boxes)))
    taken = set()
    for group in groups:
        best, *covered = group.tolist()
        assert scores[best] == max(scores[i] for i in range(len(boxes)) if i not in taken)
        taken |= {best, *covered}
        assert all(iou(boxes[best].tolist(), boxes[i].tolist()) >= 0.3 - 1e-6 for i in covered)


def test_deformable_attention_is_mmcvs_own_for_cpus():
    value, shapes = random(1, 4 * 4 + 2 * 2, 2, 3), torch.tensor([[4, 4], [2, 2]])
    places, weights = random(1, 5, 2, 2, 3, 2, seed=1).sigmoid(), random(1, 5, 2, 2, 3, seed=2).softmax(-1)
    starts = torch.tensor([0, 16])
    inputs = [one.requires_grad_() for one in (value, places, weights)]

    def attention(v, p, w):
        return mmcv_ops.multi_scale_deform_attn.MultiScaleDeformableAttnFunction.apply(v, shapes, starts, p, w, 64)

    wanted = mmcv_ops.multi_scale_deform_attn.multi_scale_deformable_attn_pytorch(value, shapes, places, weights)
    assert torch.allclose(attention(*inputs), wanted)
    assert torch.autograd.gradcheck(attention, inputs)


def quarter_turns():
    """Where turns by 0, 90, 180 and 270 degrees move each entry of a 3x3 filter, counted from 1: [1, 3, 3, 4]."""
    places = torch.arange(9).reshape(3, 3)
    return torch.stack([torch.rot90(places, -k).flatten().argsort() + 1 for k in range(4)], 1).reshape(1, 3, 3, 4)


def test_rotated_filters():
    filters = random(2, 3, 1, 3, 3)
    found = mmcv_ops.active_rotated_filter(filters, quarter_turns())
    for out in range(2):
        for k in range(4):
            assert torch.equal(found[4 * out + k], torch.rot90(filters[out, :, 0], -k, (1, 2)))


@pytest.mark.parametrize("ratio", [0, 3])
@pytest.mark.parametrize("moved", [False, True])
def test_deformable_pooling_averages_in_moved_cells(ratio, moved):
    maps, regions = random(2, 2, 9, 9), torch.tensor([[1.0, 2, 3, 12, 9], [0, 4, 4, 11, 13]], dtype=torch.float64)
    offset = random(2, 2, 2, 2, seed=1) if moved else None
    found = mmcv_ops.deform_roi_pool(maps, regions, offset, (2, 2), 0.5, ratio, 0.1)
    for k, (image, *corners) in enumerate(regions.tolist()):
        left, top, right, bottom = (0.5 * corner - 0.5 for corner in corners)
        rows, columns = ratio or math.ceil((bottom - top) / 2), ratio or math.ceil((right - left) / 2)
        for row in range(2):
            for column in range(2):
                dx, dy = offset[k, :, row, column].tolist() if moved else (0.0, 0.0)
                for channel in range(2):
                    total = 0.0
                    for i in range(rows):
                        for j in range(columns):
                            y = top + (bottom - top) * ((row + (i + 0.5) / rows) / 2 + 0.1 * dy)
                            x = left + (right - left) * ((column + (j + 0.5) / columns) / 2 + 0.1 * dx)
                            total += sampled(maps[int(image), channel], y, x)
                    assert float(found[k, channel, row, column]) == pytest.approx(total / (rows * columns))


def test_a_masked_convolution_is_a_convolution_where_the_mask_is():
    x, weight, bias = random(1, 3, 5, 6), random(4, 3, 3, 3, seed=1), random(4, seed=2)
    mask = (random(1, 5, 6, seed=3) > 0).double()
    found = mmcv_ops.masked_conv2d(x, mask, weight, bias, 1)
    assert torch.allclose(found, torch.nn.functional.conv2d(x, weight, bias, padding=1) * mask)


@pytest.mark.parametrize("kind", [0, 1])
def test_attention_of_pairs_of_places(kind):
    masks = random(2, 3 * 5, 3, 4)
    found = mmcv_ops.psa_mask.psa_mask(masks, kind, (3, 5))
    wanted = torch.zeros(2, 12, 3, 4, dtype=torch.float64)
    for row in range(3):
        for column in range(4):
            for i in range(3):
                for j in range(5):
                    y, x = row + i - 1, column + j - 2
                    if 0 <= y < 3 and 0 <= x < 4:
                        if kind == 0:
                            wanted[:, 4 * y + x, row, column] = masks[:, 5 * i + j, row, column]
                        else:
                            wanted[:, 4 * row + column, y, x] = masks[:, 5 * i + j, row, column]
    assert torch.equal(found, wanted)
