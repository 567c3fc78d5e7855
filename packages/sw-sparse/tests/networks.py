"""Small networks with everything that is hard for masks: parallel paths, a GRN at zero, frozen and tied weights."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sw_ops import ShiftwiseConv2d


class SmallNet(nn.Module):
    """``[B, 4, 5, 5] -> [B, 6]``."""

    def __init__(self, seed: int = 0, *, norm: bool = True) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.weights = nn.ParameterList(nn.Parameter(0.3 * torch.randn(12, 1, 3, 3)) for _ in range(2))
            self.norm = nn.BatchNorm2d(12) if norm else nn.Identity()
            self.expand = nn.Conv2d(12, 16, 1)
            self.grn = nn.Parameter(torch.zeros(1, 16, 1, 1))
            self.frozen = nn.Linear(16, 16).requires_grad_(False)
            self.project = nn.Linear(16, 16)
            self.tied = nn.Linear(16, 16)
            self.tied.weight = self.project.weight
            self.head = nn.Linear(16, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(F.conv2d(x, self.weights[0] + self.weights[1], groups=4, padding=1))
        x = F.gelu(self.expand(x))
        x = x + self.grn * x
        x = self.frozen(x.mean((2, 3)))
        return self.head(F.gelu(self.tied(F.gelu(self.project(x)))))


def batch(step: int, size: int = 8) -> tuple[Tensor, Tensor]:
    """Return the images and labels of a step."""
    generator = torch.Generator().manual_seed(1000 + step)
    return torch.randn(size, 4, 5, 5, generator=generator), torch.randint(0, 6, (size,), generator=generator)


def loss_of(model: nn.Module, step: int = 0) -> Tensor:
    """Return the cross entropy of a step's batch."""
    images, labels = batch(step)
    return F.cross_entropy(model(images), labels)


class UnitNet(nn.Module):
    """``[B, 4, 5, 5] -> [B, 6]``, with what units may lie in: norms, GRN, a residual, depthwise and consumed twice."""

    def __init__(self, seed: int = 0, *, grn: bool = True) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.stem = nn.Conv2d(4, 12, 3, padding=1)
            self.norm = nn.BatchNorm2d(12)
            self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12)
            self.expand = nn.Conv2d(12, 16, 1)
            self.grn = ResponseNorm(16) if grn else nn.Identity()
            self.project = nn.Conv2d(16, 12, 1)
            self.mix = nn.Linear(12, 12)
            self.head = nn.Linear(12, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(x)))
        x = x + self.project(self.grn(F.gelu(self.expand(self.depthwise(x)))))
        x = x.mean((2, 3))
        return self.head(F.relu(x + self.mix(x)))


class ChannelNet(nn.Module):
    """``[B, 4, 5, 5] -> [B, 6]``, with a shift-wise layer."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.stem = nn.Conv2d(4, 12, 3, padding=1)
            self.shift = ShiftwiseConv2d(12, 7, 3)
            self.head = nn.Linear(12, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.shift(F.relu(self.stem(x)))).mean((2, 3)))


class ResponseNorm(nn.Module):
    """Global response normalisation, written plainly."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight, self.bias = nn.Parameter(torch.randn(channels)), nn.Parameter(torch.randn(channels))

    def forward(self, x: Tensor) -> Tensor:
        norm = x.norm(dim=(2, 3), keepdim=True)
        response = norm / (norm.mean(1, keepdim=True) + self.eps)
        return x + self.weight[:, None, None] * response * x + self.bias[:, None, None]
