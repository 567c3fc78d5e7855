"""Checkpoints of earlier formats: they load, and say what they said.

The files in ``golden/format-2`` were written by version 0.1.0 (few training steps, weights rounded to five bits so that
they pack well), ``answers.npz`` holds the scores and every fourth pixel of the maps that it gave.
"""

import json
import lzma
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import save_file

from sw_anomaly.detector import load_detector
from sw_models.checkpoints.tensor_file import digest

from conftest import draw_nail

GOLDEN = Path(__file__).parent / "golden" / "format-2"
ANSWERS = np.load(GOLDEN / "answers.npz")
IMAGES = {"A": draw_nail(0.5, mark=(10, 2)), "B": draw_nail(2.5, 78, 83, ground=205)[8:, :150]}
NAMES = ("unet", "unet_bank_aligned", "bank", "bank_aligned", "patchcore", "patchcore_aligned")


def unpack(name, folder):
    path = folder / f"{name}.safetensors"
    path.write_bytes(lzma.decompress((GOLDEN / f"{name}.safetensors.xz").read_bytes()))
    return path


def rewrite(path):
    """Write a checkpoint of format 2 as format 3 held the same detector."""
    detector = load_detector(path)
    with safe_open(path, framework="pt") as file:
        info = json.loads(file.metadata()["info"])
    view = info.pop("framing")
    tensors = {name: tensor.cpu() for name, tensor in detector.method.state().items()}
    described = {**info, "view": view, "intensity": asdict(detector.intensity)}
    metadata = {"format": "sw-anomaly-3", "info": json.dumps(described)}
    save_file(tensors, path, {**metadata, "sha256": digest(tensors, metadata)})
    return path


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("number", [2, 3])
def test_a_checkpoint_of_format_2_or_3_says_what_it_said(name, number, tmp_path):
    path = unpack(name, tmp_path)
    detector = load_detector(path if number == 2 else rewrite(path))
    for key, image in IMAGES.items():
        found = detector.inspect(image)
        wanted = ANSWERS[f"{name}.{key}.map"]
        assert found.score == pytest.approx(float(ANSWERS[f"{name}.{key}.score"]), rel=1e-4)
        np.testing.assert_allclose(found.map[::4, ::4], wanted, atol=1e-4 * wanted.max())
