"""``view`` and ``pose`` as tensor operations of fixed sizes, for a graph in which there is no Python.

An image lies in the upper left corner of a canvas, a square of ``image_size`` pixels, whose rest does not count. What
Pillow, OpenCV and scikit-image do in ``view`` and ``pose`` is done here by their arithmetic, and tested against them.
Evaluation keeps those, which are faster.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sw_anomaly.data.intensity import Intensity
from sw_anomaly.preprocessing.pose import AREA, CONTRAST, DARKEST, ELONGATION, ENDS, GAP, NORMAL_SIDE, TRUNCATE, Crop
from sw_anomaly.preprocessing.scaling import scale_planes
from sw_anomaly.preprocessing.view import View

BINS = 256  # of the histogram from which Otsu's threshold follows
ROUNDS, JUMPS = 10, 3  # of labelling, and in each, enough for mazes, see the tests
DOUBLE = torch.float64


class ViewGraph(nn.Module):
    """``View.apply``: an image, [H, W, 3] as files hold it, to its view and the way back.

    The view is float32 [1, 3, h, w], levels from 0 to 255. The way back lays a map of the view, float32 [h, w], over
    the image: float32 [H, W].
    """

    def __init__(self, view: View, intensity: Intensity = Intensity()) -> None:  # noqa: B008  it is frozen
        super().__init__()
        self.size = view.image_size
        self.crop = view.crop
        self.is_deep = intensity.white is not None  # levels are whole numbers in 8-bit images alone
        self.gain = 255 / (intensity.white or 255)

    def forward(self, image: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """View an image."""
        sides = image.shape[:2]
        extent = torch.stack([torch.scalar_tensor(side, dtype=torch.long) for side in sides])
        shape = torch.tensor([self.size] * 2) if self.crop is None else scaled_down(extent, self.size)
        levels = (image.to(DOUBLE) * self.gain).float() if self.is_deep else image
        canvas = scale_planes(levels.permute(2, 0, 1), extent, shape, self.size, self.size).float()

        def enlarge(heat: Tensor) -> Tensor:
            return scale_planes(heat[None], shape, extent, *sides)[0]

        if self.crop is None:
            return canvas[None], enlarge
        crop = self.crop
        start, axis, ground = find_pose(canvas, shape, crop)
        view = take(canvas, shape, start, axis, ground, crop, self.is_deep)[None]
        return view, lambda heat: enlarge(put_back(heat, start, axis, crop, self.size))


def scaled_down(extent: Tensor, size: int) -> Tensor:
    """Height and width, int64 [2], to which ``view.scale_down`` scales an image of this ``extent``."""
    return torch.round(extent * (size / extent.max().to(DOUBLE)).clamp(max=1)).clamp(min=1).long()


def find_pose(canvas: Tensor, shape: Tensor, crop: Crop) -> tuple[Tensor, Tensor, Tensor]:
    """``start`` [2], ``axis`` [2] and ``ground`` [3] of the part; of an upright one in the middle if there is none."""
    ground = border_median(canvas, shape)
    part, found = find_part(canvas, shape, ground)
    weights, side = part.to(DOUBLE), torch.arange(canvas.shape[1], dtype=DOUBLE)
    of_rows, of_columns = weights.sum(1), weights.sum(0)
    count = of_rows.sum()
    middle = torch.stack([of_rows @ side, of_columns @ side]) / count
    down, right = side - middle[0], side - middle[1]
    rows, columns, both = of_rows @ down.square(), of_columns @ right.square(), down @ (weights @ right)
    split = ((rows - columns).square() + 4 * both.square()).sqrt()  # the eigenvalues are (rows + columns ± split) / 2
    found = found & (rows + columns + split >= ELONGATION**2 * (rows + columns - split))
    axis = torch.where(
        rows > columns, torch.stack([rows - columns + split, 2 * both]), torch.stack([2 * both, columns - rows + split])
    )
    axis = axis / axis.square().sum().sqrt()
    along, across = (_plane(down, right, direction) for direction in (axis, _across(axis)))
    first, last = -_far_end(-along, part, count), _far_end(along, part, count)
    heavier_end_last = ((along - (first + last) / 2) * across.square() * weights).sum() > 0
    start = middle + torch.where(heavier_end_last, last, first) * axis
    axis = torch.where(heavier_end_last, -axis, axis)
    upright = shape / 2 - torch.tensor([crop.height / 2 - crop.margin, 0], dtype=DOUBLE)
    return (
        torch.where(found, start, upright),
        torch.where(found, axis, torch.tensor([1, 0], dtype=DOUBLE)),
        torch.where(found, ground.to(DOUBLE), torch.tensor(crop.ground, dtype=DOUBLE)),
    )


def border_median(canvas: Tensor, shape: Tensor) -> Tensor:
    """Return the median color, float32 [3], of an image's border."""
    last, place = shape - 1, torch.arange(canvas.shape[1])
    rows, columns = (
        canvas.index_select(axis, torch.stack([torch.zeros_like(end), end])) for axis, end in enumerate(last, start=1)
    )
    levels, within = torch.cat([rows, columns.mT], 1), torch.stack([place < shape[1]] * 2 + [place < shape[0]] * 2)
    border = torch.where(within, levels, torch.inf).flatten(1)  # 2 * shape.sum() of them count
    ordered = border.topk(border.shape[1], largest=False).values
    half = shape.sum()
    return ordered.index_select(1, torch.stack([half - 1, half])).mean(1)


