"""``sw-anomaly eval`` from a user's side: what it writes, what it prints, and how it refuses."""

import json
import shutil
from dataclasses import fields

import numpy as np
import pytest
from PIL import Image

from sw_anomaly.evaluation.evaluate import Scores
from sw_anomaly.experiment import parallel

from conftest import refusal, save


def test_eval_fits_first_says_so_and_writes_results_and_report(run, tiny_root, tmp_path):
    result = run("eval", "--category", "disc", "--data", tiny_root)
    assert result.exit_code == 0, result.output
    assert "fitting a detector first" in result.stderr
    assert "pixel AUROC" in result.stdout
    assert "SYNTHETIC" not in result.output
    folder = tmp_path / "runs" / "disc" / "001"
    assert sorted(path.name for path in folder.iterdir() if path.name != ".lock") == [
        "checkpoint.safetensors",
        "config.json",
        "images.npz",
        "manifest.json",
        "report.html",
        "results.json",
    ]
    results = json.loads((folder / "results.json").read_text())
    assert set(results["overall"]) == {field.name for field in fields(Scores)}
    assert set(results["intervals"]["overall"]) == set(results["overall"])
    assert list(results["per_defect"]) == ["spot"]
    assert len(results["images"]) == 4


def test_a_second_eval_uses_the_checkpoint_and_leaves_the_first_results_alone(run, tiny_root, tmp_path):
    run("eval", "--category", "disc", "--data", tiny_root)
    first = tmp_path / "runs" / "disc" / "001"
    before = {path.name: path.read_bytes() for path in first.iterdir()}
    result = run("eval", "--category", "disc", "--data", tiny_root, "--json")
    assert result.exit_code == 0, result.output
    assert "fitting" not in result.stderr
    assert {path.name: path.read_bytes() for path in first.iterdir()} == before
    second = json.loads((tmp_path / "runs" / "disc" / "002" / "results.json").read_text())
    assert json.loads(result.stdout) == second
    assert second["overall"] == json.loads(before["results.json"])["overall"]


def test_without_data_the_embedded_sample_is_used_and_stamped_everywhere(run, tmp_path, monkeypatch):
    for name, count in (("TRAIN_GOOD", 4), ("TEST_GOOD", 1), ("TEST_PER_DEFECT", 1)):
        monkeypatch.setattr(f"sw_anomaly.sample.write.{name}", count)
    result = run("eval", "--category", "bottle")
    assert result.exit_code == 0, result.output
    assert "SYNTHETIC" in result.stdout
    folder = tmp_path / "runs" / "bottle" / "001"
    assert json.loads((folder / "results.json").read_text())["synthetic"] is True
    assert "SYNTHETIC" in (folder / "report.html").read_text()
    assert list(json.loads((folder / "results.json").read_text())["per_defect"]) == [
        "broken_large",
        "broken_small",
        "contamination",
    ]


def test_a_category_that_is_not_there(run, tiny_root):
    assert "want one of: disc" in refusal(run("eval", "--category", "bottle", "--data", tiny_root))
    assert "give your images with --data" in refusal(run("train", "--category", "screw"))


def test_a_category_without_test_images_can_be_trained_but_not_evaluated(run, tiny_root):
    (tiny_root / "disc" / "test").rename(tiny_root / "disc" / "elsewhere")
    assert run("train", "--category", "disc", "--data", tiny_root).exit_code == 0
    assert "got no test images of 'disc'" in refusal(run("eval", "--category", "disc", "--data", tiny_root))


def test_an_image_that_does_not_decode(run, tiny_root):
    (tiny_root / "disc" / "test" / "good" / "001.png").write_bytes(b"not a picture")
    assert "001.png cannot be read" in refusal(run("eval", "--category", "disc", "--data", tiny_root))


def test_a_mask_of_another_size(run, tiny_root):
    Image.new("L", (9, 9)).save(tiny_root / "disc" / "ground_truth" / "spot" / "000_mask.png")
    assert "000_mask.png is 9x9" in refusal(run("eval", "--category", "disc", "--data", tiny_root))


