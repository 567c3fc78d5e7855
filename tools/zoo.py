"""One configuration of each folder of MMDetection's or MMSegmentation's zoo: built, asked, differentiated.

    python tools/zoo.py mmdet [FOLDER ...]      python tools/zoo.py mmseg [FOLDER ...]

Prints a table, and how many of the folders do all three. Weights are random; what is wanted is that no operator lacks.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

TIMEOUT = 600  # seconds for a configuration
STEPS = ("builds", "predicts", "backpropagates")

PROGRAM = """
import sys, warnings
warnings.simplefilter("ignore")
import json, logging
logging.disable(logging.CRITICAL)
package, path, out = sys.argv[1:]
done, why = [], ""
try:
    import sw_models.openmmlab
    import torch
    from mmengine.config import Config
    from mmengine.model import revert_sync_batchnorm
    from mmengine.registry import init_default_scope
    init_default_scope(package)
    cfg = Config.fromfile(path)
    if cfg.get("custom_imports"):
        from mmengine.utils import import_modules_from_strings
        import_modules_from_strings(**cfg.custom_imports)
    def plain(part):
        if isinstance(part, dict):
            if isinstance(part.get("init_cfg"), dict) and part["init_cfg"].get("type") == "Pretrained":
                part["init_cfg"] = None
            for value in part.values():
                plain(value)
        elif isinstance(part, (list, tuple)):
            for value in part:
                plain(value)
    plain(cfg.model)
    cfg.model.pop("pretrained", None)
    module = __import__(package + ".registry", fromlist=["MODELS"])
    utils = __import__(package + ".utils", fromlist=["register_all_modules"])
    utils.register_all_modules(init_default_scope=False)
    model = revert_sync_batchnorm(module.MODELS.build(cfg.model))
    done.append("builds")
    side = 128
    if package == "mmdet":
        from mmdet.testing import demo_mm_inputs
        batch = demo_mm_inputs(1, [[3, side, side]], num_items=[2], num_classes=2, with_mask=True, with_semantic=True)
    else:
        from mmseg.structures import SegDataSample
        from mmengine.structures import PixelData
        sample = SegDataSample(metainfo=dict(img_shape=(side, side), ori_shape=(side, side), pad_shape=(side, side)))
        sample.gt_sem_seg = PixelData(data=torch.zeros(1, side, side, dtype=torch.long))
        batch = dict(inputs=[torch.zeros(3, side, side, dtype=torch.uint8)] * 2, data_samples=[sample, sample.clone()])
    model.eval()
    with torch.no_grad():
        model(**model.data_preprocessor(batch, False), mode="predict")
    done.append("predicts")
    model.train()
    losses = model(**model.data_preprocessor(batch, True), mode="loss")
    model.parse_losses(losses)[0].backward()
    done.append("backpropagates")
except BaseException as error:
    why = f"{type(error).__name__}: {' '.join(str(error).split())}"[:150]
open(out, "w").write(json.dumps({"done": done, "why": why}))
"""


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
    folders = [folder for folder in folders if not wanted or folder.name in wanted]
    complete = 0
    for folder in folders:
        path = next(iter(sorted(folder.glob("*.py"))), None)
        if path is None:
            continue
        result = run(package, path)
        complete += len(result["done"]) == len(STEPS)
        marks = "  ".join(step if step in result["done"] else "-" * len(step) for step in STEPS)
        print(f"{folder.name:32}  {marks}  {result['why']}", flush=True)
    print(f"{complete} of {len(folders)} folders build, predict and backpropagate")


def run(package: str, path: Path) -> dict[str, list[str] | str]:
    """Try a configuration in a process of its own."""
    out = Path(f"zoo-{path.stem}.json")
    try:
        subprocess.run(
            [sys.executable, "-c", PROGRAM, package, str(path), str(out)],
            timeout=TIMEOUT,
            capture_output=True,
            check=False,
        )
        return json.loads(out.read_text()) if out.is_file() else {"done": [], "why": "the process ended"}
    except subprocess.TimeoutExpired:
        return {"done": [], "why": f"longer than {TIMEOUT} s"}
    finally:
        out.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
