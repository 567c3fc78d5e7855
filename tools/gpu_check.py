"""Everything a GPU is needed for, in one call: build, correctness, the test suite, speed and memory.

    python tools/gpu_check.py --json gpu.json

Installs sw-ops from this checkout into a temporary folder with what is already on the machine (a CUDA compiler, torch,
pybind11, scikit-build-core), so it needs no network. Prints one table per part, and writes every figure as JSON. On a
machine without a GPU it builds, says what was not run, and ends with 1.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
TOLERANCE = {torch.float32: 1e-5, torch.float16: 3e-3, torch.bfloat16: 2e-2}
MAPS = [(2, 5, 9, 7), (1, 1, 1, 1), (3, 17, 1, 40), (2, 60, 56, 56), (2, 122, 28, 28), (1, 246, 14, 14), (4, 492, 7, 7)]
MAPS += [(1, 33, 65, 33), (1, 8, 130, 200), (0, 4, 8, 8)]
KERNELS = [(51, 3, 25), (51, 3, 24), (48, 3, 23), (15, 3, 6), (55, 5, 25), (3, 3, 1)]
RESULTS = ("h", "v", "s", "fused map", *(f"gradient to {name}" for name in ("x", "horizontal", "vertical", "square")))
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def main() -> int:
    """Run every part; return 0 if everything that was to run did and was right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=None, help="write every figure to this file")
    parser.add_argument("--batch", type=int, default=128, help="images per call in the measurements")
    arguments = parser.parse_args()
    found: dict[str, Any] = {"torch": torch.__version__, "batch": arguments.batch}
    with tempfile.TemporaryDirectory() as folder:
        found["build"] = build(Path(folder))
        if not torch.cuda.is_available():
            print("No GPU is visible. Not run: correctness, test suite, operator speed, model speed and memory.")
            passed = False
        else:
            found["gpu"] = torch.cuda.get_device_name()
            found["correctness"] = correctness()
            found["tests"] = test_suite(folder)
            found["operator"] = operator_speed(arguments.batch)
            found["model"] = model_speed(arguments.batch)
            passed = not found["correctness"]["wrong"] and found["tests"]["passed"]
        if arguments.json:
            arguments.json.write_text(json.dumps(found, indent=2))
    return 0 if passed else 1


def build(folder: Path) -> dict[str, Any]:
    """Install sw-ops into ``folder`` and import it from there."""
    start = time.perf_counter()
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*install, "--target", str(folder), str(ROOT / "packages/sw-ops")], check=True)
    seconds = time.perf_counter() - start
    sys.path[:0] = [str(folder), str(ROOT / "packages/sw-models/src")]
    native = importlib.import_module("sw_ops._C")
    print(f"built in {seconds:.0f} s: {native.compiler}, {native.cuda_compiler or 'no CUDA compiler'}")
    return {"seconds": seconds, "compiler": native.compiler, "cuda_compiler": native.cuda_compiler}


def correctness() -> dict[str, Any]:
    """Compare outputs and gradients with the pure form in float64, on fresh random inputs and poisoned outputs."""
    stripe = importlib.import_module("sw_ops.stripe")
    reference = importlib.import_module("sw_ops.reference")
    worst: dict[str, float] = {}
    wrong: list[str] = []
    # PyTorch then fills what torch.empty returns with NaN, so an output that a kernel leaves out shows.
    torch.use_deterministic_algorithms(True, warn_only=True)
    for map_size, kernel, dtype, layout in itertools.product(MAPS, KERNELS, TOLERANCE, LAYOUTS):
        length, thickness, anchor = kernel
        channels = map_size[1]
        shapes = [
            map_size,
            (channels, thickness, length),
            (channels, length, thickness),
            (channels,) + (thickness,) * 2,
        ]
        rounded = [torch.randn(shape, device="cuda").to(dtype) for shape in shapes]
        rounded[0] = rounded[0].contiguous(memory_format=LAYOUTS[layout])
        upstream = [torch.randn(map_size, device="cuda").to(dtype) for _ in range(4)]
        got = _outputs_and_gradients(stripe, rounded, anchor, upstream)
        want = _outputs_and_gradients(reference, [t.double() for t in rounded], anchor, [t.double() for t in upstream])
        for name, g, w in zip(RESULTS, got, want, strict=True):
            error = float((g.double() - w).abs().max() / w.abs().max()) if g.numel() else 0.0
            key = f"{str(dtype).removeprefix('torch.')} {name}"
            worst[key] = max(error, worst.get(key, 0.0))
            if not error <= TOLERANCE[dtype]:  # also true for NaN
                wrong.append(f"{key}: {error:.1e} at {map_size}, {kernel}, {layout}")
    torch.use_deterministic_algorithms(False)
    print(f"correctness: {len(wrong)} wrong; largest errors relative to the maximum:")
    for key, error in worst.items():
        print(f"  {key:32} {error:.1e}")
    for line in wrong[:20]:
        print("  WRONG", line)
    return {"worst": worst, "wrong": wrong}


