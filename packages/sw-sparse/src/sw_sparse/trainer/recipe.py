"""The recipe: everything that decides how a run goes, from flags or a YAML file."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from sw_models.errors import InputError
from sw_sparse.config import SparsityConfig

MAY_CHANGE_ON_RESUME = frozenset({"output", "workers", "trackers", "keep", "checkpoint_every", "data_dir", "download"})

TRACKERS = ("tensorboard", "wandb", "trackio")


def _option(default: Any, help_: str) -> Any:
    return field(default=default, metadata={"help": help_})


@dataclass(frozen=True)
class Recipe:
    """Every option of a training run. The defaults are the paper's SW-T recipe on 8 GPUs (arXiv 2401.12736)."""

    dataset: str = _option("folder", "folder, tar, digits, or timm's name: hfds/..., wds/..., torch/cifar100, ...")
    data_dir: str | None = _option(None, "where train and val are: folders of class folders, or .tar files")
    train_split: str = _option("train", "split to train on")
    val_split: str = _option("validation", "split to validate on after every epoch")
    test_split: str | None = _option(None, "split to test the final weights on, once")
    num_classes: int | None = _option(None, "classes; read from the data where they tell")
    download: bool = _option(False, "let the data set download itself")
    workers: int = _option(4, "loader processes per training process")

    input_size: int = _option(224, "height and width of the images in pixels")
    crop_pct: float = _option(0.875, "share of the resized image that evaluation crops from its centre")
    interpolation: str = _option("bicubic", "bilinear, bicubic or random")
    mean: tuple[float, float, float] = _option((0.485, 0.456, 0.406), "of the colours, in 0..1")
    std: tuple[float, float, float] = _option((0.229, 0.224, 0.225), "of the colours, in 0..1")

    auto_augment: str | None = _option("rand-m9-mstd0.5-inc1", "timm's name of a RandAugment or AutoAugment policy")
    color_jitter: float = _option(0.4, "strength, used where there is no auto_augment")
    scale: tuple[float, float] = _option((0.08, 1.0), "smallest and largest share of the image in a random crop")
    ratio: tuple[float, float] = _option((0.75, 1.3333), "narrowest and widest aspect of a random crop")
    hflip: float = _option(0.5, "probability of a horizontal flip")
    reprob: float = _option(0.25, "probability of random erasing")
    remode: str = _option("pixel", "random erasing by const, rand or pixel")
    recount: int = _option(1, "areas erased")
    mixup: float = _option(0.8, "alpha of mixup, 0 is off")
    cutmix: float = _option(1.0, "alpha of CutMix, 0 is off")
    mixup_prob: float = _option(1.0, "probability of mixing")
    mixup_switch_prob: float = _option(0.5, "probability of CutMix where both are on")
    mixup_mode: str = _option("batch", "batch, pair or elem")
    smoothing: float = _option(0.1, "label smoothing")

    model: str = _option("shiftwise_tiny", "timm's name of the model")
    model_args: dict[str, Any] = field(default_factory=dict, metadata={"help": "more arguments of the model, as YAML"})
    width_factor: float = _option(1.0, "multiplies the channels of a shiftwise model")
    drop_path: float = _option(0.2, "stochastic depth at the last block")
    pretrained: bool = _option(False, "start from timm's weights")
    initial_checkpoint: str | None = _option(None, "start from these weights")

    opt: str = _option("adamw", "timm's name of the optimizer, e.g. sgd, adamw, lion, lookahead_adamw")
    lr: float = _option(4e-3, "peak learning rate, for the whole batch: batch_size x accumulate x processes")
    weight_decay: float = _option(0.05, "not applied to vectors and biases")
    weight_decay_end: float | None = _option(None, "weight decay at the end, reached along a cosine")
    momentum: float = _option(0.9, "of SGD and its kin")
    opt_args: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "more arguments of the optimizer, as YAML"}
    )
    clip_grad: float | None = _option(None, "largest norm of the gradient")
    layer_decay: float | None = _option(None, "learning rate factor from layer to layer, below 1 for fine-tuning")
    sched: str = _option("cosine", "timm's name of the learning rate schedule")
    epochs: int = _option(300, "all epochs, warm-up included")
    warmup_epochs: int = _option(5, "epochs in which the learning rate rises")
    warmup_lr: float = _option(0.0, "learning rate at the very start")
    min_lr: float = _option(1e-6, "learning rate at the very end")
    batch_size: int = _option(64, "images per process and forward pass")
    accumulate: int = _option(8, "forward passes per optimizer step")
    ema_decay: float = _option(0.0, "decay of the averaged weights, which are then the result; 0 is off")

    amp: str = _option("no", "no, bf16 or fp16")
    channels_last: bool = _option(False, "memory format")
    compile: bool = _option(False, "use torch.compile")
    sync_bn: bool = _option(True, "batch statistics over all processes, on GPUs")

    sparsity: float = _option(0.3, "share of the units that is off; 0 trains densely")
    targets: tuple[str, ...] = _option(("*.conv.weights.*",), "name patterns of the parameters to make sparse")
    granularity: str = _option("shared_filter", "element, filter, shared_filter or N:M")
    align_every: int = _option(131, "mask updates between those that parallel paths share")
    distribution: str = _option("snip", "uniform, erk or snip")
    initialisation: str = _option("top", "top, random or nonzero")
    importance: str = _option("magnitude", "magnitude, gradient, snip or movement")
    update: str = _option("set", "set, rigl, static or gradual")
    update_every: int = _option(100, "optimizer steps between mask updates")
    drop_fraction: float = _option(0.3, "share of the units that an update replaces, at first")
    final_drop_fraction: float = _option(0.005, "the same at the end")
    drop_schedule: str = _option("cosine", "constant, cosine or cubic, between the two")
    published: bool = _option(False, "decide masks as the published code does")

    output: str = _option("runs/train", "folder of the run; one that holds a run continues it")
    seed: int = _option(0, "of everything")
    keep: int = _option(3, "checkpoints kept, besides the best")
    checkpoint_every: int = _option(1, "epochs between checkpoints")
    trackers: tuple[str, ...] = _option(("tensorboard",), "tensorboard, wandb, trackio")

    def __post_init__(self) -> None:
        for option in dataclasses.fields(self):
            if isinstance(option.default, tuple):  # YAML and flags bring lists
                object.__setattr__(self, option.name, tuple(getattr(self, option.name)))
        for name in ("epochs", "batch_size", "accumulate", "input_size", "keep", "checkpoint_every", "width_factor"):
            if getattr(self, name) <= 0:
                raise InputError(f"{name}: got {getattr(self, name)}, want more than 0")
        if unknown := set(self.trackers) - set(TRACKERS):
            raise InputError(f"trackers: got {min(unknown)!r}, want some of {', '.join(TRACKERS)}")
        if self.amp not in ("no", "bf16", "fp16"):
            raise InputError(f"amp: got {self.amp!r}, want no, bf16 or fp16")
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
    return recipe_from(settings, config or "the flags")


