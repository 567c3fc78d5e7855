"""A trained detector: what it says about one image, and the file that holds it.

The network sees an image and how it differs from a reference, the median of the good images. Where parts lie in one
pose the difference shows defects almost by itself; where they do not the network learns to ignore it.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from sw_anomaly.errors import InputError
from sw_anomaly.files import write_atomically
from sw_anomaly.unet import MODELS, UNet, create_model

FORMAT = "sw-anomaly-unet-1"
REFERENCE = "reference"  # the tensor in a checkpoint that is no weight
IN_CHANNELS = 6  # the image and its difference from the reference
SMOOTHING = 0.008  # standard deviation of the Gaussian that smooths a map, in widths of the map
SCORED_SHARE = 0.0005  # an image's score is the mean of this share of its smoothed map, the highest values


@dataclass(frozen=True)
class DetectorInfo:
    """What a checkpoint says besides its weights."""

    category: str
    model: str
    training_images: str  # digest of all good training images of the category, held-out ones included
    image_threshold: float
    pixel_threshold: float


@dataclass(frozen=True)
class Inspection:
    """What a detector says about an image: a score and a map of scores, float32 [H, W], all in [0, 1]."""

    score: float
    map: np.ndarray


class UNetDetector:
    """A U-Net, the reference image and thresholds.

    `model` maps [B, 6, S, S] to logits, `reference` is uint8 [S, S, 3]. From `image_threshold` an image, from
    `pixel_threshold` a pixel is called defective.
    """

    def __init__(self, model: UNet, reference: np.ndarray, info: DetectorInfo) -> None:
        self.model = model.eval()
        self.reference = reference
        self.info = info

    @property
    def image_threshold(self) -> float:
        """Images that score this much are called defective."""
        return self.info.image_threshold

    @property
    def pixel_threshold(self) -> float:
        """Pixels that score this much are called defective."""
        return self.info.pixel_threshold

    @property
    def image_size(self) -> int:
        """Side in pixels of the squares that the network sees."""
        return self.reference.shape[0]

    def inspect(self, image: np.ndarray) -> Inspection:
        """Inspect an image, uint8 [H, W, 3] of any size."""
        return inspect(self.model, self.reference, image)

    def save(self, path: Path) -> None:
        """Write weights, reference and description to one safetensors file, whole or not at all."""
        metadata = {"format": FORMAT, "info": json.dumps(asdict(self.info))}
        state = self.model.state_dict()  # some layers share their tables, which the format has no way to say
        tensors = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in state.items()}
        tensors[REFERENCE] = torch.from_numpy(self.reference)
        write_atomically(path, lambda partial: save_file(tensors, partial, metadata))

    @classmethod
    def load(cls, path: Path) -> UNetDetector:
        """Read a file that `save` wrote; raises `InputError` if it is anything else."""
        info = read_info(path)
        model = create_model(info.model, IN_CHANNELS)
        tensors = load_file(path)
        reference = tensors.pop(REFERENCE, torch.empty(0)).numpy()
        expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
        if reference.ndim != 3 or {name: tensor.shape for name, tensor in tensors.items()} != expected:
            raise InputError(f"{path} does not hold the weights of the model {info.model!r} that it names")
        model.load_state_dict(tensors)
        return cls(model.to(default_device()).to(memory_format=torch.channels_last), reference, info)


def read_info(path: Path) -> DetectorInfo:
    """The description in a checkpoint; raises `InputError` if the file is not one."""
    wanted = "a checkpoint.safetensors written by `sw-anomaly train` is wanted"
    if not path.is_file():
        raise InputError(f"checkpoint {path} is not a file; {wanted}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise InputError(f"checkpoint {path} is not a safetensors file ({error}); {wanted}") from error
    if metadata.get("format") != FORMAT:
        kind = metadata.get("format", "unknown")
        raise InputError(f"checkpoint {path} holds something else (its format is {kind!r}); {wanted}")
    info = DetectorInfo(**json.loads(metadata["info"]))
    if info.model not in MODELS:
        raise InputError(f"checkpoint {path} is of the model {info.model!r}; one of {', '.join(MODELS)} is wanted")
    return info


def default_device() -> torch.device:
    """The GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """`image` [H, W, 3], uint8, scaled to [size, size, 3]."""
    if image.shape[:2] == (size, size):
        return image
    return np.array(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))


def to_tensor(images: np.ndarray, device: torch.device) -> Tensor:
    """Images [B, H, W, 3], uint8 or float32 in [0, 1], as float32 [B, 3, H, W] in [0, 1], channels last in memory."""
    tensor = torch.from_numpy(images).to(device).permute(0, 3, 1, 2)
    return tensor / 255 if tensor.dtype == torch.uint8 else tensor


def network_input(images: Tensor, references: Tensor) -> Tensor:
    """What the network sees of images [B, 3, H, W] and their references, of a shape that fits: [B, 6, H, W]."""
    return torch.cat([images, images - references], dim=1).contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def inspect(model: UNet, reference: np.ndarray, image: np.ndarray) -> Inspection:
    """Inspect one image, uint8 [H, W, 3], with a network in evaluation mode and a reference, uint8 [S, S, 3]."""
    device = next(model.parameters()).device
    size = reference.shape[0]
    logits = model(network_input(to_tensor(resize(image, size)[None], device), to_tensor(reference[None], device)))
    logits = F.interpolate(logits.float(), (size, size), mode="bilinear", align_corners=False)
    smooth = gaussian_blur(torch.sigmoid(logits), 2 * math.ceil(3 * SMOOTHING * size) + 1, SMOOTHING * size)
    highest = smooth.flatten().topk(max(round(SCORED_SHARE * smooth.numel()), 1)).values
    full = F.interpolate(smooth, image.shape[:2], mode="bilinear", align_corners=False)
    return Inspection(float(highest.mean()), full[0, 0].cpu().numpy())
