"""What ``gpu_check.py`` finds out, a function for each part; each yields what it knows so far."""

from __future__ import annotations

import itertools
import math
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Literal

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
TOLERANCE = {torch.float32: 3e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}  # of the largest sum of absolute values
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
RESULTS = ("h", "v", "s", "fused map", *(f"gradient to {name}" for name in ("x", "horizontal", "vertical", "square")))
Map = tuple[int, int, int, int]
Kernel = tuple[int, int, int]  # length, thickness, anchor

MAPS: list[Map] = [(2, 5, 9, 7), (1, 1, 1, 1), (0, 4, 8, 8), (3, 17, 1, 40), (1, 33, 65, 33), (4, 492, 7, 7)]
MAPS += [(1, 246, 14, 14), (2, 122, 28, 28), (2, 60, 56, 56), (1, 8, 130, 200)]
KERNELS: list[Kernel] = [(51, 3, 25), (48, 3, 23), (15, 3, 6), (55, 5, 25), (3, 3, 1)]
CASES: list[tuple[Map, Kernel]] = [  # of the sanitizer: whole maps and windows, all layouts of blocks
    ((2, 4, 9, 7), (15, 3, 6)),
    ((3, 34, 7, 7), (15, 3, 6)),
    ((2, 18, 14, 14), (48, 3, 23)),
    ((1, 5, 56, 56), (51, 3, 25)),
    ((1, 4, 66, 90), (51, 3, 25)),
    ((1, 3, 1, 150), (75, 5, 30)),
]
SMALL = {"maps": MAPS[:3], "kernels": KERNELS[2:3], "cases": CASES[:2]}
STAGES = [(60, 56, 56), (122, 28, 28), (246, 14, 14), (492, 7, 7)]
LARGER = [(60, 128, 128), (60, 200, 336), (60, 65, 65)]  # of detection and segmentation; a 16th of the batch


class Device:
    """A CUDA device, or the CPU in the place of one."""

    def __init__(self, name: str, batch: int) -> None:
        self.cuda = name == "cuda"
        self.name, self.batch, self.small = name, batch if self.cuda else 2, not self.cuda

    def random(self, *shape: int, dtype: torch.dtype, layout: str = "contiguous") -> Tensor:
        """Return normal random numbers; the layout is that of maps."""
        t = torch.randn(shape, device=self.name).to(dtype)
        return t.contiguous(memory_format=LAYOUTS[layout]) if t.ndim == 4 else t

    def seconds(self, run: Callable[[int], object], repeats: int = 9) -> float:
        """Return the median time of ``run(i)``, for i = 0, 1, ..., after two calls to warm up."""
        times = []
        for i in range((1 if self.small else repeats) + 2):
            if self.cuda:
                start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                start.record()
                run(i)
                end.record()
                end.synchronize()
                times.append(start.elapsed_time(end) / 1e3)
            else:
                begin = time.perf_counter()
                run(i)
                times.append(time.perf_counter() - begin)
        return median(times[2:])

    def captured(self, run: Callable[[], Any]) -> tuple[Any, Callable[[], object]]:
        """Return what a graph of ``run`` writes to, and the function that replays it."""
        if not self.cuda:
            result = run()

            def again() -> None:
                for old, new in zip(result, run(), strict=True):
                    old.copy_(new)

            return result, again
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            run()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = run()
        return result, graph.replay

    def on_a_side_stream(self, run: Callable[[], Any]) -> Any:
        """Return what ``run`` does on a stream that the default one waits for."""
        if not self.cuda:
            return run()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            result = run()
        torch.cuda.current_stream().wait_stream(side)
        return result

    def rotation(self, size: int) -> int:
        """Return how many buffers of so many bytes it takes that none is still in the cache when its turn comes."""
        cache = torch.cuda.get_device_properties(0).L2_cache_size if self.cuda else 0
        return max(1, math.ceil(3 * cache / size))


Found = Iterator[dict[str, Any]]  # what a part knows so far; the last one has the key "passed"


def probe(device: Device) -> Found:
    """Ask what is here, and whether the kernels can run on it."""
    from sw_ops.doctor import report

    found: dict[str, Any] = {"doctor": report()}
    if device.cuda:
        properties = torch.cuda.get_device_properties(0)
        found |= {"gpu": properties.name, "memory_gib": properties.total_memory / 2**30, "cuda": torch.version.cuda}
    found["kernels"] = not device.cuda or found["doctor"]["gpus"][0]["problem"] is None
    yield found | {"passed": found["doctor"]["healthy"] and found["kernels"]}


