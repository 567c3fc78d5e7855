"""A detector in other runtimes: the time of an image, and how far its scores lie from the detector's own.

make peers
.venvs/peers/bin/python packages/sw-anomaly/tools/runtimes.py RUN [--threads 1]

RUN is a folder that `sw-anomaly eval` wrote, whose images are where they were. The exported file is computed by
onnxruntime alone, by onnxruntime with the library of sw-ops, and by OpenVINO, once more after onnxruntime's tools made
its convolutions int8, calibrated on training images. All runtimes take an image in turns; the median counts.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import openvino
import torch
from onnx.inliner import inline_local_functions
from onnxruntime.quantization import CalibrationDataReader, QuantType, quant_pre_process, quantize_static
from sklearn.metrics import roc_auc_score

from sw_anomaly.config import CHECKPOINT
from sw_anomaly.data.images import load_image
from sw_anomaly.data.manifest import training_images
from sw_anomaly.detector import load_detector
from sw_anomaly.experiment.fit import MANIFEST
from sw_anomaly.export.onnx import export_detector
from sw_models.allocator import keep_freed_memory
from sw_ops import onnxruntime_library

CALIBRATED_ON = 40  # training images

Scorer = Callable[[np.ndarray], float]


class Calibration(CalibrationDataReader):
    """Images one after the other, as onnxruntime's quantisation asks for them."""

    def __init__(self, images: Sequence[np.ndarray]) -> None:
        self.images = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next one, or None."""
        return next(({"image": image} for image in self.images), None)


def in_onnxruntime(path: Path, threads: int, library: bool = False) -> Scorer:
    """Return what scores an image by a file in onnxruntime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    if library:
        options.register_custom_ops_library(onnxruntime_library())
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda image: float(session.run(["score"], {"image": image})[0])


def in_openvino(path: Path, threads: int) -> Scorer:
    """Return what scores an image by a file without functions in OpenVINO, in float32."""
    options = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    model = openvino.Core().compile_model(path, "CPU", options)
    return lambda image: float(model({"image": image})["score"])


def quantize(path: Path, calibration: Sequence[np.ndarray], out: Path) -> None:
    """Write a file without functions with convolutions in int8, calibrated on these images."""
    prepared = out.with_suffix(".prepared.onnx")
    quant_pre_process(path, prepared, skip_symbolic_shape=True)
    reader = Calibration(calibration)
    quantize_static(prepared, out, reader, per_channel=True, op_types_to_quantize=["Conv"], weight_type=QuantType.QInt8)


def runtimes(run: Path, folder: Path, threads: int) -> Iterator[tuple[str, Scorer]]:
    """All runtimes by name, the detector itself first."""
    detector = load_detector(run / CHECKPOINT)
    yield "the detector", lambda image: detector.inspect(image).score
    trained_on = [load_image(path) for path in training_images(run / MANIFEST, CALIBRATED_ON)]
    file, plain, int8 = (folder / f"{name}.onnx" for name in ("file", "plain", "int8"))
    export_detector(detector, file, trained_on[:2])
    onnx.save(inline_local_functions(onnx.load(file)), plain)
    yield "onnxruntime", in_onnxruntime(file, threads)
    yield "onnxruntime with sw-ops", in_onnxruntime(file, threads, library=True)
    yield "OpenVINO", in_openvino(plain, threads)
    quantize(plain, trained_on, int8)
    yield "onnxruntime, int8", in_onnxruntime(int8, threads)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(given.threads)
    tested = json.loads((given.run / "results.json").read_text())["images"]
    defective = [image["kind"] != "good" for image in tested]
    with tempfile.TemporaryDirectory() as folder:
        scorers = dict(runtimes(given.run, Path(folder), given.threads))
        scores: dict[str, list[float]] = {name: [] for name in scorers}
        seconds: dict[str, list[float]] = {name: [] for name in scorers}
        for image in (load_image(Path(one["path"])) for one in tested):
            for name, score in scorers.items():
                start = time.perf_counter()
                scores[name].append(score(image))
                seconds[name].append(time.perf_counter() - start)
    own = np.array(scores["the detector"])
    print(f"{given.run}, {given.threads} thread(s), {len(tested)} images")
    for name in scorers:
        apart = np.abs(np.array(scores[name]) - own).max() / np.abs(own).max()
        print(
            f"{name:24} {1000 * np.median(seconds[name]):6.1f} ms   image AUROC "
            f"{100 * roc_auc_score(defective, scores[name]):5.1f} %   scores apart {100 * apart:.2g} %"
        )


if __name__ == "__main__":
    main()