def test_a_checkpoint_of_something_else(run, tiny_root, tmp_path):
    (tmp_path / "weights.pth").write_bytes(b"\x80\x02")
    arguments = ("--data", tiny_root, "--checkpoint", tmp_path / "weights.pth")
    assert "weights.pth is not a safetensors file" in refusal(run("eval", "--category", "disc", *arguments))


def test_a_checkpoint_that_is_not_as_asked(run, tiny_root, tmp_path):
    run("train", "--category", "disc", "--data", tiny_root)
    checkpoint = tmp_path / "runs" / "disc" / "001" / "checkpoint.safetensors"
    (tiny_root / "disc").rename(tiny_root / "plate")
    arguments = ("--data", tiny_root, "--checkpoint", checkpoint)
    assert "is for the category 'disc'; 'plate' is wanted" in refusal(run("eval", "--category", "plate", *arguments))
    (tiny_root / "plate").rename(tiny_root / "disc")
    for option, asked, about in (
        ("--model", "vanilla", "model 'swnano'; 'vanilla'"),
        ("--seed", 3, "seed 0; 3"),
        ("--image-size", 96, "image_size 64; 96"),
        ("--bit-depth", 12, "bit_depth 8; 12"),
    ):
        refused = refusal(run("eval", "--category", "disc", *arguments, option, asked))
        assert f"is for the {about} is wanted" in refused
    message = "--epochs: got 3, which no checkpoint tells of itself"
    assert message in refusal(run("eval", "--category", "disc", *arguments, "--epochs", 3))
    assert run("eval", "--category", "disc", *arguments, "--bit-depth", 8, "--align", "off").exit_code == 0


QUICK = ("--method", "bank", "--image-size", "64")


@pytest.fixture
def in_this_process(monkeypatch):
    """Other processes would take their time to start; ``test_parallel`` has some."""
    monkeypatch.setattr(parallel, "run_many", lambda requests, workers: ((r, parallel.run_alone(r)) for r in requests))


@pytest.mark.usefixtures("in_this_process")
def test_several_seeds_of_all_categories_end_in_one_table(run, tiny_root, tmp_path):
    shutil.copytree(tiny_root / "disc", tiny_root / "plate")
    result = run("eval", "--category", "all", "--data", tiny_root, "--seeds", 2, *QUICK)
    assert result.exit_code == 0, result.output
    for category in ("disc", "plate"):
        assert f"{category} " in result.stdout
        assert len(list((tmp_path / "runs" / category).glob("0*"))) == 2
    assert "±" in result.stdout
    folder = tmp_path / "runs" / "all" / "001"
    summary = json.loads((folder / "summary.json").read_text())
    assert list(summary["table"]) == ["disc", "plate", "mean"]
    assert len(summary["runs"]) == 4
    assert (folder / "report.html").is_file()
    again = run("eval", "--category", "disc", "--data", tiny_root, "--seeds", 2, *QUICK, "--json")
    assert json.loads(again.stdout)["table"]["disc"] == summary["table"]["disc"]


@pytest.mark.usefixtures("in_this_process")
def test_a_category_that_cannot_be_evaluated_does_not_stop_the_others(run, tiny_root, tmp_path):
    shutil.copytree(tiny_root / "disc", tiny_root / "plate")
    (tiny_root / "plate" / "test" / "good" / "001.png").write_bytes(b"not a picture")
    result = run("eval", "--category", "all", "--data", tiny_root, *QUICK)
    assert "plate, seed 0:" in refusal(result)
    assert (tmp_path / "runs" / "disc" / "001" / "results.json").is_file()


