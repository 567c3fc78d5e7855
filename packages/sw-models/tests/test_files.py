"""Files are whole or not there; a folder has one writer."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sw_models.errors import InputError
from sw_models.files import lock_folder, make_folder, remove_half_written, want_new_file, write_atomically


def test_a_failed_write_leaves_the_earlier_file_and_no_other(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, lambda file: file.write_text("good"))

    def fail(file):
        file.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, fail)
    assert path.read_text() == "good"
    assert list(tmp_path.iterdir()) == [path]


WRITER = """
import sys
from pathlib import Path
from sw_models.files import write_atomically
letter = sys.argv[2]
for _ in range(50):
    write_atomically(Path(sys.argv[1]), lambda file: file.write_text(letter * 100_000))
"""


def test_two_writers_of_one_file_never_fail_and_never_show_a_mixture(tmp_path):
    path = tmp_path / "file"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, path, letter]) for letter in "ab"]
    while any(writer.poll() is None for writer in writers):
        if path.exists():
            content = path.read_text()
            assert content in ("a" * 100_000, "b" * 100_000)
    assert [writer.returncode for writer in writers] == [0, 0]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_a_file_has_the_mode_that_the_umask_gives_whatever_its_writer_prefers(tmp_path, mask):
    def private(file):
        file.touch(0o600)
        file.write_text("content")

    before = os.umask(mask)
    try:
        write_atomically(tmp_path / "file", private)
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o666 & ~mask


def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path):
    kill = "import os, signal, sys\nfrom pathlib import Path\nfrom sw_models.files import write_atomically\n"
    kill += "write_atomically(Path(sys.argv[1]), lambda file: (file.touch(), os.kill(os.getpid(), signal.SIGKILL)))"
    subprocess.run([sys.executable, "-c", kill, tmp_path / "file"], check=False)
    (tmp_path / "other").touch()
    assert len(list(tmp_path.iterdir())) == 2
    remove_half_written(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_a_file_that_is_there_is_refused_and_so_is_one_without_a_folder(tmp_path):
    (tmp_path / "there").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("there", "link", "no/folder"):
        with pytest.raises(InputError, match=f"OUT: got .*{name}"):
            want_new_file("OUT", tmp_path / name)
    want_new_file("OUT", tmp_path / "new")


def test_a_folder_that_cannot_be_made_is_refused_in_one_line(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "unmounted")
    with pytest.raises(InputError, match="--out: got .*file"):
        make_folder("--out", tmp_path / "file")
    with pytest.raises(InputError, match="a link to .*unmounted, which is not there"):
        make_folder("--out", tmp_path / "link")
    make_folder("--out", tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


TRY = """
import sys
from pathlib import Path
from sw_models.files import lock_folder
with lock_folder(Path(sys.argv[1])):
    print("in")
"""


def test_a_locked_folder_says_who_is_there_and_is_open_again_afterwards(tmp_path):
    def other():
        return subprocess.run([sys.executable, "-c", TRY, tmp_path], capture_output=True, text=True, check=False)

    with lock_folder(tmp_path):
        refused = other()
        assert refused.returncode
        assert f"process {os.getpid()} on" in refused.stderr
    assert other().stdout == "in\n"
