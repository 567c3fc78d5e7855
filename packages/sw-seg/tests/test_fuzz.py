"""Damaged images, label maps and tables: refused in one line or read, never a raw exception, and memory is bounded."""

import random
import resource

import numpy as np
import pytest
import torch
from PIL import Image

from sw_models.errors import InputError
from sw_models.images import image_facts
from sw_seg.labels import TABLES, label_facts, read_table
from sw_seg.numbering import number_classes
from sw_seg.predict import predict
from sw_seg.task import TASK
from sw_sparse.openmmlab.checkpoint import load_model, newest_checkpoint
from sw_sparse.openmmlab.config import load_config

from conftest import SMALL

SOME = [pytest.param(40, id="few"), pytest.param(3000, id="many", marks=pytest.mark.slow)]  # which take longer
ODD = (None, "", "7", -1, 0, 1e308, float("nan"), 2**70, [], [[]], {}, True, [300, -1, 2])
COUNTS = [pytest.param(300, id="few"), pytest.param(3000, id="many", marks=pytest.mark.slow)]


def assert_one_line(error):
    assert "\n" not in str(error)


def damaged(generator, content):
    spoiled = bytearray(content)
    for _ in range(generator.randint(1, 4)):
        spoiled[generator.randrange(len(spoiled))] = generator.randrange(256)
    return bytes(spoiled[: generator.randrange(len(spoiled))]) if generator.random() < 0.3 else bytes(spoiled)


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "webp"])
def test_damaged_images_and_label_maps(tmp_path, suffix, count):
    generator = random.Random(0)
    file = tmp_path / f"a.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 3, (24, 32), dtype=np.uint8)).save(file)
    whole = file.read_bytes()
    before = peak()
    for _ in range(count // 5):
        file.write_bytes(damaged(generator, whole))
        facts, labels = image_facts(file), label_facts(file)
        for found in (facts, labels):
            assert found.problem or found.width * found.height > 0
            assert "\n" not in found.problem
    assert peak() - before < 400  # MB


@pytest.mark.parametrize("count", COUNTS)
def test_damaged_tables(tmp_path, count):
    generator = random.Random(1)
    texts = (
        "64 128 64\tAnimal\n192 0 128\tArch\n",
        "a:64,128,64::\nb:192,0,128::\n",
        'name,r,g,b\n"a, b",1,2,3\nc,4,5,6\n',
    )
    for number in range(count):
        name, text = TABLES[number % 3], texts[number % 3]
        for other in TABLES:
            (tmp_path / other).unlink(missing_ok=True)
        (tmp_path / name).write_bytes(damaged(generator, text.encode()))
        try:
            table = read_table(tmp_path)
        except InputError as error:
            assert_one_line(error)
        else:
            assert all(0 <= value < 1 << 24 for value in table.values())


@pytest.mark.parametrize("count", COUNTS)
def test_any_numbers_are_recognized_or_refused_and_no_two_share_a_class(tmp_path, count):
    generator = random.Random(2)
    for _ in range(count):
        values = {generator.choice((0, 1, 2, 3, 20, 255)) for _ in range(generator.randint(1, 4))}
        names = tuple("abcd"[: generator.randint(0, 4)])
        options = {key: generator.choice(("auto", "auto", "class", "ignore")) for key in ("zero", "white")}
        maps = generator.choice(("annotations", "labels"))
        try:
            found = number_classes(tmp_path, maps, values, values, names, options)
        except InputError as error:
            assert_one_line(error)
            continue
        assert len(found.classes) == len(found.values) == len(set(found.values)) >= 2
        assert not set(found.values) & set(found.ignored)
        assert not names or set(names) <= set(found.classes)


def spoiled(generator, value):
    """Return a value with something in it replaced or taken away."""
    if isinstance(value, dict) and value and generator.random() < 0.9:
        key = generator.choice(list(value))
        rest = {k: v for k, v in value.items() if k != key}
        return rest if generator.random() < 0.2 else {**rest, key: spoiled(generator, value[key])}
    if isinstance(value, list) and generator.random() < 0.5:
        return [*value[1:], generator.choice(ODD)][generator.randrange(2) :]
    return generator.choice(ODD)


@pytest.mark.parametrize("count", SOME)
def test_damaged_checkpoints(tmp_path, count):
    cfg = load_config(TASK, "upernet_nano_shapes", SMALL)
    model = load_model(cfg)
    names = [f"class {number}" for number in range(model.decode_head.num_classes)]
    data = {"classes": names, "palette": [[1, 2, 3]] * len(names), "values": list(range(len(names)))}
    meta = {"dataset_meta": data, "iter": 4, "epoch": 1}
    content = {"state_dict": dict(model.state_dict()), "meta": meta, "message_hub": {"runtime_info": {}}}
    file, generator = tmp_path / "iter_1.pth", random.Random(3)
    torch.save(content, file)
    sound = file.read_bytes()
    before = peak()
    read = 0
    for number in range(count):
        if number % 2:
            file.write_bytes(damaged(generator, sound))
        else:
            part = generator.choice(("state_dict", "meta"))
            changed = {**content, part: spoiled(generator, content[part])}
            torch.save(changed, file, _use_new_zipfile_serialization=generator.random() < 0.5)
        newest_checkpoint(tmp_path)
        try:
            model = load_model(cfg, file)
            assert not list(predict(model, [], tmp_path))
        except InputError as error:
            assert_one_line(error)
            continue
        read += 1
        assert all(isinstance(name, str) for name in model.dataset_meta["classes"])
    assert 0 < read < count
    assert peak() - before < 300  # MB