def write_plates(root, bits):
    """Plates with grain, some with a faint dent, in files of 8 bits or of 16 of which so many are in use."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64] / 64
    for part, count in (("train/good", 8), ("test/good", 5), ("test/dent", 5)):
        for number in range(count):
            level = 0.42 + 0.1 * np.sin(9 * x) * np.cos(7 * y) + rng.normal(0, 0.004, (64, 64))
            row, column = rng.uniform(0.3, 0.7, 2)
            spot = np.exp(-((x - column) ** 2 + (y - row) ** 2) / 0.005)
            if part == "test/dent":
                level -= 0.06 * spot
                mask = (spot > 0.3).astype(np.uint8) * 255
                save(root / "plate/ground_truth/dent" / f"{number:03}_mask.png", mask)
            pixels = np.rint(level * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)
            save(root / "plate" / part / f"{number:03}.png", pixels)


def test_the_same_images_are_measured_alike_at_every_depth(run, tmp_path, monkeypatch):
    monkeypatch.setattr("sw_anomaly.methods.patch_bank.SAMPLED", 300)
    found = {}
    for bits in (8, 10):
        write_plates(tmp_path / str(bits), bits)
        data = ("--category", "plate", "--data", tmp_path / str(bits), "--out", tmp_path / f"runs{bits}")
        result = run("eval", *data, *QUICK, "--align", "off", "--json")
        assert result.exit_code == 0, result.output
        found[bits] = json.loads(result.stdout)["overall"]
    assert found[8]["image_auroc"] > 0.9
    for name, tolerance in (("image_auroc", 0.03), ("pixel_auroc", 0.02), ("pixel_ap", 0.05)):
        assert found[10][name] == pytest.approx(found[8][name], abs=tolerance)


def test_a_checkpoint_is_not_for_several_runs(run, tiny_root):
    arguments = ("--data", tiny_root, "--checkpoint", "some", "--seeds", 2)
    assert "--checkpoint: got one detector, want one per category and seed" in refusal(
        run("eval", "--category", "disc", *arguments)
    )


def test_known_defects_are_not_tested_on_and_the_checkpoint_is_not_taken_for_another_protocol(run, tiny_root, tmp_path):
    shown = run("eval", "--category", "disc", "--data", tiny_root, "--protocol", "supervised", "--defects", 1, "--json")
    assert shown.exit_code == 0, shown.output
    results = json.loads(shown.stdout)
    assert results["protocol"] == "supervised, 1 defective images of all types"
    assert sum(image["kind"] == "spot" for image in results["images"]) == 1
    assert sum(image["kind"] == "good" for image in results["images"]) == 2
    unsupervised = run("eval", "--category", "disc", "--data", tiny_root)
    assert "fitting a detector first" in unsupervised.stderr


def test_the_published_protocol_is_stamped(run, tiny_root, tmp_path):
    result = run("eval", "--category", "disc", "--data", tiny_root, "--protocol", "published")
    assert result.exit_code == 0, result.output
    assert "LEAKY" in result.stdout
    folder = tmp_path / "runs" / "disc" / "001"
    assert json.loads((folder / "results.json").read_text())["leaky"] is True
    assert "LEAKY" in (folder / "report.html").read_text()


def test_a_test_image_that_was_trained_on_is_refused(run, tiny_root):
    shutil.copy(tiny_root / "disc" / "train" / "good" / "003.png", tiny_root / "disc" / "test" / "good" / "009.png")
    message = refusal(run("eval", "--category", "disc", "--data", tiny_root))
    assert "1 test image that training would see, too: " in message
    assert "good/009.png (as 003.png)" in message


def test_another_rate_of_false_alarms_is_taken_without_fitting_again(run, tiny_root):
    method = ("--method", "bank")
    first = json.loads(run("eval", "--category", "disc", "--data", tiny_root, *method, "--json").stdout)
    other = run("eval", "--category", "disc", "--data", tiny_root, *method, "--false-alarms", 0.5, "--json")
    assert other.exit_code == 0, other.output
    assert "fitting" not in other.stderr
    found = json.loads(other.stdout)
    assert found["checkpoint"] == first["checkpoint"]
    assert found["image_threshold"] != first["image_threshold"]
    assert "held-out good images reach the threshold: at most" in found["promise"]
    strict = run("eval", "--category", "disc", "--data", tiny_root, *method, "--false-alarms", 0.02, "--json")
    assert "0 of 6 held-out good images" in strict.stderr
    assert "2 % takes 114 held-out images" in strict.stderr
    assert "--false-alarms: got 3, want a rate above 0" in refusal(
        run("eval", "--category", "disc", "--data", tiny_root, "--false-alarms", 3)
    )
