"""What every network here has in common: a stem, four stages, a head, and timm's contract around them."""

# Annotations are objects here, not strings: torch.fx copies those of a model's forward into what TorchScript compiles.

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count, repeat
from typing import Any

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import NormMlpClassifierHead, calculate_drop_path_rates, trunc_normal_
from timm.models import build_model_with_cfg, checkpoint_seq, register_notrace_module
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from sw_models.checkpoints.keys import convert_published, is_published
from sw_ops import FusedShiftwiseConv2d, ShiftwiseConv2d
from sw_ops.table import PUBLISHED_SEED

# Leaves to torch.fx: they look at shapes and devices, which symbolic tracing has not.
register_notrace_module(ShiftwiseConv2d)
register_notrace_module(FusedShiftwiseConv2d)


class Stage(nn.Module):
    """A downsampling layer (``nn.Identity`` in the first stage) and a row of blocks."""

    def __init__(self, downsample: nn.Module, blocks: Iterable[nn.Module]) -> None:
        super().__init__()
        self.grad_checkpointing = False
        self.downsample = downsample
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Return the stage's map, at half the resolution of ``x`` where the stage downsamples."""
        x = self.downsample(x)
        if self.grad_checkpointing and not torch.jit.is_scripting():
            return checkpoint_seq(self.blocks, x)
        return self.blocks(x)


class StagedNet(nn.Module):
    """Four stages at strides 4, 8, 16 and 32, then pooling, norm and classifier.

    Args:
        stem: from the image to the first stage, at stride 4.
        stages: the stages; all but the first halve the resolution.
        dims: channels of each stage.
        in_chans: channels of the image.
        num_classes: outputs of the classifier; 0 for none.
        global_pool: "avg", "max", "avgmax", ... as for timm's heads; "" for none.
        drop_rate: dropout before the classifier.
        device: where the parameters live.
        dtype: of the parameters.
    """

    def __init__(
        self,
        stem: nn.Module,
        stages: Sequence[Stage],
        dims: Sequence[int],
        in_chans: int,
        num_classes: int,
        global_pool: str,
        drop_rate: float,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.drop_rate = drop_rate
        self.num_features: int = dims[-1]
        self.feature_info: list[dict[str, Any]] = [
            {"num_chs": dim, "reduction": 4 * 2**i, "module": f"stages.{i}"} for i, dim in enumerate(dims)
        ]
        self.stem = stem
        self.stages = nn.Sequential(*stages)
        self.head = NormMlpClassifierHead(
            dims[-1], num_classes, pool_type=global_pool, drop_rate=drop_rate, device=device, dtype=dtype
        )
        self.head_hidden_size = self.head.num_features
        self.apply(_init_weights)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load weights under this package's names, or under those of the published code."""
        return super().load_state_dict(checkpoint_filter_fn(state_dict, self), strict=strict, assign=assign)

    @torch.jit.ignore
    def init_weights(self) -> None:
        """Draw all weights anew and restore all constants, as after construction, also after ``to_empty``."""
        for module in self.modules():
            reset: Any = getattr(module, "reset_parameters", None)
            if reset is not None:
                reset()
        self.apply(_init_weights)

    @torch.jit.ignore
    def no_weight_decay(self) -> set[str]:
        """Name the parameters that weight decay leaves alone besides the one-dimensional ones, which timm finds."""
        return set()

    @torch.jit.ignore
    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return timm's patterns for grouping parameters by depth, by stage if ``coarse``, else by block."""
        stage = r"^stages\.(\d+)"
        return {
            "stem": r"^stem",
            "blocks": stage if coarse else [(stage + r"\.downsample", (0,)), (stage + r"\.blocks\.(\d+)", None)],
        }

    @torch.jit.ignore
    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade time for memory in training: recompute the blocks' activations in the backward pass."""
        for stage in self.stages.children():
            stage.grad_checkpointing = enable  # type: ignore[assignment]

    @torch.jit.ignore
    def get_classifier(self) -> nn.Module:
        """Return the last layer."""
        return self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None, reset_other: bool = False) -> None:
        """Put a new classifier in place.

        Args:
            num_classes: outputs; 0 for none.
            global_pool: new pooling; None keeps the present one.
            reset_other: remove the head's norm too.
        """
        self.num_classes = num_classes
        like = next(self.parameters())
        head = NormMlpClassifierHead(
            self.num_features,
            num_classes,
            pool_type=self.head.global_pool.pool_type if global_pool is None else global_pool,
            drop_rate=self.drop_rate,
            device=like.device,
            dtype=like.dtype,
        )
        head.norm = nn.Identity() if reset_other else self.head.norm
        self.head = head.train(self.training)
        self.head_hidden_size = head.num_features

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Return the final features and the maps of chosen stages.

        Args:
            x: images ``[B, in_chans, H, W]``.
            indices: the last so many stages if an int, all if None, else the stages listed.
            norm: no effect; the norm of this network comes after pooling.
            stop_early: do not compute what comes after the last stage asked for.
            output_fmt: only "NCHW".
            intermediates_only: return the maps alone.
        """
        if output_fmt != "NCHW":
            raise ValueError(f"output_fmt: got {output_fmt!r}, want 'NCHW'")
        take_indices, max_index = feature_take_indices(len(self.stages), indices)
        stages = self.stages[: max_index + 1] if stop_early else self.stages
        x = self.stem(x)
        intermediates = []
        for index, stage in enumerate(stages):
            x = stage(x)
            if index in take_indices:
                intermediates.append(x)
        return intermediates if intermediates_only else (x, intermediates)

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove the stages after the last one asked for, and the head with them; return the indices kept."""
        take_indices, max_index = feature_take_indices(len(self.stages), indices)
        pruned = max_index < len(self.stages) - 1
        self.stages = self.stages[: max_index + 1]
        if pruned:
            self.num_features = self.head_hidden_size = self.feature_info[max_index]["num_chs"]
        if prune_head or pruned:
            self.reset_classifier(0, "", reset_other=True)
        return take_indices

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last stage's map, ``[B, dims[-1], H/32, W/32]``, for images ``[B, in_chans, H, W]``."""
        return self.stages(self.stem(x))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool, normalise and classify ``x``; with ``pre_logits`` leave the last layer out."""
        return self.head(x, pre_logits=pre_logits)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits ``[B, num_classes]``, or the pooled features where there is no classifier."""
        return self.forward_head(self.forward_features(x))