def recipe_from(settings: dict[str, Any], source: str) -> Recipe:
    """Build a recipe from plain values, checking their types; ``source`` is named in errors."""
    known = {option.name: option for option in dataclasses.fields(Recipe)}
    for name, value in settings.items():
        if name not in known:
            raise InputError(f"{source}: no option is called {name!r}")
        settings[name] = _checked(value, str(known[name].type), f"{source}: {name}")
    return Recipe(**settings)


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
        raise InputError(f"{config}: not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(settings, dict):
        raise InputError(f"{config}: got a {type(settings).__name__}, want options as 'name: value'")
    return settings


def _checked(value: Any, wanted: str, what: str) -> Any:
    """Check a value from YAML against an annotation such as ``float | None``."""
    options = [part.strip() for part in wanted.split("|")]
    if value is None and "None" in options:
        return None
    kinds: dict[str, Any] = {"int": int, "float": (int, float), "str": str, "bool": bool}
    kind: Any = kinds.get(options[0], dict if options[0].startswith("dict") else (list, tuple))
    if not isinstance(value, kind) or (isinstance(value, bool) and options[0] != "bool"):
        if options[0] == "float" and isinstance(value, str):  # YAML 1.1 reads 4e-3 as text
            try:
                return float(value)
            except ValueError:
                pass
        raise InputError(f"{what}: got {value!r}, want {wanted}")
    return float(value) if options[0] == "float" else value