def _outputs_and_gradients(module: Any, tensors: list[torch.Tensor], anchor: int, upstream: list[torch.Tensor]) -> Any:
    x, horizontal, vertical, square = tensors = [t.detach().requires_grad_() for t in tensors]
    outputs = [*module.stripe_conv2d(x, horizontal, vertical, square, anchor)]
    outputs.append(module.stripe_conv2d_fused(x, horizontal, vertical, square[:, 0, 0], anchor))
    return [*outputs, *torch.autograd.grad(outputs, tensors, upstream)]


def test_suite(folder: str) -> dict[str, Any]:
    """Run the tests of sw-ops with every tensor on the GPU."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "packages/sw-ops/tests",
        "--device",
        "cuda",
    ]
    environment = {"PYTHONPATH": folder, "PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": folder}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    tail = run.stdout.strip().splitlines()[-25:]
    print("tests on the GPU:", *tail, sep="\n  ")
    return {"passed": run.returncode == 0, "tail": tail}


def operator_speed(batch: int) -> list[dict[str, Any]]:
    """Time the operator against the memory floor, the dense 13x13 convolution and the published algorithm."""
    bench = importlib.import_module("sw_ops.bench.candidates")
    device = torch.device("cuda")
    bandwidth = _copy_bandwidth()
    print(f"operator, batch {batch}; copies run at {bandwidth / 1e12:.2f} TB/s, which makes the floor")
    found = []
    for dtype in (torch.bfloat16, torch.float32):
        rows = []
        for shape, measured in zip(
            bench.TINY_STAGES,
            bench.measure(bench.TINY_STAGES, batch=batch, device=device, dtype=dtype, repeats=5),
            strict=True,
        ):
            plane = batch * shape.channels * shape.size**2 * dtype.itemsize
            floor = {"fused": 2, "three maps": 4, "three maps + backward": 4 + 5}  # maps read and written
            for row in measured:
                maps = floor.get(row.contender)
                of_floor = row.milliseconds / 1e3 / (maps * plane / bandwidth) if maps else None
                rows.append({"dtype": str(dtype), **vars(row), "of_floor": of_floor})
                shown = f"{of_floor:6.1f} x floor" if of_floor else ""
                print(f"  {row.shape:22} {row.contender:32} {row.layout:14} {row.milliseconds:9.3f} ms {shown}")
            torch.cuda.empty_cache()
        found += rows
    return found


def model_speed(batch: int) -> list[dict[str, Any]]:
    """Measure images per second and peak memory of shiftwise_tiny, in training and in inference."""
    timm = importlib.import_module("timm")
    importlib.import_module("sw_models")
    sw_ops = importlib.import_module("sw_ops")
    turns = importlib.import_module("sw_ops.bench.timing")
    x = torch.randn(batch, 3, 224, 224, device="cuda").contiguous(memory_format=torch.channels_last)
    found = []
    for backend in ("auto", "torch"):
        model = timm.create_model("shiftwise_tiny").cuda().to(memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(model.parameters(), foreach=True)

        def train(model: Any = model, optimizer: Any = optimizer) -> None:
            with torch.autocast("cuda", torch.bfloat16):
                loss = model(x).float().square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

        @torch.inference_mode()
        def infer(deployed: Any) -> None:
            with torch.autocast("cuda", torch.bfloat16):
                deployed(x)

        with sw_ops.use_backend(backend):
            deployed = sw_ops.reparameterize(model).eval()
            runs: dict[str, Callable[[], None]] = {"training": train, "inference": partial(infer, deployed)}
            for name, run in runs.items():
                torch.cuda.reset_peak_memory_stats()
                seconds = turns.seconds_per_call(run, calls=20)
                peak = torch.cuda.max_memory_allocated() / 2**30
                found.append({"backend": backend, "what": name, "images_per_second": batch / seconds, "peak_gib": peak})
                print(f"  shiftwise_tiny {name:10} backend {backend:6} {batch / seconds:8.0f} images/s {peak:6.1f} GiB")
    return found


def _copy_bandwidth() -> float:
    turns = importlib.import_module("sw_ops.bench.timing")
    source = torch.empty(2**28, dtype=torch.float32, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.nbytes / turns.seconds_per_call(lambda: target.copy_(source), calls=40)


if __name__ == "__main__":
    sys.exit(main())
