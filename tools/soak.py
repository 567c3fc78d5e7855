"""Train each task for thousands of steps on tiny data, and see whether its memory grows.

python tools/soak.py OUT [STEPS]    2,000 steps of each; writes OUT/soak.json and soak.png; exits with 1 where one grows

Each task is its own program's ``train`` command. The memory of it and of all its processes is read from outside twice a
second, from start to end. Imports and the first tenth of the steps may take two tenths of that; a task grows if the
median of the last tenth lies above that of the third by more than 5 % and 16 MiB.
"""

from __future__ import annotations

import json
import math
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import psutil

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from sw_det.sample import SPLITS

PERIOD = 0.5  # seconds between two readings
DIGITS, BATCH = 1078, 16  # training images of scikit-learn's digits; images of a step
ANOMALY_EPOCH = 128  # steps
SLACK, SHARE = 16 * 2**20, 0.05


def commands(steps: int, out: Path) -> dict[str, list[str]]:
    """Return, for every task, the command that trains that many steps (or, where epochs count, a few more).

    The networks are the smallest: what leaks does so whatever their size, and sooner beside a small one.
    """
    digits = math.ceil(steps / (DIGITS // BATCH))
    shapes = math.ceil(steps * 2 / SPLITS["train"])
    bottle = math.ceil(steps / ANOMALY_EPOCH)
    small = "train_dataloader.batch_size=2 model.backbone.dims=(8,8,8,8) model.backbone.depths=(1,1,1,1)"
    lines = f"""
sw-sparse train --epochs {digits} --batch-size {BATCH} --output {out}/sw-sparse
    --model-args '{{dims: [8, 8, 8, 8], depths: [1, 1, 1, 1]}}'
sw-det train --out {out}/sw-det --cfg-options {small} model.neck.in_channels=[8,8,8,8] train_cfg.max_epochs={shapes}
    train_cfg.val_interval=5
sw-seg train --out {out}/sw-seg --cfg-options {small} model.decode_head.in_channels=[8,8,8,8]
    model.auxiliary_head.in_channels=8 train_cfg.max_iters={steps} train_cfg.val_interval={-(-steps // 2)}
sw-anomaly train --out {out}/sw-anomaly --category bottle --method unet --image-size 64 --epochs {bottle}
"""
    words = [shlex.split(line) for line in lines.strip().replace("\n    ", " ").splitlines()]
    return {command[0]: command for command in words}


def watch(command: list[str], log: Path) -> list[float]:
    """Run a command and return the bytes of memory that it and its processes held, one reading after another."""
    program = str(Path(sys.executable).with_name(command[0]))
    readings = []
    with log.open("w") as file, subprocess.Popen([program, *command[1:]], stdout=file, stderr=file) as running:
        process = psutil.Process(running.pid)
        while running.poll() is None:
            held = 0.0
            for one in [process, *_children(process)]:
                try:
                    held += one.memory_info().rss
                except psutil.NoSuchProcess:  # it ended between the two lines
                    continue
            if held:
                readings.append(held)
            time.sleep(PERIOD)
    if running.returncode:
        sys.exit(f"{' '.join(command)}: exit {running.returncode}, see {log}")
    return readings


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def growth(readings: Sequence[float]) -> float:
    """Return by how many bytes the last tenth lies above the third one, in the median."""
    tenth = len(readings) // 10
    if tenth == 0:
        raise ValueError(f"readings: got {len(readings)}, want 10 at least")
    return statistics.median(readings[-tenth:]) - statistics.median(readings[2 * tenth : 3 * tenth])


def grows(readings: Sequence[float]) -> bool:
    """Return whether that is more than the allocator's own ups and downs."""
    tenth = len(readings) // 10
    return growth(readings) > max(SLACK, SHARE * statistics.median(readings[2 * tenth : 3 * tenth]))


def draw(memory: Mapping[str, Sequence[float]], steps: int, picture: Path) -> None:
    """Draw the memory of every task from the start to the end of its training."""
    figure, axis = plt.subplots(figsize=(8, 4), layout="constrained")
    for program, readings in memory.items():
        share = [100 * number / len(readings) for number in range(len(readings))]
        axis.plot(share, [reading / 2**20 for reading in readings], label=program, linewidth=1)
    axis.axvspan(0, 20, color="0.92")
    axis.set_xlabel(f"% of the time that {steps} steps take")
    axis.set_ylabel("memory, MiB")
    axis.set_ylim(bottom=0)
    axis.legend()
    figure.savefig(picture, dpi=120)


def main(out: Path, steps: int) -> None:
    """Train, one task after another; write what was read after each."""
    out.mkdir(parents=True)
    memory: dict[str, list[float]] = {}
    for program, command in commands(steps, out).items():
        print(" ".join(command), flush=True)
        memory[program] = watch(command, out / f"{program}.log")
        (out / "soak.json").write_text(json.dumps({"steps": steps, "period": PERIOD, "bytes": memory}))
        draw(memory, steps, out / "soak.png")
        print(f"  {growth(memory[program]) / 2**20:+.1f} MiB", flush=True)
    if grown := [program for program, readings in memory.items() if grows(readings)]:
        sys.exit(f"memory grows: {', '.join(grown)}, see {out / 'soak.png'}")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) == 3 else 2000)