def correctness(device: Device) -> Found:
    """Compare outputs and gradients with PyTorch in float64, in both layouts of maps and of upstream gradients."""
    sizes: dict[str, Any] = SMALL if device.small else {"maps": MAPS, "kernels": KERNELS}
    yield from _compared(device, itertools.product(sizes["maps"], sizes["kernels"]))


def cases(device: Device) -> Found:
    """Compare six small cases: what runs under the sanitizer."""
    yield from _compared(device, SMALL["cases"] if device.small else CASES)


def _compared(device: Device, problems: Any) -> Found:
    # PyTorch then fills what torch.empty returns with NaN, so an output that a kernel leaves out shows.
    torch.use_deterministic_algorithms(True, warn_only=True)
    worst: dict[str, float] = {}
    wrong: list[str] = []
    for (size, kernel), dtype, layout in itertools.product(problems, TOLERANCE, LAYOUTS):
        for name, error in _errors(device, size, kernel, dtype, layout).items():
            key = f"{str(dtype).removeprefix('torch.')} {name}"
            worst[key] = max(error, worst.get(key, 0.0))
            if not error <= TOLERANCE[dtype]:  # also true for NaN
                wrong.append(f"{key}: {error:.1e} at {size}, {kernel}, {layout}")
        yield {"worst": worst, "wrong": wrong}
    yield {"worst": worst, "wrong": wrong, "passed": not wrong}


def _errors(device: Device, size: Map, kernel: Kernel, dtype: torch.dtype, layout: str) -> dict[str, float]:
    from sw_ops import reference, stripe

    tensors = [device.random(*size, dtype=dtype, layout=layout), *_kernels(device, size[1], kernel, dtype)]
    upstream = [device.random(*size, dtype=dtype, layout=layout) for _ in range(4)]
    got = _outputs_and_gradients(stripe, tensors, kernel[2], upstream)
    tensors, upstream = [t.double() for t in tensors], [t.double() for t in upstream]
    want = _outputs_and_gradients(reference, tensors, kernel[2], upstream)
    sums = _outputs_and_gradients(reference, [t.abs() for t in tensors], kernel[2], [t.abs() for t in upstream])
    return {name: _error(g, w, z) for name, g, w, z in zip(RESULTS, got, want, sums, strict=True)}


