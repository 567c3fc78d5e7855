"""One configuration of each folder of MMDetection's or MMSegmentation's zoo: built, asked, differentiated.

    python tools/zoo.py mmdet [FOLDER ...]      python tools/zoo.py mmseg [FOLDER ...]

Prints a table, and how many of the folders do all three. Weights are random; what is wanted is that no operator lacks.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import multiprocessing
import os
import sys
import warnings
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

TIMEOUT = 600  # seconds for a configuration
SIDE = 128  # pixels of an image
MANY = 300  # queries: more than that are chosen from among the cells of an image twice as large
STEPS = ("builds", "predicts", "backpropagates")


def main() -> None:
    """Go through the folders."""
    if len(sys.argv) < 2 or sys.argv[1] not in ("mmdet", "mmseg"):
        print(__doc__, file=sys.stderr)
        raise SystemExit(2)
    package, wanted = sys.argv[1], sys.argv[2:]
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        print(f"zoo: {package} is not installed", file=sys.stderr)
        raise SystemExit(2)
    configs = Path(found.origin).parent / ".mim/configs"
    folders = [f for f in sorted(configs.iterdir()) if f.is_dir() and f.name not in ("_base_", "common")]
    files = [next(iter(sorted(f.glob("*.py"))), None) for f in folders if not wanted or f.name in wanted]
    prepare(package)
    complete = tried = 0
    for path in filter(None, files):
        done, why = run(package, path)
        tried += 1
        complete += len(done) == len(STEPS)
        marks = "  ".join(step if step in done else "-" * len(step) for step in STEPS)
        print(f"{path.parent.name:32}  {marks}  {why}", flush=True)
    print(f"{complete} of {tried} folders build, predict and backpropagate")


def prepare(package: str) -> None:
    """Import once what every configuration wants."""
    warnings.simplefilter("ignore")
    import sw_models.openmmlab  # noqa: F401 - the stand-in for what MMCV compiles

    importlib.import_module(f"{package}.utils").register_all_modules(init_default_scope=True)
    logging.disable(logging.CRITICAL)


def run(package: str, path: Path) -> tuple[list[str], str]:
    """Try a configuration in a process of its own; return the steps that were done, and why no more."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=attempt, args=(package, path, sender))
    child.start()
    sender.close()
    done: list[str] = []
    try:
        while receiver.poll(TIMEOUT):
            step, why = receiver.recv()
            if why:
                return done, why
            done.append(step)
            if len(done) == len(STEPS):
                return done, ""
        return done, f"longer than {TIMEOUT} s"
    except EOFError:
        return done, "the process ended"
    finally:
        child.kill()
        child.join()


def attempt(package: str, path: Path, sender: Connection) -> None:
    """Take the steps, and send the name of each that was taken, or what stopped it."""
    from torch import distributed

    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)  # some norms ask for it
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    os.chdir(path.parents[2])  # some configurations name the teacher's from there
    try:
        take(package, path, sender)
    except BaseException as error:  # whatever other people's code raises
        sender.send(("", f"{type(error).__name__}: {' '.join(str(error).split())}"[:150]))


def take(package: str, path: Path, sender: Connection) -> None:
    """Build the model of a configuration, let it predict, and differentiate its loss."""
    import torch
    from mmengine.config import Config
    from mmengine.logging import MessageHub
    from mmengine.model import revert_sync_batchnorm
    from mmengine.utils import import_modules_from_strings

    cfg = Config.fromfile(path)
    if cfg.get("custom_imports"):
        import_modules_from_strings(**cfg.custom_imports)
    without_weights(cfg.model)
    for part, name in (("data_preprocessor", "size"), ("backbone", "img_size")):
        if package == "mmseg" and name in cfg.model.get(part, {}):
            cfg.model[part][name] = (SIDE, SIDE)  # or else small images are padded to crops, or do not fit positions
    models = importlib.import_module(f"{package}.registry").MODELS
    torch.manual_seed(0)
    model = revert_sync_batchnorm(models.build(cfg.model))
    sender.send(("builds", ""))
    for name, value in {"iter": 0, "epoch": 0, "max_iters": 100, "max_epochs": 10}.items():
        MessageHub.get_current_instance().update_info(name, value)  # as a runner does
    images = two_images if package == "mmdet" else two_label_maps
    side = cfg.get("input_size", SIDE)
    model.eval()
    with torch.no_grad():
        model(**model.data_preprocessor(images(model, side), False), mode="predict")
    sender.send(("predicts", ""))
    model.train()
    losses = model(**model.data_preprocessor(images(model, side), True), mode="loss")
    model.parse_losses(losses)[0].backward()
    sender.send(("backpropagates", ""))


