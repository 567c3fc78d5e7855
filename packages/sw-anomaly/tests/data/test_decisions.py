"""What people decided on images is read from the table that predict wrote, and nothing unclear is taken."""

import pytest

from sw_anomaly.data.decisions import read_decisions
from sw_models.errors import InputError


@pytest.fixture
def table(tmp_path, monkeypatch):
    """Writes a table beside two images; the command is given elsewhere."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("a.png", "=b.png"):
        (folder / name).write_bytes(b"")

    def write(text):
        (folder / "decisions.csv").write_text(text)
        return folder / "decisions.csv"

    return write


def test_paths_are_from_here_or_from_the_table_and_verdicts_in_any_case(table, tmp_path):
    rows = "folder/a.png,Defective\na.png,defective\n'=b.png,good\n"
    found = read_decisions(table("path,verdict\n" + rows.replace("a.png,defective\n", "")))
    assert [(one.path.name, one.kind, one.is_good) for one in found] == [
        ("a.png", "defective", False),
        ("=b.png", "good", True),
    ]
    assert (tmp_path / "folder" / "a.png").samefile(found[0].path)


def test_the_table_of_predict_is_taken_and_what_it_could_not_read_passed_over(table):
    text = """path,frame,score,verdict,heat_map,mask,error
a.png,,0.5,good,heat_maps/a.jpg,masks/a.png,
gone.png,,,,,,cannot be read
"""
    assert [one.kind for one in read_decisions(table(text))] == ["good"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,score\na.png,1\n", "got the columns path, score, want one path and one verdict"),
        ("path,verdict\na.png,bad\n", "line 2: got the verdict 'bad', want good or defective"),
        ("path,verdict\na.png,\n", "line 2: got the verdict '', want good or defective"),
        ("path,verdict\na.png,good\ngone.png,good\n", "line 3: gone.png is not a file"),
        ("path,verdict\n,good\n", "line 2: the path is not a file"),
        ("path,verdict\na.png,good\na.png,defective\n", "as good and as defective"),
        ("path,verdict,frame\na.png,good,3\n", "line 2: got a frame of a video, want an image"),
        ("path,verdict\n", "got no decision, want rows with a path and a verdict"),
        ("path,verdict\na.png\n", "line 2: got another number of cells"),
    ],
)
def test_what_is_not_clear_is_refused(table, text, message):
    with pytest.raises(InputError, match=message):
        read_decisions(table(text))


def test_a_table_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"gone\.csv cannot be read as a CSV file"):
        read_decisions(tmp_path / "gone.csv")