def _kernels(device: Device, channels: int, kernel: Kernel, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    length, k, _ = kernel
    return (
        device.random(channels, k, length, dtype=dtype),
        device.random(channels, length, k, dtype=dtype),
        device.random(channels, k, k, dtype=dtype),
    )


def _outputs_and_gradients(module: Any, tensors: list[Tensor], anchor: int, upstream: list[Tensor]) -> list[Tensor]:
    x, horizontal, vertical, square = tensors = [t.detach().requires_grad_() for t in tensors]
    outputs = [*module.stripe_conv2d(x, horizontal, vertical, square, anchor)]
    outputs.append(module.stripe_conv2d_fused(x, horizontal, vertical, square[:, 0, 0], anchor))
    return [t.detach() for t in (*outputs, *torch.autograd.grad(outputs, tensors, upstream))]


def _error(got: Tensor, want: Tensor, size: Tensor) -> float:
    """Return the largest difference relative to the largest of ``size``; where that is 0, the largest number."""
    if not got.numel():
        return 0.0
    return float((got.double() - want).abs().max() / (size.abs().max() or 1))


def operators(device: Device) -> Found:
    """Time the four operators, each beside the time that its bytes take and PyTorch's depthwise 13x13 forward."""
    bandwidth = _bandwidth(device)
    rows: list[dict[str, Any]] = []
    shapes = [(device.batch, *s) for s in STAGES] + [(max(1, device.batch // 16), *s) for s in LARGER]
    if device.small:
        shapes = [(1, 2, 9, 7)]
    for shape, dtype, layout in itertools.product(shapes, (torch.bfloat16, torch.float32), LAYOUTS):
        for name, maps, run in _operators(device, shape, dtype, layout):
            seconds = device.seconds(run)
            floor = maps * math.prod(shape) * dtype.itemsize / bandwidth if maps else None
            row = {"shape": shape, "dtype": str(dtype).removeprefix("torch."), "layout": layout, "operator": name}
            rows.append(row | {"milliseconds": seconds * 1e3, "of_floor": seconds / floor if floor else None})
        yield {"bytes_per_second": bandwidth, "rows": rows}
    yield {"bytes_per_second": bandwidth, "rows": rows, "passed": True}


def _bandwidth(device: Device) -> float:
    """Return how many bytes per second a copy reads and writes."""
    source = torch.empty(2**20 if device.small else 2**28, device=device.name)
    target = torch.empty_like(source)
    return 2 * source.nbytes / device.seconds(lambda i: target.copy_(source))


def _operators(device: Device, shape: Map, dtype: torch.dtype, layout: str) -> Iterator[tuple[str, int, Any]]:
    """Yield name, how many maps are read or written, and the function to time, over buffers that take turns."""
    import sw_ops  # noqa: F401 - registers the operators

    op, kernel = torch.ops.sw_ops, (15, 3, 6) if shape[2] < 14 else (51, 3, 25)
    horizontal, vertical, square = kernels = _kernels(device, shape[1], kernel, dtype)
    bias, anchor = square[:, 0, 0].contiguous(), kernel[2]
    dense = device.random(shape[1], 1, 13, 13, dtype=dtype)
    count = device.rotation(math.prod(shape) * dtype.itemsize)
    sets = [[device.random(*shape, dtype=dtype, layout=layout) for _ in range(4)] for _ in range(count)]
    conv2d = torch.nn.functional.conv2d
    yield "forward", 4, lambda i: op.stripe_conv2d(sets[i % count][0], *kernels, anchor)
    yield "fused", 2, lambda i: op.stripe_conv2d_fused(sets[i % count][0], horizontal, vertical, bias, anchor)
    yield "input gradient", 4, lambda i: op.stripe_conv2d_input_grad(*sets[i % count][1:], *kernels, anchor)
    yield "weight gradient", 4, lambda i: op.stripe_conv2d_weight_grad(*sets[i % count], kernel[0], kernel[1], anchor)
    yield "backward", 5, lambda i: op.stripe_conv2d_backward(*sets[i % count][1:], sets[i % count][0], *kernels, anchor)
    yield "dense 13x13", 0, lambda i: conv2d(sets[i % count][0], dense, padding=6, groups=shape[1])


def model(device: Device) -> Found:
    """Measure images per second and peak memory of shiftwise_tiny: training and inference, kernels and PyTorch."""
    sys.path.append(str(ROOT / "packages/sw-models/src"))
    import timm

    import sw_models  # noqa: F401 - registers the models
    import sw_ops

    rows: list[dict[str, Any]] = []
    size = 32 if device.small else 224
    x = device.random(device.batch, 3, size, size, dtype=torch.float32, layout="channels_last")
    backends: tuple[Literal["auto", "torch"], ...] = ("auto", "torch")
    for backend in backends:
        net = timm.create_model("shiftwise_tiny").to(device.name).to(memory_format=torch.channels_last)
        deployed = sw_ops.reparameterize(net).eval()

        def train(i: int, net: Any = net) -> None:
            with torch.autocast(device.name, torch.bfloat16):
                loss = net(x).float().square().mean()
            loss.backward()

        @torch.inference_mode()
        def infer(i: int, net: Any = deployed) -> None:
            with torch.autocast(device.name, torch.bfloat16):
                net(x)

        runs: dict[str, Callable[[int], None]] = {"training": train, "inference": infer}
        for what, run in runs.items():
            row: dict[str, Any] = {"backend": backend, "what": what, "batch": device.batch}
            try:
                with sw_ops.use_backend(backend):
                    if device.cuda:
                        torch.cuda.reset_peak_memory_stats()
                    row["images_per_second"] = device.batch / device.seconds(run)
                    row["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30 if device.cuda else None
            except torch.OutOfMemoryError as error:
                row["error"] = str(error).splitlines()[0]
            rows.append(row)
            yield {"rows": rows}
    yield {"rows": rows, "passed": not any("error" in row for row in rows if row["backend"] == "auto")}


def tests(device: Device) -> Found:
    """Run the tests of the operators with every tensor on the device."""
    files = ["test_transforms.py"] if device.small else ["test_stripe.py", "test_layer.py", "test_assembly.py"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--device", device.name]
    run = subprocess.run(
        [*command, *(str(ROOT / "packages/sw-ops/tests" / file) for file in files)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    yield {"tail": (run.stdout + run.stderr).strip().splitlines()[-25:], "passed": run.returncode == 0}


def sanitizer(device: Device) -> Found:
    """Run the small cases under each tool of compute-sanitizer; on a CPU, just run them."""
    program = shutil.which("compute-sanitizer")
    if device.cuda and program is None:
        yield {"skipped": "compute-sanitizer is not in the PATH", "passed": True}
        return
    found: dict[str, Any] = {}
    for tool in ("memcheck", "racecheck", "initcheck"):
        under = [str(program), "--tool", tool, "--error-exitcode", "9"] if device.cuda else []
        command = [
            *under,
            sys.executable,
            str(ROOT / "tools/gpu_check.py"),
            "--installed",
            "--device",
            device.name,
            "--only",
            "cases",
        ]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
        run = subprocess.run(command, env=environment, capture_output=True, text=True)
        found[tool] = {"code": run.returncode, "tail": (run.stdout + run.stderr).strip().splitlines()[-10:]}
        yield found
    yield found | {"passed": all(each["code"] == 0 for each in found.values())}


def behavior(device: Device) -> Found:
    """Check graphs, streams, threads, repeatability, misaligned memory, and a map of more than 2^31 elements."""
    checks = (_graph, _side_stream, _two_threads, _repeatability, _misaligned, _huge)
    found: dict[str, Any] = {}
    for check in checks:
        try:
            found[check.__name__.strip("_")] = check(device)
        except Exception as error:
            found[check.__name__.strip("_")] = f"{type(error).__name__}: {error}".splitlines()[0]
        yield found
    yield found | {"passed": all(result is True for result in found.values())}


def _problem(device: Device, size: Map, kernel: Kernel, dtype: torch.dtype = torch.bfloat16) -> Callable[[], Any]:
    """Return a function that computes everything for inputs of its own."""
    from sw_ops import stripe

    tensors = [device.random(*size, dtype=dtype), *_kernels(device, size[1], kernel, dtype)]
    upstream = [device.random(*size, dtype=dtype) for _ in range(4)]
    return lambda: _outputs_and_gradients(stripe, tensors, kernel[2], upstream)


def _equal(got: Sequence[Tensor], want: Sequence[Tensor]) -> bool:
    return all(torch.equal(g, w) for g, w in zip(got, want, strict=True))


def _graph(device: Device) -> bool:
    from sw_ops import stripe_conv2d

    size, kernel = CASES[0]
    x, kernels = device.random(*size, dtype=torch.bfloat16), _kernels(device, size[1], kernel, torch.bfloat16)
    result, replay = device.captured(lambda: stripe_conv2d(x, *kernels, kernel[2]))
    x.copy_(torch.randn_like(x))
    replay()
    return _equal(result, stripe_conv2d(x, *kernels, kernel[2]))


def _side_stream(device: Device) -> bool:
    run = _problem(device, *CASES[1])
    return _equal(device.on_a_side_stream(run), run())


def _two_threads(device: Device) -> bool:
    """Two shapes at once: what one launch needs must not change what the other has."""
    runs = [_problem(device, *CASES[0], torch.float32), _problem(device, *CASES[1], torch.float32)]
    wants = [run() for run in runs]
    results: list[bool] = []

    def repeat(i: int) -> None:
        results.extend(_equal(runs[i](), wants[i]) for _ in range(20))

    threads = [threading.Thread(target=repeat, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(results) == 40 and all(results)


def _repeatability(device: Device) -> bool:
    run = _problem(device, *CASES[1 if device.small else 3])
    want = run()
    return all(_equal(run(), want) for _ in range(5))


def _misaligned(device: Device) -> bool:
    """Try a map that starts at an odd element, which no word can be copied from."""
    from sw_ops import stripe_conv2d

    (batch, channels, height, width), kernel = CASES[2 if not device.small else 0]
    memory = device.random(batch * channels * height * width + 1, dtype=torch.bfloat16)
    x = memory[1:].view(batch, channels, height, width)
    kernels = _kernels(device, channels, kernel, torch.bfloat16)
    return _equal(stripe_conv2d(x, *kernels, kernel[2]), stripe_conv2d(x.clone(), *kernels, kernel[2]))


def _huge(device: Device) -> bool:
    """Compare crops of the maps of a huge one with those of its crops."""
    from sw_ops import stripe_conv2d_fused

    height, width, size, reach = (400, 300, 40, 30) if device.small else (40000, 30000, 100, 30)
    x = device.random(1, 2, height, width, dtype=torch.bfloat16)
    horizontal, vertical, square = _kernels(device, 2, (51, 3, 25), torch.bfloat16)
    bias = square[:, 0, 0].contiguous()
    y = stripe_conv2d_fused(x, horizontal, vertical, bias, 25)
    for row, column in itertools.product((0, height // 2, height - size), (0, width // 2, width - size)):
        top, left = max(0, row - reach), max(0, column - reach)
        crop = x[:, :, top : row + size + reach, left : column + size + reach].contiguous()
        want = stripe_conv2d_fused(crop, horizontal, vertical, bias, 25)
        want = want[:, :, row - top : row - top + size, column - left : column - left + size]
        if not _error(y[:, :, row : row + size, column : column + size], want, want) <= TOLERANCE[torch.bfloat16]:
            return False
    return True


PARTS = (probe, correctness, operators, model, tests, sanitizer, behavior)
