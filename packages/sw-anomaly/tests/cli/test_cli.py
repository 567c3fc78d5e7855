"""What all commands have in common."""

import shutil
import subprocess
import sys

import numpy as np

from conftest import refusal, save


def test_help_answers_without_loading_torch(run):
    code = (
        "import sys\nfrom sw_anomaly.cli import app\n"
        "try: app(['eval', '--help'])\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'timm', 'scipy'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "--category" in shown
    assert shown.endswith("[]\n")


def test_what_the_operating_system_refuses_is_one_line(run, tiny_root, tmp_path):
    (tmp_path / "taken").write_text("notes")
    (tmp_path / "unmounted").symlink_to(tmp_path / "nowhere")
    for out in ("taken", "unmounted"):
        for command in ("eval", "train"):
            assert out in refusal(run(command, "--category", "disc", "--data", tiny_root, "--out", out))
        assert out in refusal(run("check", tiny_root, "--out", out))
        assert out in refusal(run("sample", f"{out}/here"))
    assert (tmp_path / "taken").read_text() == "notes"


def test_a_full_disk_is_one_line_and_leaves_no_half_file(run, tiny_root, tmp_path, monkeypatch):
    import resource

    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # Python would rename half-written files into place
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))  # the manifest fits, the checkpoint does not
    try:
        result = run("train", "--category", "disc", "--data", tiny_root, "--method", "bank", "--image-size", 64)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    refusal(result)
    names = {path.name for path in (tmp_path / "runs" / "disc" / "001").iterdir()}
    assert names - {".lock"} == {"config.json", "manifest.json"}


def test_names_are_shown_as_they_are(run, tiny_root):
    disc = tiny_root / "disc"
    for old, new in (("spot", "bolt [m8]"), ("spot", "bolt [m10] :x:")):
        for part in ("test", "ground_truth"):
            shutil.copytree(disc / part / old, disc / part / new)
    for number in range(2):  # no two images may show the same
        save(disc / "test" / "bolt [m8]" / f"00{number}.png", np.full((64, 64, 3), number, dtype=np.uint8))
    shown = run("eval", "--category", "disc", "--data", tiny_root, "--method", "bank", "--image-size", 64)
    for name in ("bolt [m8]", "bolt [m10] :x:"):
        assert name in shown.stdout
