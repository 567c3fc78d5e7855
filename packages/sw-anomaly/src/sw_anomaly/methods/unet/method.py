"""The method ``unet``: a network that was trained to find synthetic defects sees an image beside a reference.

The reference is the median of the good views. Where parts lie in one pose the difference from it shows defects almost
by itself; where they do not the network learns to ignore it.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sw_anomaly.detector import HeatMethod, default_device, smooth_map
from sw_anomaly.methods.unet.networks import create_model
from sw_models.errors import InputError

REFERENCE = "reference"  # the tensor in a checkpoint that is no weight
IN_CHANNELS = 6  # the image and its difference from the reference


class Segmenter(HeatMethod):
    """A network in evaluation mode, [B, 6, h, w] to logits, and the reference, uint8 [h, w, 3]."""

    def __init__(self, model: nn.Module, reference: np.ndarray, image_size: int) -> None:
        self.model = model.eval()
        self.reference = reference
        self.image_size = image_size

    @torch.inference_mode()
    def heat(self, view: np.ndarray) -> np.ndarray:
        """The smoothed probability of being defective, float32 [h, w], at each place of a view, uint8 [h, w, 3]."""
        device = next(self.model.parameters()).device
        seen = network_input(to_tensor(view[None], device), to_tensor(self.reference[None], device))
        logits = F.interpolate(self.model(seen).float(), view.shape[:2], mode="bilinear", align_corners=False)
        return smooth_map(torch.sigmoid(logits), self.image_size)[0, 0].cpu().numpy()

    def tensors(self) -> dict[str, Tensor]:
        """Weights and reference."""
        state = self.model.state_dict()  # some layers share their tables, which the file format has no way to say
        tensors = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in state.items()}
        return {**tensors, REFERENCE: torch.from_numpy(self.reference)}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], model_name: str, image_size: int) -> Segmenter:
        """The inverse of ``tensors``; raises ``InputError`` if they are not those of the model."""
        model = create_model(model_name, IN_CHANNELS)
        weights = {name: tensor for name, tensor in tensors.items() if name != REFERENCE}
        expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
        if REFERENCE not in tensors or {name: tensor.shape for name, tensor in weights.items()} != expected:
            raise InputError(f"does not hold the weights of the model {model_name!r} that it names")
        model.load_state_dict(weights)
        model = model.to(default_device()).to(memory_format=torch.channels_last)
        return cls(model, tensors[REFERENCE].numpy(), image_size)


def to_tensor(images: np.ndarray, device: torch.device) -> Tensor:
    """Images [B, h, w, 3], uint8 or float32 in [0, 1], as float32 [B, 3, h, w] in [0, 1], channels last in memory."""
    tensor = torch.from_numpy(images).to(device).permute(0, 3, 1, 2)
    return tensor / 255 if tensor.dtype == torch.uint8 else tensor


def network_input(images: Tensor, references: Tensor) -> Tensor:
    """What the network sees of images [B, 3, h, w] and their references, of a shape that fits: [B, 6, h, w]."""
    return torch.cat([images, images - references], dim=1).contiguous(memory_format=torch.channels_last)
