"""What a method learns from wrong verdicts: places that look like those which misled it count less, or more.

An image that was wrongly called defective is good where it was hottest, and so are places that look the same to the
method. One that was wrongly called good is likely to be defective where it was hottest, unless good training images
look like that, too. Places that look like none of these are judged as before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SHARE = 0.005  # of the places of a defective image, the hottest, that are likely to be so
FALSE = 0.8  # times the threshold: places of a good image that are hotter misled
MOST_PLACES = 300  # of an image that teach
COMPARED = 200  # places of each good training image that tell what good places look like
REACH = 0.5  # how far what a place teaches reaches, on the way from it to the nearest good place
BEYOND = 2.0  # times the logarithm of what would bring the score to the threshold, for places that are merely alike
MOST = 6.0  # logarithm of a factor


class GoodPlaces:
    """What places of good training images look like.

    Attributes:
        scale: How far places are from the nearest one in another image, in the median; [].
        places: Descriptions in these units, [N, C].
    """

    def __init__(self, images: Sequence[Tensor], scale: Tensor | None = None) -> None:
        """Descriptions of places of each of two images or more, [P, C]; ``scale`` if it is known."""
        if scale is None:
            others = [torch.cat([*images[:number], *images[number + 1 :]]) for number in range(len(images))]
            apart = [_squared(one, other).amin(1) for one, other in zip(images, others, strict=True)]
            scale = torch.cat(apart).median().sqrt().clamp(min=1e-6)
        self.scale, self.places = scale, torch.cat(list(images)) / scale

    def distances(self, places: Tensor) -> Tensor:
        """Distances of places, [P, C] in the units of ``scale``, to the nearest good one: [P]."""
        return _squared(places, self.places).amin(1).sqrt()


class Correction(nn.Module):
    """Places that misled a method.

    Attributes:
        places: Their descriptions, [N, C], in units of ``scale``.
        scale: The unit, [].
        reach: The distance, in these units, at which what a place teaches fades, [N].
        strength: Logarithm of the factor of places that look just like it: above 0 in defective images; [N].
    """

    places: Tensor
    scale: Tensor
    reach: Tensor
    strength: Tensor

    def __init__(self, places: Tensor, scale: Tensor, reach: Tensor, strength: Tensor) -> None:
        super().__init__()
        self.places, self.scale = nn.Buffer(places), nn.Buffer(scale)
        self.reach, self.strength = nn.Buffer(reach), nn.Buffer(strength)

    @classmethod
    def learn(cls, places: Tensor, known: GoodPlaces, is_good: bool, ratio: float) -> Correction:
        """Learn from one image that was judged wrongly.

        Args:
            places: Descriptions of its hottest places, [P, C].
            known: What good places look like.
            is_good: What it is. If defective, those of its places that look like good ones teach nothing.
            ratio: Its score, divided by the threshold.
        """
        places = places / known.scale
        distances = known.distances(places)
        if not is_good:
            places, distances = places[distances > 1], distances[distances > 1]
        needed = min(BEYOND * abs(math.log(max(ratio, 1e-9))), MOST)
        strength = torch.full_like(distances, -needed if is_good else needed)
        return cls(places, known.scale, REACH * distances.clamp(min=1), strength)

    @classmethod
    def joined(cls, corrections: Sequence[Correction]) -> Correction:
        """Return one that has learned what all of these have; their scales are the same."""
        names = ("places", "reach", "strength")
        held = {name: torch.cat([getattr(one, name) for one in corrections]) for name in names}
        return cls(scale=corrections[0].scale, **held)

    def forward(self, places: Tensor) -> Tensor:
        """Return the factor of the heat of places, described as [1, C, H, W]: [1, 1, H, W]."""
        found = places[0].flatten(1).T / self.scale
        apart = _squared(found, self.places) / self.reach.square()
        likeness = (-apart.square() / 2).exp()  # steeper than a Gaussian, lest good places change
        learned = F.pad(self.strength * likeness, (0, 1))  # nothing, where there is nothing else
        return (learned.amax(1) + learned.amin(1)).exp().view(1, 1, *places.shape[2:])


def hottest(places: Tensor, heat: Tensor, threshold: float) -> Tensor:
    """Return the descriptions of the hottest places, [P, C].

    Args:
        places: Descriptions, [1, C, H, W].
        heat: The map of the same view, [h, w].
        threshold: All that reach it are meant, not only a ``SHARE`` of all.
    """
    seen = F.adaptive_max_pool2d(heat[None, None], list(places.shape[2:])).flatten()
    chosen = seen.topk(max(round(SHARE * len(seen)), int((seen >= threshold).sum()), 1)).indices
    return places[0].flatten(1).T[chosen[:: math.ceil(len(chosen) / MOST_PLACES)]]


def spread(places: Tensor) -> Tensor:
    """Return descriptions, [P, C], of so many places as are compared, at even distances among all, [1, C, H, W]."""
    flat = places[0].flatten(1).T
    return flat[:: max(len(flat) // COMPARED, 1)]


def _squared(found: Tensor, known: Tensor) -> Tensor:
    """Squared distances between descriptions [P, C] and [N, C]: [P, N]."""
    squared = found.square().sum(1, keepdim=True) + known.square().sum(1) - 2 * found @ known.T
    return squared.clamp(min=0)
