"""Where a part lies, and whether parts can be brought into one pose.

Sharp edges, found by Otsu's threshold on how steeply an image rises from its ground, outline what is in it. The largest
region that they enclose is the part, its longest principal axis the axis of the part, and the end where more of it lies
far from the axis comes first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from PIL import Image
from skimage.filters import threshold_otsu

NORMAL_SIDE = 320  # pixels of the longer side, for which the following is said in pixels
GAP = 4  # gaps of twice as many pixels in an outline are closed
CONTRAST = 25  # grey levels by which a part must differ from its ground
AREA = (0.01, 0.5)  # share of the image that a part may cover
ENDS = 0.005  # share of the part that may lie beyond each of its ends
ELONGATION = 1.5  # a part has a definite axis if its deviation along it is this often that across it
DEFINITE = 0.95  # share of the images in which a part with a definite axis must be found
IMPROVEMENT = 0.8  # parts are aligned if that lowers their spread below this share of what it was
MARGIN = 0.03  # ground shown around a part, relative to the longer side of the image
DARKEST = 32  # added to grounds, for dark ones would be divided by
MULTIPLE = 16  # of which the sides of crops are multiples
TRUNCATE = 4  # standard deviations after which a Gaussian ends
CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


@dataclass(frozen=True)
class Pose:
    """How a part lies in its image: positions are (row, column) in pixels.

    Attributes:
        start: On the axis, at the heavier end, [2].
        axis: Of length 1, towards the other end, [2].
        length: Along the axis, in pixels.
        width: Across it.
        ground: The color of the image's border, [3].
        silhouette: What the part covers, bool [H, W].
    """

    start: np.ndarray
    axis: np.ndarray
    length: float
    width: float
    ground: np.ndarray
    silhouette: np.ndarray

    @property
    def centre(self) -> np.ndarray:
        """The middle of the part."""
        return self.start + self.axis * (self.length / 2)


@dataclass(frozen=True)
class Crop:
    """What is cut out around a part: its size and margin in pixels, and the colour [3] that its ground is given."""

    height: int
    width: int
    margin: int
    ground: tuple[float, ...]


@dataclass(frozen=True)
class Alignment:
    """What the images of a category say about aligning their parts: the crop, if it helps, and a sentence about it."""

    crop: Crop | None
    finding: str


def find_pose(image: np.ndarray) -> Pose | None:
    """Find the part in an image.

    Args:
        image: Levels [H, W, 3] from 0 to 255, uint8 or float32.

    Returns:
        Its pose; None if there is no part with a definite axis.
    """
    ground = np.median(np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]]), axis=0)
    silhouette = _silhouette(image, ground)
    if silhouette is None:
        return None
    moments = cv2.moments(silhouette.view(np.uint8), binaryImage=True)
    count, middle = moments["m00"], np.array([moments["m01"], moments["m10"]]) / moments["m00"]
    spread = np.array([[moments["mu02"], moments["mu11"]], [moments["mu11"], moments["mu20"]]]) / (count - 1)
    (shorter, longer), axes = np.linalg.eigh(spread)
    if longer < ELONGATION**2 * shorter:
        return None
    axis = axes[:, 1]
    places = np.argwhere(silhouette) - middle
    along, across = places @ axis, places @ _across(axis)
    first, last = np.quantile(along, [ENDS, 1 - ENDS])
    if ((along - (first + last) / 2) * across**2).sum() > 0:  # the heavier end is at `last`
        axis, first, last = -axis, -last, -first
    width = 2 * np.quantile(np.abs(across), 1 - ENDS)
    return Pose(middle + first * axis, axis, last - first, width, ground, silhouette)


def _silhouette(image: np.ndarray, ground: np.ndarray) -> np.ndarray | None:
    """Where the part is, bool [H, W]: what sharp edges enclose. Shadows have soft ones."""
    grain = max(image.shape) / NORMAL_SIDE
    difference = np.abs(image - ground.astype(np.float32)).max(axis=2)
    steepness = gradient_magnitude(difference, grain)
    reach = max(round(GAP * grain), 1)
    edges = np.pad((steepness > threshold_otsu(steepness)).view(np.uint8), reach + 1)
    edges = cv2.morphologyEx(edges, cv2.MORPH_CLOSE, CROSS, iterations=reach)[
        reach + 1 : -reach - 1, reach + 1 : -reach - 1
    ]
    outlines, _ = cv2.findContours(edges, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = cv2.drawContours(np.zeros_like(edges), outlines, -1, 1, cv2.FILLED)
    count, regions, about, _ = cv2.connectedComponentsWithStats(filled, connectivity=4)
    if count < 2:
        return None
    largest = (regions == 1 + np.argmax(about[1:, cv2.CC_STAT_AREA])).view(np.uint8)
    opened = cv2.morphologyEx(largest, cv2.MORPH_OPEN, CROSS, iterations=max(reach // 2, 1), borderValue=0)
    largest = opened.view(bool)
    if not AREA[0] < largest.mean() < AREA[1]:
        return None
    return largest if difference[largest].mean() - difference[~largest].mean() > CONTRAST else None


def gradient_magnitude(image: np.ndarray, sigma: float) -> np.ndarray:
    """Measure how steep an image is after smoothing by a Gaussian.

    Args:
        image: float32 [H, W].
        sigma: Standard deviation of the Gaussian, in pixels.

    Returns:
        Levels per pixel, float32 [H, W].
    """
    offsets = np.arange(-int(TRUNCATE * sigma + 0.5), int(TRUNCATE * sigma + 0.5) + 1)
    smooth = np.exp(-0.5 * (offsets / sigma) ** 2)
    smooth /= smooth.sum()
    steep = smooth * offsets / sigma**2
    across = cv2.sepFilter2D(image, cv2.CV_32F, steep, smooth, borderType=cv2.BORDER_REFLECT)
    down = cv2.sepFilter2D(image, cv2.CV_32F, smooth, steep, borderType=cv2.BORDER_REFLECT)
    return np.asarray(cv2.magnitude(across, down))


def take(image: np.ndarray, pose: Pose, crop: Crop) -> np.ndarray:
    """Cut the part out of an image, its heavier end on top, its ground in the crop's color.

    Args:
        image: Levels [H, W, 3], uint8 or float32.
        pose: Where the part lies in it.
        crop: What is cut out.

    Returns:
        Levels [crop.height, crop.width, 3] of the image's type.
    """
    matrix, origin = _crop_to_image(pose, crop)
    fill = tuple(int(level) for level in np.rint(pose.ground))
    gain = (np.array(crop.ground) + DARKEST) / (pose.ground + DARKEST)
    size = (crop.height, crop.width)
    if image.dtype == np.uint8:
        cut = _warp(Image.fromarray(image), size, matrix, origin, Image.Resampling.BICUBIC, fill)
        return np.clip(np.rint(cut * gain), 0, 255).astype(np.uint8)
    channels = [
        _warp(Image.fromarray(channel), size, matrix, origin, Image.Resampling.BICUBIC, level)
        for channel, level in zip(np.moveaxis(image, 2, 0), fill, strict=True)
    ]
    return np.maximum(np.stack(channels, axis=2) * gain, 0).astype(np.float32)


def take_mask(mask: np.ndarray, pose: Pose, crop: Crop) -> np.ndarray:
    """Cut out of a mask what ``take`` shows of its image.

    Args:
        mask: bool [H, W].
        pose: Where the part lies in the image.
        crop: What is cut out.

    Returns:
        bool [crop.height, crop.width].
    """
    matrix, origin = _crop_to_image(pose, crop)
    picture = Image.fromarray(mask.astype(np.float32))
    return _warp(picture, (crop.height, crop.width), matrix, origin, Image.Resampling.BILINEAR, 0) > 0.5


def put_back(crop_map: np.ndarray, pose: Pose, crop: Crop, size: tuple[int, int]) -> np.ndarray:
    """Lay the map of a crop over the image: the inverse of ``take``.

    Args:
        crop_map: float32 [crop.height, crop.width].
        pose: Where the part lies in the image.
        crop: What was cut out.
        size: Height and width of the image.

    Returns:
        float32 of this size, 0 where the crop shows nothing.
    """
    matrix, origin = _crop_to_image(pose, crop)
    back = np.linalg.inv(matrix)
    return _warp(Image.fromarray(crop_map), size, back, -back @ origin, Image.Resampling.BILINEAR, 0)


def _crop_to_image(pose: Pose, crop: Crop) -> tuple[np.ndarray, np.ndarray]:
    """Matrix and origin that take a (row, column) of the crop to one of the image."""
    across = _across(pose.axis)
    origin = pose.start - crop.margin * pose.axis - (crop.width - 1) / 2 * across
    return np.stack([pose.axis, across], axis=1), origin


def _across(axis: np.ndarray) -> np.ndarray:
    """Return the direction of the crop's rows, so that a part is turned but never mirrored."""
    return np.array([-axis[1], axis[0]])


