"""The options of fitting a detector, which ``sw-anomaly train`` and ``sw-anomaly eval`` have in common."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from sw_models.errors import InputError

TRAINED = ("auto", "unet", "unet+bank", "unet+patchcore")
WITH_BACKBONE = ("patchcore", "unet+patchcore")
METHODS_WITH = {  # for options that not every method has
    "--model": TRAINED,
    "--protocol": TRAINED,
    "--epochs": TRAINED,
    "--threads": TRAINED,
    "--backbone": WITH_BACKBONE,
    "--weights": WITH_BACKBONE,
}


def fit_options(
    method: Annotated[
        str | None,
        Option(help="auto (the default), unet, bank, unet+bank, patchcore or unet+patchcore: see the README."),
    ] = None,
    model: Annotated[
        str | None, Option(help="Of the method unet: swnano (the default), swtiny, swtiny_pp or vanilla.")
    ] = None,
    backbone: Annotated[
        str | None,
        Option(help="Of the method patchcore: any model of timm. Default: efficientnet_lite0 if installed."),
    ] = None,
    weights: Annotated[Path | None, Option(help="File with the weights of the backbone.")] = None,
    align: Annotated[
        str | None, Option(help="auto (the default): parts are brought into one pose if that helps; off.")
    ] = None,
    tile: Annotated[
        str | None,
        Option(help="auto (the default): in tiles, if the smallest defect would be lost otherwise; on; off."),
    ] = None,
    smallest_defect: Annotated[
        int | None, Option(min=1, help="Width in pixels of the smallest defect that matters. Default: 10.")
    ] = None,
    protocol: Annotated[
        str | None, Option(help="unsupervised (the default), supervised, or the leaky published one.")
    ] = None,
    defects: Annotated[
        int | None, Option(min=1, help="Defective images that supervised training sees. Default: 10.")
    ] = None,
    known_type: Annotated[
        str | None, Option(help="Draw those from this type alone, and test on the other types.")
    ] = None,
    bit_depth: Annotated[
        int | None,
        Option(min=8, max=16, help="Bits in use in 16-bit files. Default: learned from the training images."),
    ] = None,
    epochs: Annotated[int | None, Option(min=1, help="Epochs, of 128 batches of 8 images each. Default: 8.")] = None,
    image_size: Annotated[
        int | None, Option(help="Side in pixels, a multiple of 32. Default: that of the images, at most 320.")
    ] = None,
    seed: Annotated[int | None, Option(min=0, help="What all that is random follows from. Default: 0.")] = None,
    threads: Annotated[
        int | None, Option(min=1, help="Threads that training uses; other numbers give other networks. Default: 2.")
    ] = None,
) -> dict[str, Any]:
    """Return the fields of ``TrainingConfig`` that a command is asked for; what each is its help says.

    Raises:
        InputError: If an option is out of range, or does not go with another.
    """
    from sw_anomaly.data.splits import DEFECTS
    from sw_anomaly.methods.unet.networks import MODELS

    _check_choice("--method", method, (*TRAINED, "bank", "patchcore"))
    _check_choice("--model", model, MODELS)
    _check_choice("--align", align, ("auto", "off"))
    _check_choice("--tile", tile, ("auto", "on", "off"))
    _check_choice("--protocol", protocol, ("unsupervised", "supervised", "published"))
    other = None if protocol == "unsupervised" else protocol
    given = {
        "--model": model,
        "--protocol": other,
        "--epochs": epochs,
        "--threads": threads,
        "--backbone": backbone,
        "--weights": weights,
    }
    for name, value in given.items():
        fitting = METHODS_WITH[name]
        if value is not None and (method or "auto") not in fitting:
            raise InputError(f"{name}: got {value} for the method {method or 'auto'}, want --method {fitting[0]}")
    if protocol != "supervised" and (defects or known_type):
        raise InputError(
            f"--protocol: got {protocol or 'unsupervised'}, want supervised with --defects or --known-type"
        )
    if image_size is not None and (image_size < 64 or image_size % 32):
        raise InputError(f"--image-size: got {image_size}, want a multiple of 32 from 64")
    asked = {
        "method": method,
        "model": model,
        "backbone": backbone,
        "weights": None if weights is None else str(weights),
        "align": align,
        "tile": tile,
        "smallest_defect": smallest_defect,
        "protocol": protocol,
        "defects": defects or DEFECTS if protocol == "supervised" else None,
        "known_type": known_type,
        "bit_depth": bit_depth,
        "epochs": epochs,
        "image_size": image_size,
        "seed": seed,
        "threads": threads,
    }
    return {name: value for name, value in asked.items() if value is not None}


def with_fit_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the parameters of ``fit_options``, whose result becomes its argument ``options``."""
    own, added = (inspect.signature(one, eval_str=True).parameters for one in (command, fit_options))

    @functools.wraps(command)
    def wrapped(**given: Any) -> None:
        options = fit_options(**{name: given.pop(name) for name in added})
        command(options=options, **given)

    parameters = {name: parameter for name, parameter in own.items() if name != "options"} | dict(added)
    keywords = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters.values()]
    wrapped.__signature__ = inspect.Signature(keywords)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {name: parameter.annotation for name, parameter in parameters.items()}
    return wrapped


def _check_choice(option: str, value: str | None, choices: Iterable[str]) -> None:
    if value is not None and value not in choices:
        raise InputError(f"{option}: got {value!r}, want one of {', '.join(choices)}")
