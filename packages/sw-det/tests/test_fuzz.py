"""Damaged COCO files and images: refused in one line or read, never a raw exception, and memory is bounded."""

from __future__ import annotations

import json
import random
import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from pycocotools import mask as rle

from sw_det.annotations import read_annotations
from sw_det.masks import mask_area, mask_problem
from sw_det.predict import predict
from sw_det.task import TASK
from sw_models.errors import InputError
from sw_models.images import image_facts
from sw_sparse.openmmlab.checkpoint import load_model, newest_checkpoint
from sw_sparse.openmmlab.config import load_config

from conftest import SMALL, annotations, run_lengths, write_coco

ODD: tuple[Any, ...] = (
    None,
    "",
    "7",
    -1,
    0,
    1e308,
    float("nan"),
    float("inf"),
    2**70,
    [],
    [[]],
    {},
    True,
    "../a",
    "\0",
)
SOME = [pytest.param(40, id="few"), pytest.param(3000, id="many", marks=pytest.mark.slow)]  # which take longer
COUNTS = [pytest.param(300, id="few"), pytest.param(3000, id="many", marks=pytest.mark.slow)]


def mutate(generator: random.Random, value: Any) -> Any:
    """Return a value with something in it replaced, taken away or doubled."""
    if isinstance(value, dict) and value and generator.random() < 0.9:
        key = generator.choice(list(value))
        if generator.random() < 0.1:
            return {k: v for k, v in value.items() if k != key}
        return {**value, key: mutate(generator, value[key])}
    if isinstance(value, list) and value and generator.random() < 0.9:
        place = generator.randrange(len(value))
        if generator.random() < 0.2:
            return value[:place] + value[place + 1 :] * generator.choice((1, 2))
        return [*value[:place], mutate(generator, value[place]), *value[place + 1 :]]
    return generator.choice(ODD)


def assert_one_line(error: InputError) -> None:
    assert "\n" not in str(error)


def damaged(generator: random.Random, content: bytes) -> bytes:
    spoiled = bytearray(content)
    for _ in range(generator.randint(1, 4)):
        spoiled[generator.randrange(len(spoiled))] = generator.randrange(256)
    return bytes(spoiled[: generator.randrange(len(spoiled))]) if generator.random() < 0.3 else bytes(spoiled)


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


@pytest.mark.parametrize("count", COUNTS)
def test_damaged_annotation_files(tmp_path: Path, count: int) -> None:
    import numpy as np

    content = annotations()
    content["annotations"][1] |= {"segmentation": run_lengths(np.eye(32, 48)), "iscrowd": 1}
    content["annotations"].append({**content["annotations"][0], "id": 3, "category_id": 8})
    file = tmp_path / "a.json"
    generator = random.Random(0)
    before = peak()
    read = 0
    for _ in range(count):
        changed = content
        for _ in range(generator.randint(1, 3)):
            changed = mutate(generator, changed)
        text = json.dumps(changed).encode()
        file.write_bytes(damaged(generator, text) if generator.random() < 0.2 else text)
        try:
            found = read_annotations(file)
        except InputError as error:
            assert_one_line(error)
            continue
        read += 1
        for annotation in found.content["annotations"]:
            assert annotation["area"] > 0
            assert annotation["bbox"][2] >= 1 <= annotation["bbox"][3]
    assert 0 < read < count
    assert peak() - before < 300  # MB


@pytest.mark.parametrize("count", COUNTS)
def test_damaged_run_lengths_do_not_reach_pycocotools(count: int) -> None:
    import numpy as np

    generator = random.Random(1)
    counts = run_lengths(np.random.default_rng(0).random((32, 48)) > 0.9)["counts"].encode()
    for _ in range(count):
        text = damaged(generator, counts).decode("latin-1")
        segmentation = {"size": [32, 48], "counts": text}
        if not mask_problem(segmentation, 32, 48):
            assert 0 <= mask_area(segmentation, 32, 48) <= 32 * 48
            assert rle.decode(segmentation).shape == (32, 48)


@pytest.mark.parametrize("count", COUNTS)
def test_damaged_images(tmp_path: Path, count: int) -> None:
    generator = random.Random(2)
    whole = (write_coco(tmp_path / "data") / "train/a.png").read_bytes()
    before = peak()
    for _ in range(count):
        (tmp_path / "a.png").write_bytes(damaged(generator, whole))
        facts = image_facts(tmp_path / "a.png")
        assert facts.problem or facts.width * facts.height > 0
        assert "\n" not in facts.problem
    assert peak() - before < 300  # MB


@pytest.mark.parametrize("count", SOME)
def test_damaged_checkpoints(tmp_path: Path, count: int) -> None:
    cfg = load_config(TASK, "mask_rcnn_nano_shapes", SMALL)
    data = {"classes": ["circle", "square", "triangle"], "palette": [[1, 2, 3]] * 3}
    meta = {"dataset_meta": data, "iter": 4, "epoch": 1, "seed": 0}
    content = {"state_dict": dict(load_model(cfg).state_dict()), "meta": meta, "message_hub": {"runtime_info": {}}}
    file, generator = tmp_path / "epoch_1.pth", random.Random(3)
    torch.save(content, file)
    sound = file.read_bytes()
    before = peak()
    read = 0
    for number in range(count):
        if number % 2:
            file.write_bytes(damaged(generator, sound))
        else:
            part = generator.choice(("state_dict", "meta"))
            changed = {**content, part: mutate(generator, content[part])}
            torch.save(changed, file, _use_new_zipfile_serialization=generator.random() < 0.5)
        newest_checkpoint(tmp_path)
        try:
            model = load_model(cfg, file)
            assert not list(predict(model, [], tmp_path))
        except InputError as error:
            assert_one_line(error)
            continue
        read += 1
        assert all(isinstance(name, str) for name in model.dataset_meta["classes"][:3])
    assert 0 < read < count
    assert peak() - before < 300  # MB
