"""Atomic writing: the old file stays until the new one is complete."""

import pytest

from sw_anomaly.files import write_atomically


def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(tmp_path):
    path = tmp_path / "results.json"
    write_atomically(path, lambda partial: partial.write_text("old"))

    def fail(partial):
        partial.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_replaces_the_old_file(tmp_path):
    path = tmp_path / "results.json"
    for text in ("old", "new"):
        write_atomically(path, lambda partial, text=text: partial.write_text(text))
    assert path.read_text() == "new"
