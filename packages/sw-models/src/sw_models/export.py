"""Export of the deployed form to ONNX, TorchScript and ``torch.export``, each checked against the model."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from timm.utils import reparameterize_model
from torch import Tensor, nn

from sw_models.errors import InputError
from sw_ops import use_backend

Format = Literal["onnx", "torchscript", "exported"]
SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "torchscript": ".pt", "exported": ".pt2"}


def export_model(model: nn.Module, path: Path, form: Format, size: int = 224) -> float:
    """Write the deployed form of ``model`` to ``path``, atomically, once what was written has been run and compared.

    Args:
        model: a model of this package; it is left alone.
        path: the file to write.
        form: "onnx" (checked with onnxruntime), "torchscript" or "exported" (a ``torch.export`` program).
        size: height and width of the image, fixed in the file; the batch may vary in ONNX and "exported".

    Returns:
        The largest difference between the file's output and the model's, as a share of the largest output.

    Raises:
        InputError: the two differ by more than 1e-3.
    """
    deployed = reparameterize_model(model.eval())
    first = next(m for m in deployed.modules() if isinstance(m, nn.Conv2d))
    images = torch.randn(2, first.in_channels, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), use_backend("torch"):  # the file must run where sw-ops is not installed
        expected = deployed(images)
        handle, name = tempfile.mkstemp(dir=path.parent, suffix=SUFFIXES[form])
        os.close(handle)
        temporary = Path(name)
        try:
            actual = _WRITERS[form](deployed, images, temporary)
            difference = ((actual - expected).abs().max() / expected.abs().max()).item()
            if not difference < 1e-3:
                raise InputError(f"model: the {form} file's output differs by {difference:.1e}, want less than 1e-3")
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    return difference


def _any_batch() -> dict[int, Any]:
    return {0: torch.export.Dim("batch", min=1, max=2**20)}  # torch 2.6 cannot do without an upper bound


def _write_onnx(model: nn.Module, images: Tensor, path: Path) -> Tensor:
    import onnxruntime

    torch.onnx.export(
        model, (images,), path, input_names=["image"], output_names=["logits"], dynamo=True, external_data=False,
        dynamic_shapes=(_any_batch(),), verbose=False,
    )  # fmt: skip
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return torch.from_numpy(np.asarray(session.run(None, {"image": images.numpy()})[0]))


def _write_torchscript(model: nn.Module, images: Tensor, path: Path) -> Tensor:
    torch.jit.trace(model, images).save(str(path))
    return torch.jit.load(str(path))(images)


def _write_exported(model: nn.Module, images: Tensor, path: Path) -> Tensor:
    torch.export.save(torch.export.export(model, (images,), dynamic_shapes=(_any_batch(),)), path)
    return torch.export.load(path).module()(images)


_WRITERS: dict[Format, Callable[[nn.Module, Tensor, Path], Any]] = {
    "onnx": _write_onnx,
    "torchscript": _write_torchscript,
    "exported": _write_exported,
}
