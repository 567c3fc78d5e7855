"""``view`` and ``pose`` as tensor operations of fixed sizes, for a graph in which there is no Python.

An image lies in the upper left corner of a canvas, a square of ``image_size`` pixels, whose rest does not count. What
Pillow, OpenCV and scikit-image do in ``view`` and ``pose`` is done here by their arithmetic, and tested against them.
Evaluation keeps those: they take a tenth of the time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sw_anomaly.data.intensity import Intensity
from sw_anomaly.preprocessing.pose import AREA, CONTRAST, DARKEST, ELONGATION, ENDS, GAP, NORMAL_SIDE, TRUNCATE, Crop
from sw_anomaly.preprocessing.view import View

BINS = 256  # of the histogram from which Otsu's threshold follows
ROUNDS, JUMPS = 10, 3  # of labelling, and in each, enough for mazes, see the tests
DOUBLE = torch.float64

Kernel = Callable[[Sequence[Tensor], Tensor], Tensor]  # values around a place, and how far it is from one to the next


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
        extent = torch.stack([torch.scalar_tensor(side, dtype=DOUBLE) for side in sides])
        small = torch.full((2,), self.size, dtype=DOUBLE) if self.crop is None else scaled_down(extent, self.size)
        down = [scaling(side, self.size, extent[i], small[i]).float() for i, side in enumerate(sides)]
        levels = image.to(DOUBLE) * self.gain if self.is_deep else image
        canvas = self._round(torch.einsum("hwc,vw->chv", levels.float(), down[1]))  # as Pillow does, in two steps
        canvas = self._round(torch.einsum("chv,uh->cuv", canvas, down[0])).to(DOUBLE)

        def enlarge(heat: Tensor) -> Tensor:
            up = [scaling(self.size, side, small[i], extent[i]) for i, side in enumerate(sides)]
            return (up[0] @ heat.to(DOUBLE) @ up[1].T).float()

        if self.crop is None:
            return canvas.float()[None], enlarge
        crop = self.crop
        start, axis, ground = find_pose(canvas, small, crop)
        view = take(canvas, small, start, axis, ground, crop, self.is_deep).float()[None]
        return view, lambda heat: enlarge(put_back(heat, start, axis, crop, self.size))

    def _round(self, levels: Tensor) -> Tensor:
        return levels if self.is_deep else (levels + 0.5).floor()


def scaled_down(extent: Tensor, size: int) -> Tensor:
    """Height and width, float64 [2], to which ``view.scale_down`` scales an image of this ``extent``."""
    return torch.round(extent * (size / extent.max()).clamp(max=1)).clamp(min=1)


def scaling(source: int, target: int, extent: Tensor, wanted: Tensor) -> Tensor:
    """Return the matrix [target, source] by which Pillow scales ``extent`` pixels of a line to ``wanted``."""
    scale = extent / wanted
    centres = (torch.arange(target, dtype=DOUBLE)[:, None] + 0.5) * scale
    places = torch.arange(source, dtype=DOUBLE)
    weights = (1 - (places + 0.5 - centres).abs() / scale.clamp(min=1)).clamp(min=0) * (places < extent)
    return weights / weights.sum(1, keepdim=True).clamp(min=1e-9)


def find_pose(canvas: Tensor, shape: Tensor, crop: Crop) -> tuple[Tensor, Tensor, Tensor]:
    """``start`` [2], ``axis`` [2] and ``ground`` [3] of the part; of an upright one in the middle if there is none."""
    ground = border_median(canvas, shape)
    part, found = find_part(canvas, shape, ground)
    side = torch.arange(canvas.shape[1], dtype=DOUBLE)
    places = torch.stack(torch.meshgrid(side, side, indexing="ij"))
    count = part.sum()
    middle = (places * part).sum((1, 2)) / count
    places = (places - middle[:, None, None]) * part
    rows, columns, both = *places.square().sum((1, 2)), places.prod(0).sum()
    split = ((rows - columns).square() + 4 * both.square()).sqrt()  # the eigenvalues are (rows + columns ± split) / 2
    found = found & (rows + columns + split >= ELONGATION**2 * (rows + columns - split))
    axis = torch.where(
        rows > columns, torch.stack([rows - columns + split, 2 * both]), torch.stack([2 * both, columns - rows + split])
    )
    axis = axis / axis.square().sum().sqrt()
    along, across = torch.tensordot(axis, places, 1), torch.tensordot(_across(axis), places, 1)
    first, last = -_far_end(-along, part, count), _far_end(along, part, count)
    heavier_end_last = ((along - (first + last) / 2) * across.square()).sum() > 0
    start = middle + torch.where(heavier_end_last, last, first) * axis
    axis = torch.where(heavier_end_last, -axis, axis)
    upright = shape / 2 - torch.tensor([crop.height / 2 - crop.margin, 0], dtype=DOUBLE)
    return (
        torch.where(found, start, upright),
        torch.where(found, axis, torch.tensor([1, 0], dtype=DOUBLE)),
        torch.where(found, ground, torch.tensor(crop.ground, dtype=DOUBLE)),
    )


def border_median(canvas: Tensor, shape: Tensor) -> Tensor:
    """Return the median color, float64 [3], of an image's border."""
    last, place = shape.long() - 1, torch.arange(canvas.shape[1])
    rows = canvas[:, torch.stack([torch.zeros_like(last[0]), last[0]])]
    columns = canvas[:, :, torch.stack([torch.zeros_like(last[1]), last[1]])].mT
    levels, within = torch.cat([rows, columns], 1), torch.stack([place < shape[1]] * 2 + [place < shape[0]] * 2)
    border = torch.where(within, levels, torch.inf).flatten(1)  # 2 * shape.sum() of them count
    ordered = border.topk(border.shape[1], largest=False).values
    half = shape.sum().long()
    return ordered.index_select(1, torch.stack([half - 1, half])).mean(1)