def without_weights(part: Any) -> None:
    """Take away what would download weights."""
    if isinstance(part, dict):
        for name in {"teacher_ckpt", "pretrained"} & part.keys():
            part[name] = False if part[name] is True else None  # timm's networks want to be told
        if isinstance(part.get("init_cfg"), dict) and part["init_cfg"].get("type") == "Pretrained":
            part["init_cfg"] = None
        for value in part.values():
            without_weights(value)
    elif isinstance(part, list | tuple):
        for value in part:
            without_weights(value)


def two_images(model: Any, side: int) -> dict[str, Any]:
    """Return two images, for batch norms over single pixels, as MMDetection's tests make them; or two frames."""
    from mmdet.models import BaseReID, SemiBaseDetector
    from mmdet.models.mot import BaseMOTModel
    from mmdet.testing import demo_mm_inputs, demo_mm_proposals, demo_track_inputs

    if isinstance(model, BaseReID):
        return two_people(model)
    if isinstance(model, SemiBaseDetector) and model.training:
        return three_branches(model.student, side)
    side = side if getattr(model, "num_queries", 0) <= MANY else 2 * side
    shape, things = (3, side, side), {"num_classes": 2, "with_mask": True}
    detects = model.training and getattr(model.data_preprocessor, "use_det_processor", False)
    if isinstance(model, BaseMOTModel) and not detects:
        return demo_track_inputs(1, 2, [0], [shape], [2], **things)
    batch = demo_mm_inputs(2, [shape] * 2, num_items=[2, 2], with_semantic=True, **things)
    for sample in batch["data_samples"]:
        sample.gt_instances.labels.zero_()  # of the only class of some models
    if not getattr(model, "with_rpn", True):
        for sample, proposals in zip(batch["data_samples"], demo_mm_proposals([shape] * 2, 50), strict=True):
            sample.proposals = proposals
    return batch


def three_branches(student: Any, side: int) -> dict[str, Any]:
    """Return labelled images, and unlabelled ones as a teacher and its student see them."""
    import numpy as np

    found: dict[str, Any] = {"inputs": {}, "data_samples": {}}
    for branch in ("sup", "unsup_teacher", "unsup_student"):
        batch = two_images(student, side)
        for sample in batch["data_samples"]:
            sample.set_metainfo({"homography_matrix": np.eye(3, dtype=np.float32)})
        for name, part in batch.items():
            found[name][branch] = part
    return found


def two_people(model: Any) -> dict[str, Any]:
    """Return cut-out images of two people, each twice, as large as the pooling of their features wants."""
    import torch
    from mmdet.structures import ReIDDataSample

    height, width = (32 * cells for cells in model.neck.gap.kernel_size)
    images = list(torch.randint(0, 256, (4, 3, height, width), dtype=torch.uint8))
    return {"inputs": images, "data_samples": [ReIDDataSample().set_gt_label(who) for who in (0, 0, 1, 1)]}


def two_label_maps(model: Any, side: int) -> dict[str, Any]:
    """Return two images with label maps."""
    import torch
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    sample = SegDataSample(metainfo=dict.fromkeys(("img_shape", "ori_shape", "pad_shape"), (side, side)))
    sample.gt_sem_seg = PixelData(data=torch.zeros(1, side, side, dtype=torch.long))
    sample.gt_edge_map = PixelData(data=torch.zeros(1, side, side, dtype=torch.long))  # PIDNet learns edges, too
    return {"inputs": [torch.zeros(3, side, side, dtype=torch.uint8)] * 2, "data_samples": [sample, sample.clone()]}


if __name__ == "__main__":
    main()
