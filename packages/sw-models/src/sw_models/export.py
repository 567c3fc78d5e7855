"""The one writer of deployed models: ONNX, TorchScript and ``torch.export`` files, each compared with its model."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from timm.utils import reparameterize_model
from torch import Tensor, nn

from sw_models.errors import InputError
from sw_models.files import write_atomically
from sw_ops import to_onnx, use_backend

Format = Literal["onnx", "torchscript", "exported"]
FORMATS: tuple[Format, ...] = ("onnx", "torchscript", "exported")
TOLERANCE = 1e-3
CLASSES = "classes"  # the entry of an ONNX file's metadata; in the others it is the extra file "classes.json"


def export_model(
    model: nn.Module, path: Path, form: Format, size: int = 224, classes: Sequence[str] | None = None
) -> float:
    """Write the deployed form of ``model`` to ``path``, atomically, once what was written has been run and compared.

    Args:
        model: a model of this package; it is left alone.
        path: the file to write.
        form: "onnx" (checked with onnxruntime), "torchscript" or "exported" (a ``torch.export`` program).
        size: height and width of the image, fixed in the file; the batch may vary in ONNX and "exported".
        classes: the names of the outputs, which the file will hold.

    Returns:
        The largest difference between the file's output and the model's, as a share of the largest output.

    Raises:
        InputError: the two differ by more than :data:`TOLERANCE`.

    Example:
        >>> export_model(timm.create_model("shiftwise_nano"), Path("nano.onnx"), "onnx")  # doctest: +SKIP
        3.1e-07
    """
    deployed = reparameterize_model(model).eval()
    first = next(m for m in deployed.modules() if isinstance(m, nn.Conv2d))
    images = torch.randn(2, first.in_channels, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), use_backend("torch"):
        expected = deployed(images)

    def difference(found: list[Tensor]) -> float:
        return ((found[0] - expected).abs().max() / expected.abs().max()).item()

    any_batch = ({0: torch.export.Dim("batch", min=1, max=2**20)},)  # torch 2.6 cannot do without an upper bound
    signature = Signature({"image": images}, ("logits",), dynamic_shapes=any_batch)
    return write_checked(deployed, signature, path, form, difference, classes)


@dataclass(frozen=True)
class Signature:
    """What a model's file takes and gives.

    Attributes:
        inputs: an example of each input, by name.
        outputs: the names of the outputs.
        dynamic_shapes: which dimensions of the inputs may vary, as ``torch.export`` wants it.
        varying: which dimensions of the outputs depend on what is in the input, by name and number. ONNX files of such
            models are made by tracing, which follows them in every version of torch.
    """

    inputs: Mapping[str, Tensor]
    outputs: Sequence[str]
    dynamic_shapes: Any = None
    varying: Mapping[str, Mapping[int, str]] | None = None


def write_checked(
    model: nn.Module,
    signature: Signature,
    path: Path,
    form: Format,
    difference: Callable[[list[Tensor]], float],
    classes: Sequence[str] | None = None,
) -> float:
    """Write a model to a file, atomically, once what was written has been run and compared.

    Args:
        model: in evaluation mode, as it is to be deployed.
        signature: what it takes and gives.
        path: the file to write.
        form: "onnx", "torchscript" or "exported".
        difference: compares the file's outputs for the example inputs with the wanted ones.
        classes: the names of the classes that the model knows: in ONNX files the metadata "classes", in others the
            extra file "classes.json"; a JSON list.

    Returns:
        The difference.

    Raises:
        InputError: it is more than :data:`TOLERANCE`; then nothing is written.
    """
    names = json.dumps(list(classes)) if classes else None
    differences: list[float] = []

    def write(file: Path) -> None:
        differences.append(difference(_WRITERS[form](model, signature, file, names)))
        if not differences[0] < TOLERANCE:
            raise InputError(
                f"model: the {form} file differs from the model by {differences[0]:.1e}, want less than {TOLERANCE:g}"
            )

    with torch.no_grad(), use_backend("torch"), warnings.catch_warnings():  # it must run where sw-ops is not installed
        warnings.simplefilter("ignore")  # tracing asks about every decision that depends on a shape
        write_atomically(path, write)
    return differences[0]


def _write_onnx(model: nn.Module, signature: Signature, path: Path, classes: str | None) -> list[Tensor]:
    import onnx
    import onnxruntime

    if signature.varying:
        options: dict[str, Any] = {"dynamo": False, "opset_version": 18, "dynamic_axes": signature.varying}
    else:
        options = {"dynamo": True, "dynamic_shapes": signature.dynamic_shapes}
    options |= {"input_names": list(signature.inputs), "output_names": list(signature.outputs)}
    written = to_onnx(model, tuple(signature.inputs.values()), **options)
    if classes:
        onnx.helper.set_model_props(written, {CLASSES: classes})
    onnx.save(written, path, format="protobuf")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    values = session.run(None, {name: value.numpy() for name, value in signature.inputs.items()})
    return [torch.from_numpy(np.asarray(value)) for value in values]


def _write_torchscript(model: nn.Module, signature: Signature, path: Path, classes: str | None) -> list[Tensor]:
    inputs = tuple(signature.inputs.values())
    buffer = io.BytesIO()  # a file's name would be in the content
    traced = torch.jit.trace(model, inputs, check_trace=not signature.varying)
    torch.jit.save(traced, buffer, _extra_files=_extra_files(classes))
    path.write_bytes(buffer.getvalue())
    return _listed(torch.jit.load(str(path))(*inputs))


def _write_exported(model: nn.Module, signature: Signature, path: Path, classes: str | None) -> list[Tensor]:
    inputs = tuple(signature.inputs.values())
    buffer = io.BytesIO()  # as a file it would want a name that ends in .pt2
    program = torch.export.export(model, inputs, dynamic_shapes=signature.dynamic_shapes)
    torch.export.save(program, buffer, extra_files=_extra_files(classes))
    path.write_bytes(buffer.getvalue())
    buffer.seek(0)
    return _listed(torch.export.load(buffer).module()(*inputs))


def _extra_files(classes: str | None) -> dict[str, Any]:
    return {f"{CLASSES}.json": classes} if classes else {}


def _listed(outputs: Any) -> list[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else list(outputs)


_WRITERS: dict[Format, Callable[[nn.Module, Signature, Path, str | None], list[Tensor]]] = {
    "onnx": _write_onnx,
    "torchscript": _write_torchscript,
    "exported": _write_exported,
}