def find_part(canvas: Tensor, shape: Tensor, ground: Tensor) -> tuple[Tensor, Tensor]:
    """Return the silhouette of the part, bool [S, S], and whether it can be told from its ground, bool []."""
    size = canvas.shape[1]
    place = torch.arange(size)
    within = (place < shape[0])[:, None] & (place < shape[1])
    grain = shape.max() / NORMAL_SIDE
    difference = reduce(torch.maximum, (canvas - ground[:, None, None]).abs())
    steepness = gradient_magnitude(difference, shape, grain, math.ceil(TRUNCATE * size / NORMAL_SIDE))
    edges = (steepness > otsu(steepness, within)) & within
    reach, most = torch.round(GAP * grain).clamp(min=1), math.ceil(GAP * size / NORMAL_SIDE)
    edges = F.pad(edges, (most,) * 4)
    edges = erode(dilate(edges, reach, most), reach, most)[most:-most, most:-most] & within
    filled = components(F.pad(edges, (1, 1, 1, 1))) != 0  # component 0 is what is around the image
    label = components(filled)
    sizes = torch.zeros(label.numel()).scatter_add(0, label.flatten(), filled.flatten().float())
    largest = ((label == sizes.argmax()) & filled)[1:-1, 1:-1]
    half = (reach / 2).floor().clamp(min=1)
    most = max(most // 2, 1)
    part = dilate(erode(largest, half, most), half, most) & within
    count, pixels = part.float().sum(), shape.prod()
    contrast = (difference * part).sum() / count - (difference * (within & ~part)).sum() / (pixels - count)
    return part, (count > AREA[0] * pixels) & (count < AREA[1] * pixels) & (contrast > CONTRAST)


def gradient_magnitude(image: Tensor, shape: Tensor, sigma: Tensor, most: int) -> Tensor:
    """``pose.gradient_magnitude`` of an image [S, S]; ``most`` bounds a filter's reach."""
    offsets = torch.arange(-most, most + 1)
    places = torch.arange(-most, len(image) + most)
    smooth = torch.exp(-0.5 * (offsets / sigma).square()) * (offsets.abs() <= (TRUNCATE * sigma + 0.5).floor())
    smooth = smooth / smooth.sum()
    steep = smooth * offsets / sigma.square()

    def filtered(lines: Tensor, extent: Tensor, kernel: Tensor) -> Tensor:
        """Along the first axis, reflected at both ends."""
        place = torch.where(places < 0, -1 - places, places)
        place = torch.where(place >= extent, 2 * extent.long() - 1 - place, place).clamp(0, len(lines) - 1)
        return F.conv2d(lines.index_select(0, place)[None, None], kernel.float()[None, None, :, None])[0, 0]

    image = image.float()
    down = filtered(filtered(image, shape[0], steep).T, shape[1], smooth).T
    across = filtered(filtered(image, shape[0], smooth).T, shape[1], steep).T
    return (down.square() + across.square()).sqrt()


def otsu(values: Tensor, counted: Tensor) -> Tensor:
    """``skimage.filters.threshold_otsu`` of those values that are ``counted``, bool of the same shape."""
    low = torch.where(counted, values, torch.inf).min()
    span = torch.where(counted, values, -torch.inf).max() - low
    bins = ((values - low) / span.clamp(min=1e-9) * BINS).clamp(0, BINS - 1).long()
    counts = torch.zeros(BINS, dtype=DOUBLE).scatter_add(0, bins.flatten(), counted.flatten().to(DOUBLE))
    centres = low + (torch.arange(BINS) + 0.5) * span / BINS
    below, weight = counts.cumsum(0)[:-1], (counts * centres).cumsum(0)
    above = (counts.sum() - below).clamp(min=1)
    between = below * above * (weight[:-1] / below - (weight[-1] - weight[:-1]) / above).square()
    return centres.index_select(0, between.argmax(keepdim=True))[0]


def dilate(mask: Tensor, reach: Tensor, most: int) -> Tensor:
    """Grow a mask, bool [H, W], by ``reach`` steps to the four neighbours, ``most`` at most."""
    return _repeated(torch.logical_or, mask, reach, most)


def erode(mask: Tensor, reach: Tensor, most: int) -> Tensor:
    """Shrink a mask, bool [H, W], by ``reach`` steps, from its border, too."""
    return _repeated(torch.logical_and, mask, reach, most)


def _repeated(join: Callable[[Tensor, Tensor], Tensor], mask: Tensor, reach: Tensor, most: int) -> Tensor:
    """Join each pixel of a mask with its four neighbours, ``reach`` times."""
    steps = [mask]
    for _ in range(most):
        around = F.pad(steps[-1], (1, 1, 1, 1))
        above, below, left, right = around[:-2, 1:-1], around[2:, 1:-1], around[1:-1, :-2], around[1:-1, 2:]
        steps.append(join(join(join(above, below), join(left, right)), steps[-1]))
    return torch.stack(steps).index_select(0, reach.long().reshape(1))[0]


def components(mask: Tensor) -> Tensor:
    """For each pixel the first pixel, counted in rows, of its four-connected region of equal pixels: int64 [H, W].

    Runs of equal pixels in a row are joined with those that they touch in the row above, by hooking and pointer jumping
    (Shiloach and Vishkin, "An O(log n) parallel connectivity algorithm", 1982): of the runs that two touching ones
    point to the later one comes to point to the earlier one, and pointers are shortened.
    """
    starts = F.pad(mask[:, 1:] != mask[:, :-1], (1, 0), value=True)
    run = starts.flatten().long().cumsum(0) - 1
    first = starts.flatten().nonzero()[:, 0]
    # Two runs touch once, in the first column that both have.
    touch = (mask[1:] == mask[:-1]) & (starts[1:] | starts[:-1])
    below = touch.flatten().nonzero()[:, 0] + mask.shape[1]
    one, other = run.index_select(0, below), run.index_select(0, below - mask.shape[1])
    pointers = run.index_select(0, first)
    for _ in range(ROUNDS):
        ends = pointers.index_select(0, one), pointers.index_select(0, other)
        later, earlier = torch.maximum(*ends), torch.minimum(*ends)
        pointers = pointers.scatter_reduce(0, later, earlier, "amin")
        for _ in range(JUMPS):
            pointers = pointers.index_select(0, pointers)
    return first.index_select(0, pointers).index_select(0, run).view(mask.shape)


def _far_end(along: Tensor, part: Tensor, count: Tensor) -> Tensor:
    """Return the quantile ``1 - ENDS`` of positions on the axis, of those of the part."""
    most = math.ceil(ENDS * AREA[1] * part.numel()) + 2
    highest = torch.where(part, along, -torch.inf).flatten().topk(most).values
    rank = ENDS * (count - 1).to(DOUBLE).clamp(min=0)
    before = rank.floor().clamp(max=most - 2)
    near = highest[torch.stack([before, before + 1]).long()]
    return near[0] + (rank - before) * (near[1] - near[0])


def take(
    canvas: Tensor, shape: Tensor, start: Tensor, axis: Tensor, ground: Tensor, crop: Crop, is_deep: bool = False
) -> Tensor:
    """``pose.take``: the view of the part, float32 [3, crop.height, crop.width], of whole numbers unless deep."""
    rows, columns = torch.arange(crop.height, dtype=DOUBLE), torch.arange(crop.width, dtype=DOUBLE)
    steps = torch.stack([axis, _across(axis)], 1)  # of a place in the image, with each row and column of the view
    origin = _origin(start, axis, crop)
    places = [_plane(rows, columns, step) + first for step, first in zip(steps, origin, strict=True)]
    near = [place.floor() for place in places]
    reach = torch.arange(4)[:, None, None] - 1  # Pillow's bicubic filter sees so many pixels each way
    around = [
        (one.long() + reach).clamp(min=0).minimum(side - 1) for one, side in zip(near, shape, strict=True)
    ]  # [4, h, w]
    index = (around[0][:, None] * canvas.shape[2] + around[1]).flatten()
    down, right = ((place - one).float() for place, one in zip(places, near, strict=True))
    seen = [channel.flatten().gather(0, index).view(4, 4, *down.shape).unbind(1) for channel in canvas]
    cut = torch.stack([_cubic(_cubic(one, right).unbind(), down) for one in seen])
    beyond = _beyond(places, shape)
    cut = torch.where(beyond, torch.round(ground).float()[:, None, None], cut)
    gain = (torch.tensor(crop.ground, dtype=DOUBLE) + DARKEST) / (ground + DARKEST)
    if is_deep:
        return (cut * gain.float()[:, None, None]).clamp(min=0)
    return torch.round(cut.clamp(0, 255).floor() * gain[:, None, None]).clamp(0, 255).float()


def put_back(heat: Tensor, start: Tensor, axis: Tensor, crop: Crop, size: int) -> Tensor:
    """``pose.put_back``: a map of the view, float32 [height, width], over the canvas, float32 [size, size]."""
    side, origin = torch.arange(size, dtype=DOUBLE), _origin(start, axis, crop)
    down, right = side - origin[0], side - origin[1]
    places = [_plane(down, right, direction) for direction in (axis, _across(axis))]
    shape = torch.tensor(heat.shape)
    grid = [(2 * place + 1) / extent - 1 for place, extent in zip(places, shape, strict=True)]  # from -1 to 1
    sampled = F.grid_sample(
        heat[None, None],
        torch.stack(grid[::-1], 2).float()[None],
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )
    return torch.where(_beyond(places, shape), 0.0, sampled[0, 0])


def _plane(rows: Tensor, columns: Tensor, slope: Tensor) -> Tensor:
    """Return what rises by ``slope`` [2] along rows and columns, at each pair of them: [len(rows), len(columns)]."""
    return (slope[0] * rows)[:, None] + slope[1] * columns


def _across(axis: Tensor) -> Tensor:
    return torch.stack([-axis[1], axis[0]])


def _origin(start: Tensor, axis: Tensor, crop: Crop) -> Tensor:
    return start - crop.margin * axis - (crop.width - 1) / 2 * _across(axis)


def _beyond(places: Sequence[Tensor], shape: Tensor) -> Tensor:
    """Where places lie outside an image of this ``shape``, bool [h, w]."""
    outside = [(place < -0.5) | (place >= side - 0.5) for place, side in zip(places, shape, strict=True)]
    return outside[0] | outside[1]


def _cubic(values: Sequence[Tensor], part: Tensor) -> Tensor:
    """Pillow's polynomial, term for term: equal values are to give that value without any rounding."""
    a, b, c, d = values
    return b + part * (c - a + part * (2 * (a - b) + c - d + part * (b - a + d - c)))