def _warp(
    picture: Image.Image,
    size: tuple[int, int],
    matrix: np.ndarray,
    origin: np.ndarray,
    resampling: Image.Resampling,
    fill: int | tuple[int, ...],
) -> np.ndarray:
    """Sample the picture through ``place -> matrix @ place + origin``, in (row, column) of pixel centres."""
    shift = origin + 0.5 - matrix @ [0.5, 0.5]  # Pillow's (x, y) have pixel centres at halves
    data = (matrix[1, 1], matrix[1, 0], shift[1], matrix[0, 1], matrix[0, 0], shift[0])
    return np.array(picture.transform(size[::-1], Image.Transform.AFFINE, data, resampling, fillcolor=fill))


def learn_alignment(images: Sequence[np.ndarray]) -> Alignment:
    """Find out whether parts are more alike in one pose than as they lie.

    The spread of crops in each part's own pose is compared with that of crops in one pose for all images.

    Args:
        images: Levels [H, W, 3] each.

    Returns:
        The crop, if it helps, and why.
    """
    poses = [find_pose(image) for image in images]
    found = [pose for pose in poses if pose is not None]
    if len(found) < max(DEFINITE * len(images), 2):
        return Alignment(None, f"only {len(found)} of {len(images)} images show one part with a definite axis")
    shown = [(image, pose) for image, pose in zip(images, poses, strict=True) if pose is not None]
    crop = _choose_crop(found, max(max(image.shape[:2]) for image in images))
    common = _common_pose(found)
    turned = _spread([take(image, pose, crop) for image, pose in shown])
    unturned = _spread([take(image, replace(common, ground=pose.ground), crop) for image, pose in shown])
    finding = f"grey levels spread by {turned:.1f} in one pose, by {unturned:.1f} as the parts lie"
    return Alignment(crop if turned < IMPROVEMENT * unturned else None, finding)


def _choose_crop(poses: Sequence[Pose], longer_side: int) -> Crop:
    margin = math.ceil(MARGIN * longer_side)
    extents = np.median([(pose.length, pose.width) for pose in poses], axis=0)
    height, width = (MULTIPLE * math.ceil((extent + 2 * margin) / MULTIPLE) for extent in extents)
    ground = np.median([pose.ground for pose in poses], axis=0)
    return Crop(height, width, margin, tuple(float(level) for level in ground))


def _common_pose(poses: Sequence[Pose]) -> Pose:
    """Return the pose that is the least wrong for all."""
    centre, length = np.median([pose.centre for pose in poses], axis=0), np.median([pose.length for pose in poses])
    axis = np.mean([pose.axis for pose in poses], axis=0)
    axis = axis / np.linalg.norm(axis) if np.linalg.norm(axis) > 0 else np.array([1.0, 0.0])
    return replace(poses[0], start=centre - axis * length / 2, axis=axis)


def _spread(crops: Sequence[np.ndarray]) -> float:
    """Return the standard deviation among the crops at each place, averaged over all places, in grey levels."""
    return float(np.stack([crop.mean(axis=2) for crop in crops]).std(axis=0).mean())
