import pytest

from sw_models.files import write_atomically


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
