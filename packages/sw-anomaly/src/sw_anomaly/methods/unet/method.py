"""The method ``unet``: a network that was trained to find synthetic defects sees an image beside a reference.

The reference is the median of the good views. Where parts lie in one pose the difference from it shows defects almost
by itself; where they do not the network learns to ignore it.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sw_anomaly.methods.base import HeatMethod, Method, default_device
from sw_anomaly.methods.folding import folded
from sw_anomaly.methods.unet.networks import UNet, create_model
from sw_models.errors import InputError

REFERENCE = "reference"  # the tensor in a checkpoint that is no weight
IN_CHANNELS = 6  # the image and its difference from the reference
LEAST = 1e-37  # probability of being good; float32 holds no much smaller ones


class UNetMethod(HeatMethod):
    """A network, [B, 6, h, w] to logits, and the reference, levels [h, w, 3] of type uint8 or float32."""

    def __init__(self, model: nn.Module, reference: np.ndarray, image_size: int, saturating: bool = False) -> None:
        super().__init__()
        self.image_size = image_size
        self.saturating = saturating
        self.model = model.eval()
        self.folded = folded(model)  # what runs
        device = next(model.parameters()).device
        self.reference = nn.Buffer(torch.from_numpy(reference).to(device))

    def heat(self, view: Tensor) -> Tensor:
        """Return the probability of being good at each place of a view, float32 [1, 3, h, w]: [1, 1, h, w]."""
        reference = self.reference.permute(2, 0, 1)[None] / 255
        logits = self.folded(network_input(view / 255, reference))
        return torch.sigmoid(-F.interpolate(logits.float(), view.shape[2:], mode="bilinear", align_corners=False))

    def describe(self, view: Tensor) -> Tensor:
        """Return what the network's head takes, of a view, float32 [1, 3, h, w]: [1, C, H, W]."""
        reference = self.reference.permute(2, 0, 1)[None] / 255
        return cast(UNet, self.folded).decode(network_input(view / 255, reference)).float()

    def smoothed_heat(self, view: Tensor) -> Tensor:
        """Return the surprise, in nats, that a place is good: minus the logarithm of its smoothed probability.

        It ranks places as the probability of being defective does, which ``saturating`` gives as former checkpoints
        did; but of that all that is surely defective has the same, 1, and no threshold lies among those.
        """
        good = super().smoothed_heat(view)
        return 1 - good if self.saturating else -good.clamp(LEAST, 1.0).log()

    def state(self) -> dict[str, Tensor]:
        """Return the weights and the reference."""
        return {name: tensor for name, tensor in super().state().items() if not name.startswith("folded.")}

    def exportable(self) -> Method:
        """Return a copy of what runs."""
        copy = cast(UNetMethod, super().exportable())
        copy.model = nn.Identity()  # it was folded, and would be traced
        return copy

    @classmethod
    def from_state(cls, state: dict[str, Tensor], model_name: str, image_size: int, former: bool = False) -> UNetMethod:
        """Return the inverse of ``state``; raises ``InputError`` if it is not one of the model."""
        model = create_model(model_name, IN_CHANNELS)
        weights = {name.removeprefix("model."): tensor for name, tensor in state.items() if name != REFERENCE}
        expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
        if REFERENCE not in state or {name: tensor.shape for name, tensor in weights.items()} != expected:
            raise InputError(f"does not hold the weights of the model {model_name!r} that it names")
        model.load_state_dict(weights)
        model = model.to(default_device()).to(memory_format=torch.channels_last)
        return cls(model, state[REFERENCE].numpy(), image_size, saturating=former)


def to_tensor(images: np.ndarray, device: torch.device) -> Tensor:
    """Images [B, h, w, 3] as [B, 3, h, w], channels last in memory."""
    return torch.from_numpy(images).to(device).permute(0, 3, 1, 2)


def network_input(images: Tensor, references: Tensor) -> Tensor:
    """Return the network's input of images [B, 3, h, w] and references that fit, in [0, 1]: [B, 6, h, w]."""
    return torch.cat([images, images - references], dim=1).contiguous(memory_format=torch.channels_last)
