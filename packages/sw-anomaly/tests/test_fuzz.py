"""Files that are damaged, cut short or written to harm: each is read or refused by an ``InputError``, nothing else."""

import io
import json
import random
import struct
from collections import Counter
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save

from sw_anomaly.data.images import load_image, load_mask
from sw_anomaly.data.layouts import read_category
from sw_anomaly.detector import load_detector, read_info
from sw_models.errors import InputError

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
TREES = 40  # data sets with files in wrong places, per 100 files


def draw(rng, kind):
    """Bytes of a small image of any mode that a format has."""
    pixels = np.frombuffer(rng.randbytes(24 * 20 * 3), dtype=np.uint8).reshape(24, 20, 3)
    image = Image.fromarray(pixels)
    modes = {"PNG": ["RGB", "L", "P", "1", "RGBA", "LA", "I;16"], "TIFF": ["RGB", "L", "F", "1", "CMYK"]}
    mode = rng.choice(modes.get(kind, ["RGB", "L"]))
    image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257) if mode == "I;16" else image.convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def mutate(rng, content):
    """The bytes with a few of them changed, cut out, doubled or put in, mostly near the beginning."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        if not data:
            break
        place = min(int(rng.expovariate(8 / len(data))), len(data) - 1)
        what = rng.randrange(6)
        if what == 0:
            data[place] ^= 1 << rng.randrange(8)
        elif what == 1:
            data[place : place + 4] = rng.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"])
        elif what == 2:
            del data[place:]
        elif what == 3:
            del data[place : place + rng.randint(1, 40)]
        elif what == 4:
            data[place:place] = data[place : place + rng.randint(1, 40)]
        else:
            data[place] = rng.randrange(256)
    return bytes(data)


def checkpoint(rng):
    """Bytes of a file like a checkpoint, a part of whose description is something else."""
    info = {
        "category": "disc",
        "method": "bank",
        "model": "none",
        "protocol": {"name": "unsupervised", "defects": 0, "known_type": None},
        "seed": 0,
        "training_images": "",
        "seen": [],
        "framing": {"image_size": 64, "crop": None},
        "alignment": "off",
        "image_threshold": 1.0,
        "pixel_threshold": 1.0,
    }
    strange = [None, [], {}, "x", -1, float("nan"), 1e308, [[]], {"a": 1}, True]
    for _ in range(rng.randrange(3)):
        name = rng.choice([*info, "framing", "protocol"])
        if rng.random() < 0.3:
            info.pop(name, None)
        elif isinstance(info.get(name), dict) and info[name] and rng.random() < 0.7:
            info[name][rng.choice([*info[name]])] = rng.choice(strange)
        else:
            info[name] = rng.choice(strange)
    text = json.dumps(info) if rng.random() < 0.9 else rng.choice(["", "[]", "null", "{", '"x"'])
    tensors = {"bank": torch.zeros(rng.randrange(3), 4), "units": torch.ones(2)}
    return save(tensors, {"format": rng.choice(["sw-anomaly-2"] * 4 + ["sw-anomaly-3", "other"]), "info": text})


def read_or_refuse(what, read, path, counts):
    """Reads, or refuses in a line; nothing else is let through."""
    try:
        read(path)
        counts[f"{what}: read"] += 1
    except InputError as error:
        counts[f"{what}: refused" + (" in several lines" if "\n" in str(error) else "")] += 1


def fuzz(folder, count, seed):
    rng = random.Random(seed)
    counts = Counter()
    base = draw(rng, "PNG")
    for number in range(count):
        kind = rng.choice(FORMATS)
        path = folder / f"image.{kind.lower()}"
        path.write_bytes(mutate(rng, draw(rng, kind)))
        read_or_refuse("image", load_image, path, counts)
        read_or_refuse("mask", load_mask, path, counts)
        path = folder / "checkpoint.safetensors"
        held = checkpoint(rng)
        path.write_bytes(mutate(rng, held) if rng.random() < 0.5 else held)
        read_or_refuse("description", read_info, path, counts)
        read_or_refuse("checkpoint", load_detector, path, counts)
        if number % 100 < TREES:
            grow(rng, folder / str(number), base)
            read_or_refuse("folders", partial(read_category, name="disc"), folder / str(number), counts)
    assert not [name for name in counts if "several" in name]
    return counts


def grow(rng, root, content):
    """A data set with folders and files in right places and wrong ones."""
    for _ in range(rng.randint(1, 12)):
        parts = ["disc", rng.choice(["train", "test", "ground_truth", "Test", "x"])]
        parts += rng.choices(["good", "Good", "crack", "a", "..hidden", "[b]"], k=rng.randint(0, 3))
        name = rng.choice(["0", "1", "0_mask", "0_Mask", "1_gt", "=1", "\u00e9"]) + rng.choice(
            [".png", ".PNG", ".gif", ""]
        )
        path = root.joinpath(*parts)
        try:
            path.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            continue  # a file lies where a folder would


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_a_few_hundred_damaged_files(tmp_path):
    counts = fuzz(tmp_path, 100, seed=0)
    assert counts["image: read"] + counts["image: refused"] == 100


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_three_thousand_damaged_files_in_bounded_memory(tmp_path):
    import resource

    fuzz(tmp_path, 100, seed=1)  # what is loaded once
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    counts = fuzz(tmp_path, 3000, seed=2)
    print(dict(sorted(counts.items())))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_500_000  # KB, for one image of 80 megapixels


def test_a_small_file_does_not_take_the_memory_that_it_announces(tmp_path):
    import resource

    png = draw(random.Random(0), "PNG")
    path = tmp_path / "image.png"
    path.write_bytes(png[:-12] + struct.pack(">I", 0x7FFFFFFF) + b"abCd" + png[-12:])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match=r"Truncated File Read|said to be longer than the file"):
        load_image(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # KB


def test_a_header_that_is_said_to_be_longer_than_any_file(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", 2**62) + b"{}")
    with pytest.raises(InputError, match="is not a safetensors file"):
        read_info(tmp_path / "a.safetensors")