def _init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        draw_normal(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


@torch.no_grad()
def draw_normal(weight: Tensor) -> None:
    """Draw from N(0, 0.02), in float32 at least: 8 bits are few for the uniform number behind a normal one."""
    drawn = torch.empty_like(weight, dtype=torch.promote_types(weight.dtype, torch.float32))
    weight.copy_(trunc_normal_(drawn, std=0.02))


def check_arguments(output_stride: int, depths: Sequence[int], **per_stage: Sequence[Any]) -> None:
    """Raise a ValueError that names the argument if one of ``per_stage`` is not as long as ``depths``."""
    if output_stride != 32:
        raise ValueError(f"output_stride: got {output_stride}, want 32 (large kernels do not dilate)")
    for name, values in per_stage.items():
        if len(values) != len(depths):
            raise ValueError(f"{name}: got {len(values)} values, want {len(depths)}, one per stage as depths has")


def drop_path_rates(rate: float, depths: Sequence[int]) -> list[list[float]]:
    """Return the rate of every block of every stage, rising linearly from 0 to ``rate``."""
    rates: Any = calculate_drop_path_rates(rate, list(depths), stagewise=True)
    return rates


def shuffle_seeds(table_seed: int | None) -> Iterator[int]:
    """Return the seeds of one layer's shuffles after another: the published one for all if ``table_seed`` is None."""
    return repeat(PUBLISHED_SEED) if table_seed is None else count(table_seed)


def create(network: type[StagedNet], variant: str, pretrained: bool, **kwargs: Any) -> nn.Module:
    """Build a registered variant as timm does, with its configuration, features and checkpoints."""
    return build_model_with_cfg(
        network,
        variant,
        pretrained,
        pretrained_filter_fn=checkpoint_filter_fn,
        feature_cfg={"out_indices": (0, 1, 2, 3), "flatten_sequential": True},
        **kwargs,
    )


def checkpoint_filter_fn(state_dict: Mapping[str, Any], model: nn.Module) -> Mapping[str, Any]:
    """Return ``state_dict`` in this package's names; published names are translated.

    The architectures' modules have it too, for timm's users look for it beside the class of a model.
    """
    return convert_published(state_dict, model) if is_published(state_dict) else state_dict


def config(**kwargs: Any) -> dict[str, Any]:
    """Return the entry of a variant in timm's ``default_cfgs``."""
    return {
        "url": "",
        "num_classes": 1000,
        "input_size": (3, 224, 224),
        "pool_size": (7, 7),
        "crop_pct": 0.875,
        "interpolation": "bicubic",
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        "first_conv": "stem.conv1",
        "classifier": "head.fc",
        "license": "apache-2.0",
        **kwargs,
    }