def find_part(canvas: Tensor, shape: Tensor, ground: Tensor) -> tuple[Tensor, Tensor]:
    """Return the silhouette of the part, bool [S, S], and whether it can be told from its ground, bool []."""
    size = canvas.shape[1]
    place = torch.arange(size)
    within = (place < shape[0])[:, None] & (place < shape[1])
    grain = shape.max() / NORMAL_SIDE
    difference = (canvas - ground[:, None, None]).abs().amax(0)
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
    part = dilate(erode(largest, half, most), half, most) & within
    count, pixels = part.sum(), shape.prod()
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
    return _around(mask, _diamond(reach, most)) > 0.5


def erode(mask: Tensor, reach: Tensor, most: int) -> Tensor:
    """Shrink a mask, bool [H, W], by ``reach`` steps, from its border, too."""
    diamond = _diamond(reach, most)
    return _around(mask, diamond) > diamond.sum() - 0.5


def _diamond(reach: Tensor, most: int) -> Tensor:
    offset = torch.arange(-most, most + 1).abs()
    return (offset[:, None] + offset <= reach).float()


def _around(mask: Tensor, kernel: Tensor) -> Tensor:
    return F.conv2d(mask.float()[None, None], kernel[None, None], padding=len(kernel) // 2)[0, 0]


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
    """``pose.take``: the view of the part, float64 [3, crop.height, crop.width], of whole numbers unless deep."""
    rows, columns = torch.arange(crop.height, dtype=DOUBLE), torch.arange(crop.width, dtype=DOUBLE)
    across, origin = _across(axis), _origin(start, axis, crop)
    places = origin[:, None, None] + rows[:, None] * axis[:, None, None] + columns * across[:, None, None]
    cut = _sample(canvas, places, shape, 4, _cubic, torch.round(ground))
    gain = (torch.tensor(crop.ground, dtype=DOUBLE) + DARKEST) / (ground + DARKEST)
    if is_deep:
        return (cut * gain[:, None, None]).clamp(min=0)
    return torch.round(cut.clamp(0, 255).floor() * gain[:, None, None]).clamp(0, 255)


def put_back(heat: Tensor, start: Tensor, axis: Tensor, crop: Crop, size: int) -> Tensor:
    """``pose.put_back``: a map of the view, float32 [height, width], over the canvas, float64 [size, size]."""
    side = torch.arange(size, dtype=DOUBLE)
    places = torch.stack(torch.meshgrid(side, side, indexing="ij")) - _origin(start, axis, crop)[:, None, None]
    places = torch.stack([torch.tensordot(axis, places, 1), torch.tensordot(_across(axis), places, 1)])
    shape = torch.tensor([crop.height, crop.width], dtype=DOUBLE)
    return _sample(heat.to(DOUBLE)[None], places, shape, 2, _linear, torch.zeros(1, dtype=DOUBLE))[0]


def _across(axis: Tensor) -> Tensor:
    return torch.stack([-axis[1], axis[0]])


def _origin(start: Tensor, axis: Tensor, crop: Crop) -> Tensor:
    return start - crop.margin * axis - (crop.width - 1) / 2 * _across(axis)


def _sample(pixels: Tensor, places: Tensor, shape: Tensor, count: int, kernel: Kernel, fill: Tensor) -> Tensor:
    """Pixels [C, h, w] at places [2, H, W], ``fill`` [C] beyond them: from ``count``² pixels each, as Pillow."""
    near = places.floor()
    reach = torch.arange(count) + 1 - count // 2
    around = near.long() + reach[:, None, None, None]
    rows = around[:, None, 0].clamp(min=0).minimum(shape[0].long() - 1)
    columns = around[None, :, 1].clamp(min=0).minimum(shape[1].long() - 1)
    index = rows * pixels.shape[2] + columns  # [count, count, H, W]
    seen = pixels.flatten(1).gather(1, index.flatten().expand(len(pixels), -1)).view(-1, *index.shape)
    down, right = places - near
    sampled = kernel(kernel(seen.unbind(2), right).unbind(1), down)
    beyond = (places < -0.5) | (places >= shape[:, None, None] - 0.5)
    return torch.where(beyond.any(0), fill[:, None, None], sampled)


def _linear(values: Sequence[Tensor], part: Tensor) -> Tensor:
    before, after = values
    return before + (after - before) * part


def _cubic(values: Sequence[Tensor], part: Tensor) -> Tensor:
    """Pillow's polynomial, term for term: equal values are to give that value without any rounding."""
    a, b, c, d = values
    return b + part * (c - a + part * (2 * (a - b) + c - d + part * (b - a + d - c)))
