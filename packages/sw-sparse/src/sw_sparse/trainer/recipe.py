"""The recipe: everything that decides how a run goes, from flags or a YAML file."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from sw_models.errors import InputError
from sw_sparse.config import SparsityConfig
from sw_sparse.trainer.options import checked

MAY_CHANGE_ON_RESUME = frozenset(
    {"output", "workers", "trackers", "keep", "checkpoint_every", "checkpoint_minutes", "data_dir", "download"}
)

TRACKERS = ("tensorboard", "wandb", "trackio")


Check = tuple[Callable[[Any], bool], str]
"""Whether a value will do, and what would."""


def _option(default: Any, help_: str, check: Check | None = None) -> Any:
    return field(default=default, metadata={"help": help_, "check": check})


def _at_least(least: float) -> Check:
    return lambda value: least <= value < math.inf, f"at least {least:g}"


def _within(least: float, most: float) -> Check:
    return lambda value: least <= value <= most, f"{least:g} to {most:g}"


def _one_of(*names: str) -> Check:
    return lambda value: value in names, f"one of {', '.join(names)}"


_POSITIVE: Check = (lambda value: 0 < value < math.inf, "more than 0")
_BELOW_ONE: Check = (lambda value: 0 <= value < 1, "at least 0 and below 1")
_RANGE: Check = (lambda ends: 0 < ends[0] <= ends[1] < math.inf, "two numbers above 0, the smaller first")
_SHARES: Check = (lambda ends: 0 < ends[0] <= ends[1] <= 1, "two shares in 0..1, the smaller first")
_COLORS: Check = (lambda values: all(0 <= value <= 1 for value in values), "numbers in 0..1")
_SPREADS: Check = (lambda values: all(0 < value < math.inf for value in values), "numbers above 0")
_POLICY: Check = (  # timm passes over a section without a number
    lambda policy: all(part.startswith("t") or re.search(r"\d", part) for part in policy.split("-")[1:]),
    "a policy of timm such as rand-m9-mstd0.5",
)
_A_FILE: Check = (lambda path: Path(path).is_file(), "a file that is there")


@dataclass(frozen=True)
class Recipe:
    """Every option of a training run. The defaults are the paper's SW-T recipe on 8 GPUs (arXiv 2401.12736)."""

    dataset: str = _option("folder", "folder, tar, digits, or timm's name: hfds/..., wds/..., torch/cifar100, ...")
    data_dir: str | None = _option(None, "where train and val are: folders of class folders, or .tar files")
    train_split: str = _option("train", "split to train on")
    val_split: str = _option("validation", "split to validate on after every epoch")
    test_split: str | None = _option(None, "split to test the final weights on, once")
    num_classes: int | None = _option(None, "classes; read from the data where they tell", _at_least(1))
    download: bool = _option(False, "let the data set download itself")
    workers: int = _option(4, "loader processes per training process", _at_least(0))

    input_size: int = _option(224, "height and width of the images in pixels", _POSITIVE)
    crop_pct: float = _option(
        0.875,
        "share of the resized image that evaluation crops from its centre",
        (lambda share: 0 < share <= 1, "above 0, up to 1"),
    )
    interpolation: str = _option("bicubic", "bilinear, bicubic or random", _one_of("bilinear", "bicubic", "random"))
    mean: tuple[float, float, float] = _option((0.485, 0.456, 0.406), "of the colours, in 0..1", _COLORS)
    std: tuple[float, float, float] = _option((0.229, 0.224, 0.225), "of the colours, in 0..1", _SPREADS)

    auto_augment: str | None = _option(
        "rand-m9-mstd0.5-inc1", "timm's name of a RandAugment or AutoAugment policy", _POLICY
    )
    color_jitter: float = _option(0.4, "strength, used where there is no auto_augment", _at_least(0))
    scale: tuple[float, float] = _option(
        (0.08, 1.0), "smallest and largest share of the image in a random crop", _SHARES
    )
    ratio: tuple[float, float] = _option((0.75, 1.3333), "narrowest and widest aspect of a random crop", _RANGE)
    hflip: float = _option(0.5, "probability of a horizontal flip", _within(0, 1))
    reprob: float = _option(0.25, "probability of random erasing", _within(0, 1))
    remode: str = _option("pixel", "random erasing by const, rand or pixel", _one_of("const", "rand", "pixel"))
    recount: int = _option(1, "areas erased", _at_least(1))
    mixup: float = _option(0.8, "alpha of mixup, 0 is off", _at_least(0))
    cutmix: float = _option(1.0, "alpha of CutMix, 0 is off", _at_least(0))
    mixup_prob: float = _option(1.0, "probability of mixing", _within(0, 1))
    mixup_switch_prob: float = _option(0.5, "probability of CutMix where both are on", _within(0, 1))
    mixup_mode: str = _option("batch", "batch, pair or elem", _one_of("batch", "pair", "elem"))
    smoothing: float = _option(0.1, "label smoothing", _BELOW_ONE)

    model: str = _option("shiftwise_tiny", "timm's name of the model")
    model_args: dict[str, Any] = field(default_factory=dict, metadata={"help": "more arguments of the model, as YAML"})
    width_factor: float = _option(1.0, "multiplies the channels of a shiftwise model", _POSITIVE)
    drop_path: float = _option(0.2, "stochastic depth at the last block", _BELOW_ONE)
    pretrained: bool = _option(False, "start from timm's weights")
    initial_checkpoint: str | None = _option(None, "start from these weights", _A_FILE)

    opt: str = _option("adamw", "timm's name of the optimizer, e.g. sgd, adamw, lion, lookahead_adamw")
    lr: float = _option(4e-3, "peak learning rate, for the whole batch: batch_size x accumulate x processes", _POSITIVE)
    weight_decay: float = _option(0.05, "not applied to vectors and biases", _at_least(0))
    weight_decay_end: float | None = _option(None, "weight decay at the end, reached along a cosine", _at_least(0))
    momentum: float = _option(0.9, "of SGD and its kin", _BELOW_ONE)
    opt_args: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "more arguments of the optimizer, as YAML"}
    )
    clip_grad: float | None = _option(None, "largest norm of the gradient", _POSITIVE)
    layer_decay: float | None = _option(
        None,
        "learning rate factor from layer to layer, below 1 for fine-tuning",
        (lambda rate: 0 < rate <= 1, "above 0, up to 1"),
    )
    sched: str = _option("cosine", "timm's name of the learning rate schedule")
    epochs: int = _option(300, "all epochs, warm-up included", _POSITIVE)
    warmup_epochs: int = _option(5, "epochs in which the learning rate rises", _at_least(0))
    warmup_lr: float = _option(0.0, "learning rate at the very start", _at_least(0))
    min_lr: float = _option(1e-6, "learning rate at the very end", _at_least(0))
    batch_size: int = _option(64, "images per process and forward pass", _POSITIVE)
    accumulate: int = _option(8, "forward passes per optimizer step", _POSITIVE)
    ema_decay: float = _option(0.0, "decay of the averaged weights, which are then the result; 0 is off", _BELOW_ONE)

    amp: str = _option("no", "no, bf16 or fp16", _one_of("no", "bf16", "fp16"))
    channels_last: bool = _option(False, "memory format")
    compile: bool = _option(False, "use torch.compile")
    sync_bn: bool = _option(True, "batch statistics over all processes, on GPUs")

    sparsity: float = _option(0.3, "share of the units that is off; 0 trains densely")
    targets: tuple[str, ...] = _option(("*.conv.weights.*",), "name patterns of the parameters to make sparse")
    granularity: str = _option("shared_filter", "element, filter, shared_filter, N:M, unit or channel")
    align_every: int = _option(131, "mask updates between those that parallel paths share")
    distribution: str = _option("snip", "uniform, erk or snip")
    initialisation: str = _option("top", "top, random or nonzero")
    importance: str = _option("magnitude", "magnitude, gradient, snip or movement")
    update: str = _option("set", "set, rigl, static or gradual")
    update_every: int = _option(100, "optimizer steps between mask updates")
    drop_fraction: float = _option(0.3, "share of the units that an update replaces, at first")
    final_drop_fraction: float = _option(0.005, "the same at the end")
    drop_schedule: str = _option("cosine", "constant, cosine or cubic, between the two")
    regrow_dropped: bool = _option(False, "let a unit grow back in the update that drops it")
    published: bool = _option(False, "decide masks as the published code does")

    output: str = _option("runs/train", "folder of the run; one that holds a run continues it")
    seed: int = _option(0, "of everything", _within(0, 2**31 - 1))
    keep: int = _option(3, "checkpoints kept, besides the best", _POSITIVE)
    checkpoint_every: int = _option(1, "epochs between checkpoints", _POSITIVE)
    checkpoint_minutes: float = _option(
        15.0, "minutes between checkpoints within an epoch; 0 writes none", _at_least(0)
    )
    trackers: tuple[str, ...] = _option(("tensorboard",), "tensorboard, wandb, trackio")

    def __post_init__(self) -> None:
        for option in dataclasses.fields(self):
            value, check = getattr(self, option.name), option.metadata.get("check")
            if value is not None and check is not None and not check[0](value):
                raise InputError(f"{option.name}: got {value!r}, want {check[1]}")
        if unknown := set(self.trackers) - set(TRACKERS):
            raise InputError(f"trackers: got {min(unknown)!r}, want some of {', '.join(TRACKERS)}")
        if self.mixes and self.batch_size % 2:
            raise InputError(f"batch_size: got {self.batch_size}, but mixup and CutMix want an even number")
        if self.warmup_epochs >= self.epochs:
            raise InputError(f"warmup_epochs: got {self.warmup_epochs}, want less than epochs, {self.epochs}")
        if self.dataset != "digits" and self.data_dir is None:
            raise InputError(f"data_dir: got nothing, but the data set {self.dataset!r} wants a folder")
        self.sparsity_config(total_steps=1)

    @property
    def mixes(self) -> bool:
        """Whether images of a batch are mixed."""
        return self.mixup > 0 or self.cutmix > 0

    def sparsity_config(self, total_steps: int) -> SparsityConfig | None:
        """Return the engine's configuration for a run of so many optimizer steps, or None where all stays dense."""
        if self.sparsity == 0:
            return None
        shared = {f.name for f in dataclasses.fields(SparsityConfig)} & {f.name for f in dataclasses.fields(self)}
        settings = {name: getattr(self, name) for name in shared}
        try:
            return SparsityConfig(**settings, schedule=self.drop_schedule, total_steps=total_steps)
        except ValueError as error:
            raise InputError(str(error)) from error

    def plain(self) -> dict[str, Any]:
        """Return the recipe as YAML and JSON can hold it."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}


def read_recipe(config: str | None, flags: dict[str, Any]) -> Recipe:
    """Combine a shipped recipe's name or a YAML file with flags, which win.

    Raises:
        InputError: for an unknown option, a value of the wrong type, or a file that is no recipe.
    """
    settings = {**(_read_yaml(config) if config else {}), **flags}
    if settings.get("granularity") == "unit":
        settings.setdefault("targets", ["*"])  # any layer has units; small kernels, the default, have none
    return recipe_from(settings, config)


def recipe_from(settings: dict[str, Any], source: str | None) -> Recipe:
    """Build a recipe from plain values, checking their types; ``source`` is named in errors, where it is a file."""
    hints = get_type_hints(Recipe)
    where = f"{source}: " if source else ""
    if unknown := settings.keys() - hints.keys():
        raise InputError(f"{where}no option is called {min(unknown)!r}")
    return Recipe(**{name: checked(value, hints[name], f"{where}{name}") for name, value in settings.items()})


def shipped_recipes() -> list[str]:
    """Return the names of the recipes inside the package."""
    files = [file.name for file in resources.files("sw_sparse.recipes").iterdir()]
    return sorted(name.removesuffix(".yaml") for name in files if name.endswith(".yaml"))


def _read_yaml(config: str) -> dict[str, Any]:
    if config in shipped_recipes():
        text = resources.files("sw_sparse.recipes").joinpath(f"{config}.yaml").read_text()
    elif Path(config).is_file():
        text = Path(config).read_text()
    else:
        raise InputError(f"config: got {config!r}, want a YAML file or one of {', '.join(shipped_recipes())}")
    try:
        settings = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{config}: not YAML ({error})") from error
    if not isinstance(settings, dict):
        raise InputError(f"{config}: got a {type(settings).__name__}, want options as 'name: value'")
    return settings
